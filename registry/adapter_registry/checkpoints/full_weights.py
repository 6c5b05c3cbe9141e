"""Full parameters in an adapter file: the ones that are declared, and the ones that would overwrite the base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.modules import INPUT_EMBEDDING, OUTPUT_HEAD, Modules
from adapter_registry.checkpoints.selection import OTHER_BASE, RESAVE
from adapter_registry.domain.base import Tensor
from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import WEIGHTS

HEADS = {
    "SEQ_CLS": ("score", "classifier", "classification_head", "pre_classifier"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Task heads that PEFT saves by itself, by task type."""

_PACKED = ("U8", "I8", "I32", "U32", "I16")

DigestAs = Callable[[Key, str], str | None]
"""BLAKE3 of a tensor's values in another dtype; None when that would round them."""


def is_embedding(path: str) -> bool:
    """Whether a module is an input embedding or an output head, by its name."""
    return bool(INPUT_EMBEDDING.fullmatch(path) or OUTPUT_HEAD.fullmatch(path))


def ends_with(path: str, name: str) -> bool:
    """Whether a module at or above `path` is one that `modules_to_save` means by `name`.

    PEFT compares the ends of names, so `norm` also saves `input_layernorm`.
    """
    return f"{name}." in f"{path}."


def declared_by(path: str, config: AdapterConfig) -> str | None:
    """The entry of `modules_to_save`, or the task head, that a parameter of module `path` belongs to."""
    for name in (*config.modules_to_save, *HEADS.get(config.task_type or "", ())):
        if ends_with(path, name):
            return name
    if config.ensure_weight_tying and OUTPUT_HEAD.fullmatch(path):
        return next((name for name in config.modules_to_save if is_embedding(name)), None)
    return None


def resized(keys: Iterable[Key], modules: Modules) -> dict[str, tuple[int, ...]]:
    """Module -> shape, for each embedding or head saved with another number of rows than the base's."""
    found = {}
    for key in keys:
        if key.method or key.part != "weight" or not is_embedding(key.module):
            continue
        module = modules.find(key.module)
        shape = module.shape if module else None
        if shape and key.entry.shape[1:] == shape[1:] and key.entry.shape[:1] != shape[:1]:
            found[key.module] = key.entry.shape
    return found


def changed(keys: Iterable[Key], modules: Modules, digest_as: DigestAs) -> bool:
    """Whether any full parameter differs from the base's, or may do so."""
    for key in keys:
        if not key.method:
            base = in_base(key, modules)
            if base is None or base.shape != key.entry.shape or base.digest is None:
                return True
            if digest_as(key, base.dtype) != base.digest:
                return True
    return False


def in_base(key: Key, modules: Modules) -> Tensor | None:
    """The base's tensor that a full parameter stands for, if it has one; a tied head's is the embedding."""
    found = modules.tensors.get(f"{key.module}.{key.part}")
    if found is None and key.part == "weight":
        module = modules.find(key.module)
        return modules.tensors.get(module.weight) if module else None
    return found


def full_problems(
    keys: Sequence[Key], config: AdapterConfig, modules: Modules, adapted: set[str], digest_as: DigestAs
) -> Iterator[Problem]:
    """Everything wrong with the full parameters of an adapter."""
    grown = resized(keys, modules)
    for key in keys:
        if key.method:
            continue
        base = in_base(key, modules)
        if not key.base_layer and declared_by(key.module, config) is not None:
            yield from _declared_problems(key, base, modules, grown)
        elif key.part == "bias" and _bias_declared(key, config, adapted):
            yield from _bias_problems(key, base)
        elif base is not None and is_embedding(key.module) and key.part == "weight":
            yield from _embedding_problems(key, base, grown, digest_as)
        else:
            yield _overwrites(key, base)
    yield from _missing_problems(keys, config, modules)


def unread_notices(keys: Sequence[Key], config: AdapterConfig, modules: Modules) -> Iterator[Notice]:
    """Embeddings saved whole that could not be compared, as the base's bytes were never read."""
    for key in keys:
        if key.method or not is_embedding(key.module) or declared_by(key.module, config) is not None:
            continue
        base = in_base(key, modules)
        if base is not None and base.digest is None:
            text = "saved whole; it could not be compared with the base's, whose bytes were not read"
            yield Notice("embedding-not-compared", WEIGHTS, key.entry.name, text)


def _bias_declared(key: Key, config: AdapterConfig, adapted: set[str]) -> bool:
    return config.bias.endswith("all") or (config.bias.endswith("_only") and key.module in adapted)


def _bias_problems(key: Key, base: Tensor | None) -> Iterator[Problem]:
    if base is None:
        fix = "Remove it: PEFT would ignore it."
        yield Problem("foreign-tensor", WEIGHTS, key.entry.name, "a bias that the base has", "none there", fix)
    elif base.shape != key.entry.shape:
        yield _other_shape(key, base)


def _declared_problems(
    key: Key, base: Tensor | None, modules: Modules, grown: Mapping[str, tuple[int, ...]]
) -> Iterator[Problem]:
    if base is None:
        if key.module in modules.by_path and key.part != "bias":
            fix = "Remove it: PEFT would ignore it."
            found = f"no {key.part} in that module of the base"
            yield Problem("foreign-tensor", WEIGHTS, key.entry.name, "a parameter that the base has", found, fix)
    elif base.dtype in _PACKED and key.entry.dtype not in _PACKED:
        return
    elif base.shape != key.entry.shape and key.module not in grown and not _is_head(key.module):
        yield _other_shape(key, base)


def _is_head(path: str) -> bool:
    """Whether it is a task head, which has another size for each task."""
    return any(name in path.split(".") for names in HEADS.values() for name in names)


def _embedding_problems(
    key: Key, base: Tensor, grown: Mapping[str, tuple[int, ...]], digest_as: DigestAs
) -> Iterator[Problem]:
    """PEFT saves a targeted or resized embedding whole; unless resized it must be the base's own, byte for byte."""
    if key.module in grown or base.digest is None:
        return
    if base.shape != key.entry.shape:
        yield _other_shape(key, base)
        return
    found = digest_as(key, base.dtype)
    if found == base.digest:
        return
    expected = "the locked base's own embedding, byte for byte, or an entry in modules_to_save"
    fix = "Declare it in modules_to_save if it was trained; otherwise save the adapter again."
    what = "other values"
    if key.entry.dtype != base.dtype:
        what = f"{key.entry.dtype} values that cannot be shown to be the base's {base.dtype} ones"
        fix = (
            "If it was not trained, save the adapter with save_embedding_layers=False, which leaves it out; if it was, "
            "declare it in modules_to_save."
        )
    yield Problem("would-overwrite-base", WEIGHTS, key.entry.name, expected, what, fix)


def _missing_problems(keys: Sequence[Key], config: AdapterConfig, modules: Modules) -> Iterator[Problem]:
    """Parameters of declared modules that the file lacks: PEFT stops at the first when it loads them."""
    if not config.modules_to_save:
        return
    there = {(key.module, key.part) for key in keys}
    for name, tensor in modules.tensors.items():
        path, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias") or (path, leaf) in there or tensor.dtype in _PACKED:
            continue
        if OUTPUT_HEAD.fullmatch(path) and modules.tied:
            continue
        if any(ends_with(path, text) for text in config.modules_to_save):
            fix = f"{RESAVE} Its modules_to_save names this module, and PEFT cannot load it without."
            yield Problem("missing-tensors", WEIGHTS, name, "the trained values of it", "none", fix)


def _overwrites(key: Key, base: Tensor | None) -> Problem:
    expected = "tensors of the declared method, or of modules in modules_to_save"
    if base is not None:
        found = f"a full {list(key.entry.shape)} that PEFT would write over the base's {base.name}"
    else:
        found = "a tensor that belongs to no declared part"
    fix = "Remove it, or declare its module in modules_to_save if it was trained."
    if any(f".{part}." in f".{key.path}." for part in ("lora_A", "lora_B", "modules_to_save", "original_module")):
        found = "a name as it is inside a live model, with the adapter's own name in it"
        fix = "Save with save_pretrained, or take the adapter's name out of the tensors' names."
    return Problem("would-overwrite-base", WEIGHTS, key.entry.name, expected, found, fix)


def _other_shape(key: Key, base: Tensor) -> Problem:
    expected = f"{list(base.shape)}, as in the base"
    return Problem("shape-mismatch", WEIGHTS, key.entry.name, expected, f"{list(key.entry.shape)}", OTHER_BASE)
