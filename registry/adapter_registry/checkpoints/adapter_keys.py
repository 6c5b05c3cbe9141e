"""Names of an adapter's tensors: which module each belongs to and what part it plays there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from adapter_registry.checkpoints.header import TensorEntry

WRAPPER = "base_model.model."

_LORA = re.compile(
    r"(?P<path>.+?)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_A\.bias|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?|token_adapter\.trainable_tokens_delta|ia3_l)"
)
_FULL = re.compile(r"(?P<path>.+?)(?P<base>\.base_layer)?\.(?P<part>weight|bias|[A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Key:
    """One tensor's name, taken apart.

    Attributes:
        entry: the tensor.
        path: live path of the module it belongs to.
        part: `lora_A`, `lora_B`, `lora_B.bias`, `lora_embedding_A`, `lora_magnitude_vector`, `token_delta`, `ia3_l`
            for parts of a method; `weight`, `bias` or another leaf for a full parameter.
        method: whether it is part of a method.
        base_layer: whether it names the base's own parameter under an adapted layer.
    """

    entry: TensorEntry
    path: str
    part: str
    method: bool
    base_layer: bool = False


def read_keys(entries: Iterable[TensorEntry]) -> tuple[list[Key], list[TensorEntry]]:
    """(keys, entries whose names do not begin as PEFT's do)."""
    keys, foreign = [], []
    for entry in entries:
        if entry.name.startswith(WRAPPER):
            keys.append(_key(entry, entry.name.removeprefix(WRAPPER)))
        else:
            foreign.append(entry)
    return keys, foreign


def _key(entry: TensorEntry, name: str) -> Key:
    found = _LORA.fullmatch(name)
    if found:
        part = found["part"].removesuffix(".weight")
        part = "token_delta" if part.startswith("token_adapter") else part
        # Several parameters of one module are adapted by wrapping it again, which shows as `.base_layer` in the path.
        return Key(entry, found["path"], part, method=True)
    full = _FULL.fullmatch(name)
    if full is None:
        return Key(entry, name, "", method=False)
    return Key(entry, full["path"], full["part"], method=False, base_layer=bool(full["base"]))
