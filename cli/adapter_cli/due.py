"""The banner over a version that has to be verified again: said on standard error, and nothing stops because of it."""

from __future__ import annotations

from collections.abc import Sequence

from adapter_cli.output import note
from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.verification import Due


def due_of(registry: Registry, version: Version) -> tuple[Due, ...]:
    """Which of the stages that a version is in have to verify it again soon, or should have."""
    found = registry.due(version.adapter) if version.stages else ()
    return tuple(each for each in found if each.number == version.number)


def print_due(found: Sequence[Due]) -> None:
    """A line for each."""
    for each in found:
        note(str(each))
