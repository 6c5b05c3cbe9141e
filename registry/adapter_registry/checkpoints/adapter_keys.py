"""Names of an adapter's tensors: which module each belongs to and what part it plays there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from adapter_registry.checkpoints.header import TensorEntry

WRAPPER = "base_model.model."
PROMPT_WRAPPER = "base_model."
"""Prompt methods wrap the model once; their task heads are named by this."""

_METHOD = re.compile(
    r"(?P<path>.+?)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_A\.bias|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?|token_adapter\.trainable_tokens_delta|ia3_l"
    r"|lora_diag|lora_velora_embed|lora_monteclora_sampler\.[A-Za-z_]+|lora_arrow\.[A-Za-z_.]+)"
)
_FULL = re.compile(r"(?P<path>.+?)(?P<base>(?:\.token_adapter)?\.base_layer)?\.(?P<part>[A-Za-z_][A-Za-z0-9_]*)")

EXTENSION_PARTS = {
    "lora_diag": "kasa",
    "lora_velora_embed": "velora",
    "lora_monteclora_sampler": "monteclora",
    "lora_arrow": "arrow",
}
"""First component of a part -> the LoRA variant that has it."""


@dataclass(frozen=True, slots=True)
class Key:
    """One tensor's name, taken apart.

    Attributes:
        entry: the tensor.
        path: live path of the module it belongs to; a second adapted parameter of it shows as `.base_layer` in it.
        part: `lora_A`, `lora_B.bias`, `lora_embedding_A`, `lora_magnitude_vector`, `token_delta`, `ia3_l` and so on for
            parts of a method; `weight`, `bias` or another leaf for a full parameter.
        method: whether it is part of a method.
        base_layer: whether it names the base's own parameter under an adapted layer.
    """

    entry: TensorEntry
    path: str
    part: str
    method: bool
    base_layer: bool = False

    @property
    def module(self) -> str:
        """Live path of the module, without wrappers."""
        return module_path(self.path)


def module_path(path: str) -> str:
    """A path without the `.base_layer` wrappers that PEFT puts into it."""
    return ".".join(part for part in path.split(".") if part != "base_layer") if ".base_layer" in path else path


def read_keys(entries: Iterable[TensorEntry], wrapper: str = WRAPPER) -> tuple[list[Key], list[TensorEntry]]:
    """(keys, entries whose names do not begin as PEFT's do)."""
    keys, foreign = [], []
    for entry in entries:
        if entry.name.startswith(wrapper):
            keys.append(_key(entry, entry.name.removeprefix(wrapper)))
        else:
            foreign.append(entry)
    return keys, foreign


def _key(entry: TensorEntry, name: str) -> Key:
    found = _METHOD.fullmatch(name)
    if found:
        part = found["part"].removesuffix(".weight")
        return Key(entry, found["path"], "token_delta" if part.startswith("token_adapter") else part, method=True)
    full = _FULL.fullmatch(name)
    if full is None:
        return Key(entry, name, "", method=False)
    return Key(entry, full["path"], full["part"], method=False, base_layer=bool(full["base"]))
