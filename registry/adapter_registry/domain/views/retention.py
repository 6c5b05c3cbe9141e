"""Retention: what went because it was old, and what needs the rest."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.adapter import Version

KEEP = 5
"""How many of the newest versions stay however old they are."""
MOST_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Needed:
    """An old version that stays, and what needs it."""

    reference: str
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be, newest first; and what is as old and stays."""

    adapter: str
    removed: tuple[Version, ...]
    kept: tuple[Needed, ...]
