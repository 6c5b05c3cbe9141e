"""Full parameters in an adapter file: the ones that are declared, and the ones that would overwrite the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.lora import WEIGHTS, module_path
from adapter_registry.checkpoints.modules import INPUT_EMBEDDING, OUTPUT_HEAD, Modules
from adapter_registry.domain.base import Tensor
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft import AdapterConfig

HEADS = {
    "SEQ_CLS": ("score", "classifier", "classification_head", "pre_classifier"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Task heads that PEFT saves by itself, by task type."""

DigestAs = Callable[[Key, str], str | None]


def is_embedding(path: str) -> bool:
    """Whether a module is an input embedding or an output head, by its name."""
    return bool(INPUT_EMBEDDING.fullmatch(path) or OUTPUT_HEAD.fullmatch(path))


def declared_by(path: str, config: AdapterConfig) -> str | None:
    """The entry of `modules_to_save`, or the task head, that a parameter of module `path` belongs to."""
    for name in (*config.modules_to_save, *HEADS.get(config.task_type or "", ())):
        # PEFT compares the ends of names, so `norm` also saves `input_layernorm`.
        parts = path.split(".")
        if any(".".join(parts[: i + 1]).endswith(name) for i in range(len(parts))):
            return name
    return None


def resized(key: Key, modules: Modules) -> bool:
    """Whether a saved embedding or head has another number of rows than the base's."""
    if not is_embedding(key.path) or key.part != "weight":
        return False
    module = modules.find(key.path)
    shape = module.shape if module else None
    return bool(shape and key.entry.shape[1:] == shape[1:] and key.entry.shape[:1] != shape[:1])


def full_problems(
    keys: list[Key], config: AdapterConfig, modules: Modules, adapted: set[str], digest_as: DigestAs
) -> Iterator[Problem]:
    """Everything wrong with the full parameters of an adapter."""
    for key in keys:
        if key.method:
            continue
        base = _in_base(key, modules)
        if declared_by(key.path, config) is not None or (key.part == "bias" and _bias_declared(key, config, adapted)):
            yield from _declared_problems(key, base, modules)
        elif is_embedding(key.path) and key.part == "weight":
            yield from _embedding_problems(key, base, modules, digest_as)
        else:
            yield _overwrites(key, base)


def _in_base(key: Key, modules: Modules) -> Tensor | None:
    found = modules.tensors.get(f"{key.path}.{key.part}")
    if found is None and key.part == "weight":
        module = modules.find(module_path(key.path))
        return modules.tensors.get(module.weight) if module else None
    return found


def _bias_declared(key: Key, config: AdapterConfig, adapted: set[str]) -> bool:
    return config.bias == "all" or (config.bias == "lora_only" and key.path in adapted)


def _declared_problems(key: Key, base: Tensor | None, modules: Modules) -> Iterator[Problem]:
    if base is None or base.shape == key.entry.shape or resized(key, modules):
        return
    if base.dtype in ("U8", "I8", "I32") or any(head in key.path for head in ("score", "classifier", "qa_outputs")):
        return
    fix = "Name the base it was trained on with --base."
    yield Problem(
        "shape-mismatch",
        WEIGHTS,
        key.entry.name,
        f"{list(base.shape)}, as in the base",
        f"{list(key.entry.shape)}",
        fix,
    )


def _embedding_problems(key: Key, base: Tensor | None, modules: Modules, digest_as: DigestAs) -> Iterator[Problem]:
    """PEFT saves a targeted or resized embedding whole; unless resized it must be the base's own, byte for byte."""
    if base is None or resized(key, modules):
        return
    if base.shape != key.entry.shape:
        yield from _declared_problems(key, base, modules)
        return
    found = digest_as(key, base.dtype) if base.digest else None
    if base.digest and found != base.digest:
        yield Problem(
            "would-overwrite-base",
            WEIGHTS,
            key.entry.name,
            "the locked base's own embedding, byte for byte, or an entry in modules_to_save",
            "other values",
            "Declare it in modules_to_save if it was trained; otherwise save the adapter again.",
        )


def _overwrites(key: Key, base: Tensor | None) -> Problem:
    if base is not None:
        found = f"a full {list(key.entry.shape)} that PEFT would write over the base's {base.name}"
    else:
        found = "a tensor that belongs to no declared part"
    fix = "Remove it, or declare its module in modules_to_save if it was trained."
    expected = "tensors of the declared method, or of modules in modules_to_save"
    return Problem("would-overwrite-base", WEIGHTS, key.entry.name, expected, found, fix)
