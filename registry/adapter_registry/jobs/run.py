"""Carry a recipe out here and now: check, gather, compute in a limited child, publish."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Recipe, check_recipe
from adapter_registry.jobs.computing import Ears, Limits, Task, computed
from adapter_registry.jobs.kind import INPUTS, OUT, Kind


def run_here(
    registry: Registry,
    kind: Kind,
    recipe: Recipe,
    scratch: Path,
    report: Callable[[Progress], None],
    *,
    limits: Limits,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What the work made, see `Kind.publish`.

    Args:
        registry: where inputs come from and the result goes.
        kind: of the work.
        recipe: what to do; references may be any.
        scratch: a folder that is made, and removed at the end.
        report: told how far it is.
        limits: of the child.
        say: told each line that the child prints.
    """
    exact = kind.check(registry, check_recipe(recipe))
    try:
        (scratch / INPUTS).mkdir(parents=True)
        (scratch / OUT).mkdir()
        kind.gather(registry, exact, scratch)
        outcome = computed(Task(kind, exact, scratch), limits, Ears(report, say))
        return kind.publish(registry, exact, scratch, outcome)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
