"""Carry a recipe out here and now: check, gather, compute in a limited child, publish."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter_registry.checkpoints.confined import Limits
from adapter_registry.client import Registry
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Recipe, check_recipe
from adapter_registry.jobs.computing import Ears, Task, computed
from adapter_registry.jobs.kind import INPUTS, OUT, Kind


def run_here(
    registry: Registry,
    kind: Kind,
    recipe: Recipe,
    scratch: Path,
    report: Callable[[Progress], None],
    *,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What the work made, see `Kind.publish`.

    Args:
        registry: where inputs come from and the result goes.
        kind: of the work.
        recipe: what to do; references may be any.
        scratch: a folder that is made, and removed at the end, see `fresh_scratch`.
        report: told how far it is.
        say: told each line that the child prints.
    """
    exact = kind.check(registry, check_recipe(recipe))
    settings = registry.settings
    limits = Limits(settings.job_memory, settings.job_seconds)
    try:
        (scratch / INPUTS).mkdir(parents=True)
        (scratch / OUT).mkdir()
        kind.gather(registry, exact, scratch)
        outcome = computed(Task(kind, exact, scratch), limits, Ears(report, say))
        return kind.publish(registry, exact, scratch, outcome)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fresh_scratch(registry: Registry) -> Path:
    """A folder that is not there yet, where this machine's jobs work."""
    return registry.settings.scratch / f"here-{secrets.token_hex(6)}"
