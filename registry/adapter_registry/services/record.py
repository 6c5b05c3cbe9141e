"""The record: how stages moved, how policies changed, what was attempted. Nothing here writes."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_registry.domain.audit.event import GENESIS, Event, broken_link
from adapter_registry.domain.errors import BrokenChain
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.promotion import Promotion
from adapter_registry.domain.views.record import Chain, LogPage, MovePage, Revision, Sought
from adapter_registry.services.promote import moment

MOST = 200
BATCH = 1_000
LONGEST_SEARCH = 20_000
"""Rows that one question looks at; what lies beyond is the page after."""


def moves(
    backend: Backend,
    *,
    adapter: str | None = None,
    stage: str | None = None,
    at: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> MovePage:
    """Moves of stages, newest first, a page at a time, of the adapters that the caller sees.

    Args:
        backend: the registry.
        adapter: only of this one.
        stage: only of this stage, or this lane.
        at: as of this moment; a date alone means the end of that day, in UTC.
        before: the page after this one: `next` of the page before.
        limit: at most this many, and at most 200.
    """
    most, until = min(max(limit, 1), MOST), moment(at) if at else None
    found: list[tuple[int, Promotion]] = []
    with backend.catalog.reading() as tx:
        if stage is not None:
            tx.stages.ladder().check(stage)
        for _ in range(LONGEST_SEARCH // BATCH):
            wanted = BATCH if backend.asks.scopes != ("*",) else most + 1
            rows = tx.stages.moves(adapter=adapter, stage=stage, until=until, before=before, limit=wanted)
            found += [(key, each) for key, each in rows if backend.asks.sees(each.adapter)]
            before = rows[-1][0] if len(rows) == wanted else None
            if before is None or len(found) > most:
                break
    kept = found[:most]
    further = kept[-1][0] if len(found) > most else before
    return MovePage(tuple(each for _, each in kept), further)


def revisions(backend: Backend, *, stage: str) -> tuple[Revision, ...]:
    """Every revision of a stage's policy, newest first; none while it judges by the preset that it began with."""
    with backend.catalog.reading() as tx:
        return tx.stages.policies(tx.stages.ladder().whole(stage))


def log(
    backend: Backend,
    *,
    adapter: str | None = None,
    sought: Sought | None = None,
    before: int | None = None,
    limit: int = 50,
) -> LogPage:
    """The audit log, newest first, a page at a time.

    Args:
        backend: the registry.
        adapter: only what is about it or its versions.
        sought: what else is looked for.
        before: the page after this event: `next` of the page before.
        limit: at most this many, and at most 200.
    """
    most, wanted = min(max(limit, 1), MOST), _meant(sought or Sought())
    found: list[Event] = []
    with backend.catalog.reading() as tx:
        newest = _newest(tx)
        place = before if before is not None else (newest.sequence + 1 if newest else 1)
        about = wanted.subject if not adapter or wanted.subject.startswith(f"{adapter}@") else adapter
        floor = 0 if about else max(place - LONGEST_SEARCH - 1, 0)
        for _ in range(LONGEST_SEARCH // BATCH):
            rows = _rows(tx, about, wanted, floor, place)
            found += [event for event in rows if wanted.holds(event)]
            place = rows[-1].sequence if len(rows) == BATCH else floor + 1
            if place == floor + 1 or len(found) > most or (wanted.since and rows[-1].entry.at < wanted.since):
                break
        over = place == 1 or (wanted.since and _at(tx, place) < wanted.since)
    kept = tuple(found[:most])
    further = kept[-1].sequence if len(found) > most else (None if over else place)
    return LogPage(kept, further, place, newest)


def _newest(tx: Transaction) -> Event | None:
    return next(iter(tx.events.backwards(before=tx.events.newest() + 1, limit=1)), None)


def _at(tx: Transaction, place: int) -> str:
    """When the event before this place was; empty before the first."""
    return next((event.entry.at for event in tx.events.backwards(before=place, limit=1)), "")


def _rows(tx: Transaction, subject: str, wanted: Sought, after: int, before: int) -> tuple[Event, ...]:
    words = [word for word in (wanted.actor, wanted.action, wanted.outcome) if word]
    return tx.events.backwards(subject=subject, words=words, before=before, after=after, limit=BATCH)


def _meant(sought: Sought) -> Sought:
    since = sought.since if len(sought.since) <= len("2026-03-01") else moment(sought.since)
    if since:
        moment(since)
    until = moment(sought.until) if sought.until else ""
    return Sought(sought.actor, sought.action, sought.subject, sought.outcome, since, until)


def chain(backend: Backend) -> Chain:
    """Follow the whole audit log from its first event.

    Raises:
        BrokenChain: an event does not follow from the one before.
    """
    with backend.catalog.reading() as tx:
        broken, newest = broken_link(_whole(tx)), _newest(tx)
    if broken is not None:
        raise BrokenChain(
            f"event {broken:,} does not follow from the one before: it or an earlier one was changed, removed or "
            "moved. What stands before it is whole."
        )
    return Chain(newest.sequence, newest.digest) if newest else Chain(0, GENESIS)


def _whole(tx: Transaction) -> Iterator[Event]:
    """Every event, oldest first, a batch in memory at a time."""
    after = 0
    while events := tx.events.all(after=after, limit=BATCH):
        yield from events
        after = events[-1].sequence
