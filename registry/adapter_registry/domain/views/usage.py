"""Usage: how many bytes an adapter has in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Used:
    """Bytes of one adapter.

    Attributes:
        adapter: `namespace/name`.
        versions: how many it has, removed ones not counted.
        pushed: bytes of all files of all of them.
        stored: the same, each file's bytes counted once, however many versions have them.
    """

    adapter: str
    versions: int
    pushed: int
    stored: int
