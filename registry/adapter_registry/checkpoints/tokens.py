"""Trained tokens: rows of an embedding that an adapter replaces, saved as one delta for each embedding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.modules import Modules
from adapter_registry.checkpoints.selection import RESAVE
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS


def token_problems(
    keys: Sequence[Key], config: AdapterConfig, modules: Modules, resized: Mapping[str, tuple[int, ...]]
) -> Iterator[Problem]:
    """Everything wrong with `trainable_token_indices` and the deltas they ask for."""
    declared = config.trainable_token_indices or {}
    deltas = [key for key in keys if key.part == "token_delta"]
    for key in deltas:
        yield from _delta_problems(key, declared, modules)
    for name, ids in declared.items():
        if not any(_is_named(key.module, name) for key in deltas):
            fix = f"{RESAVE} Its trainable_token_indices name this embedding, and PEFT cannot load it without."
            expected = "token_adapter.trainable_tokens_delta"
            yield Problem("missing-tensors", WEIGHTS, name or "the input embedding", expected, "none", fix)
        rows = _rows(name, modules, resized)
        if rows is not None and ids and max(ids) >= rows:
            fix = "Name the base it was trained on with --base, or save it with its resized embedding."
            field = "trainable_token_indices"
            yield Problem("wrong-dimension", CONFIG, field, f"token ids below {rows:,}", f"{max(ids):,}", fix)


def _delta_problems(key: Key, declared: Mapping[str, tuple[int, ...]], modules: Modules) -> Iterator[Problem]:
    counts = [len(ids) for name, ids in declared.items() if _is_named(key.module, name)]
    if not counts:
        fix = "Set trainable_token_indices, or remove it."
        yield Problem("not-targeted", WEIGHTS, key.entry.name, "no trained tokens of it", "a delta of some", fix)
        return
    module = modules.find(key.module)
    width = module.shape[1] if module and module.shape and len(module.shape) == 2 else key.entry.shape[-1]
    if key.entry.shape not in [(count, width) for count in counts]:
        want = f"{[counts[0], width]}: trained tokens by the base's width"
        yield Problem("shape-mismatch", WEIGHTS, key.entry.name, want, f"{list(key.entry.shape)}", RESAVE)


def _is_named(path: str, name: str) -> bool:
    return not name or path.endswith(name)


def _rows(name: str, modules: Modules, resized: Mapping[str, tuple[int, ...]]) -> int | None:
    grown = [shape[0] for path, shape in resized.items() if _is_named(path, name)]
    if grown:
        return max(grown)
    module = modules.input_embedding()
    if name:
        module = next((m for path, m in modules.by_path.items() if path.endswith(name) and m.shape), None)
    return module.shape[0] if module and module.shape else None
