"""The banner over a version that has to be verified again: said on standard error, and nothing stops because of it."""

from __future__ import annotations

from collections.abc import Sequence

from adapter_cli.output import note
from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.promotions.verification import Due


def due_of(registry: Registry, version: Version) -> tuple[Due, ...]:
    """Which of the stages that a version is in have to verify it again soon, or should have.

    A server that cannot say, because it is older, is no reason to fail: what was asked for is the version.
    """
    try:
        found = registry.due(version.adapter) if version.stages else ()
    except RegistryError as error:
        note(f"whether {version.reference} has to be verified again is not known: {error.text}")
        return ()
    return tuple(each for each in found if each.number == version.number)


def print_due(found: Sequence[Due]) -> None:
    """A line for each."""
    for each in found:
        note(str(each))
