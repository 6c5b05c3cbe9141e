"""Events: one append-only, hash-chained line per attempt, refusals included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from adapter_registry.domain.digest import Digest, of_json

GENESIS = Digest("sha256:" + "0" * 64)


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """What an attempt was, before it has a place in the log.

    Attributes:
        action: `push`, `promote`, `rollback`, `tag.set`, `base.add`, ... (`scope.action` where a scope helps).
        subject: what it was about: `namespace/name@v3`, a base, a stage.
        outcome: done or refused.
        actor: who asked.
        at: when, ISO 8601 in UTC.
        detail: values that a reader needs to understand it; JSON types only.
    """

    action: str
    subject: str
    outcome: Outcome
    actor: str
    at: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """An Entry in its place: order is by `sequence`, never by time.

    Attributes:
        sequence: 1, 2, ... without gaps.
        entry: what happened.
        previous: `digest` of the event before; GENESIS for the first.
        digest: over sequence, previous and entry: changing any earlier event changes every later digest.
    """

    sequence: int
    entry: Entry
    previous: Digest
    digest: Digest


def chained(entry: Entry, *, sequence: int, previous: Digest) -> Event:
    """`entry` as the event that follows `previous`."""
    digest = of_json({"sequence": sequence, "previous": previous, "entry": asdict(entry)})
    return Event(sequence, entry, previous, digest)


def broken_link(events: Iterable[Event]) -> int | None:
    """The sequence of the first event that does not follow from the one before it; None when all do."""
    previous, expected = GENESIS, 1
    for event in events:
        if event.sequence != expected or event != chained(event.entry, sequence=expected, previous=previous):
            return event.sequence
        previous, expected = event.digest, expected + 1
    return None
