"""Verification: a version that stays in a stage for long has to be found good again from time to time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

WARNED = 0.1
"""The share of the time, at its end, in which it is said that it ends."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Since when what a stage points to counts as good.

    Attributes:
        adapter: `namespace/name`.
        place: the stage, or a lane of one.
        sequence: which move of it.
        number: of the Version.
        at: when the stage moved there, or it was last found good since, ISO 8601 in UTC.
    """

    adapter: str
    place: str
    sequence: int
    number: int
    at: str


@dataclass(frozen=True, slots=True)
class Due:
    """What has to be verified again soon, or should have been. It is served all the same: time is no outage.

    Attributes:
        adapter: `namespace/name`.
        stage: or a lane of one.
        number: of the Version.
        verified_at: when it was last found good.
        due_at: until when that holds.
        overdue: whether that is over.
        blockers: what stands in the way of finding it good again; empty when nothing does.
    """

    adapter: str
    stage: str
    number: int
    verified_at: str
    due_at: str
    overdue: bool
    blockers: tuple[str, ...] = ()

    def __str__(self) -> str:
        until = self.due_at[:10]
        text = f"{self.adapter}@v{self.number} in {self.stage} was last verified on {self.verified_at[:10]}"
        said = f"OVERDUE: {text}, which held until {until}" if self.overdue else f"{text}, which holds until {until}"
        why = f"; {'; '.join(self.blockers)}" if self.blockers else ""
        return f"{said}{why}. Run: adapters reverify {self.adapter} {self.stage}"


def due(known: Verified, every_seconds: int, *, now: str) -> Due | None:
    """Whether it is, at a moment: None while more than WARNED of the time is left."""
    begun = datetime.fromisoformat(known.at)
    ends, moment = begun + timedelta(seconds=every_seconds), datetime.fromisoformat(now)
    if moment < ends - timedelta(seconds=every_seconds * WARNED):
        return None
    until = ends.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Due(known.adapter, known.place, known.number, known.at, until, overdue=moment >= ends)
