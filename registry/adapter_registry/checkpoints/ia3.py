"""IA3's vectors against its config and the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.modules import Modules
from adapter_registry.checkpoints.selection import OTHER_BASE, selection_problems
from adapter_registry.checkpoints.targets import Targets
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import WEIGHTS

PART = "ia3_l"


def ia3_problems(keys: Sequence[Key], config: AdapterConfig, targets: Targets, modules: Modules) -> Iterator[Problem]:
    """Everything wrong with the vectors: a row for what a layer reads, a column for what it writes."""
    vectors = [key for key in keys if key.part == PART]
    there = {key.module for key in vectors}
    yield from selection_problems(there, config, targets, modules, parts=PART)
    for key in vectors:
        module = modules.find(key.module)
        if module is None or module.shape is None:
            continue
        reads, writes = (module.shape[0], module.shape[1]) if modules.conv1d else (module.shape[1], module.shape[0])
        allowed = [(1, reads)] if _is_feedforward(key.module, config, targets) else [(writes, 1)]
        if config.feedforward_modules is None and targets.modules is None:
            allowed = [(1, reads), (writes, 1)]
        if len(module.shape) > 2:
            allowed = [(1, reads), (1, writes), (writes, 1)]
        if key.entry.shape[:2] not in allowed or set(key.entry.shape[2:]) > {1}:
            want = f"ia3_l {list(allowed[0])} for a weight {list(module.shape)}"
            found = f"{list(key.entry.shape)}"
            yield Problem("shape-mismatch", WEIGHTS, key.module, want, found, OTHER_BASE)


def _is_feedforward(path: str, config: AdapterConfig, targets: Targets) -> bool:
    names = config.feedforward_modules
    return path in targets.feedforward or (isinstance(names, tuple) and any(path.endswith(name) for name in names))
