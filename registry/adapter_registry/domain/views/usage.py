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

    @property
    def place(self) -> str:
        """Where the line stands in the list that has most bytes first."""
        return f"{self.pushed} {self.adapter}"


@dataclass(frozen=True, slots=True)
class UsedInAll:
    """What the lines of adapters add up to: how many they are, and their bytes as in `Used`."""

    adapters: int
    pushed: int
    stored: int
