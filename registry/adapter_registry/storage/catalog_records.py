"""Rows of audit events and blobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, or_, select, union, union_all
from sqlalchemy.sql.selectable import SelectBase

from adapter_registry.domain.audit.event import GENESIS, Entry, Event, chained
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.views.usage import Used, UsedInAll
from adapter_registry.storage.catalog_webhooks import WebhookTable
from adapter_registry.storage.rows import from_text, to_text
from adapter_registry.storage.tables import (
    adapter_totals,
    adapters,
    blobs,
    events,
    scores,
    stored_base_files,
    version_files,
)
from adapter_registry.storage.totals import miscounted, recount
from adapter_registry.storage.version_rows import in_scopes

BATCH = 10_000
"""Digests of one question: SQLite takes 32,766 values at once, PostgreSQL 65,535."""


class EventTable:
    """See ports.events.EventRows; `appended` is what this transaction added."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.appended: list[Entry] = []

    def append(self, entry: Entry) -> Event:
        """The entry as the next event, and a delivery to each webhook that is to be told of it.

        Two writers cannot take the same place (unique `previous`).
        """
        newest = select(events.c.sequence, events.c.digest).order_by(events.c.sequence.desc()).limit(1)
        last = self._connection.execute(newest).one_or_none()
        sequence, previous = (last.sequence + 1, last.digest) if last else (1, GENESIS)
        event = chained(entry, sequence=sequence, previous=previous)
        row = {"sequence": sequence, "subject": entry.subject, "entry": to_text(entry)}
        self._connection.execute(insert(events), [{**row, "previous": previous, "digest": event.digest}])
        WebhookTable(self._connection).told(event)
        self.appended.append(entry)
        return event

    def _about(self, subject: str) -> SelectBase:
        """Sequences of what is about it or its versions: two looks into an index, where OR would read the whole log."""
        exact = select(events.c.sequence).where(events.c.subject == subject)
        if "@" in subject:
            return exact
        within = events.c.subject.between(f"{subject}@", f"{subject}@~")  # SQLite uses no index for LIKE
        begins = events.c.subject.startswith(f"{subject}@", autoescape=True)
        sqlite = self._connection.dialect.name == "sqlite"
        return union_all(exact, select(events.c.sequence).where(within if sqlite else begins))

    def newest(self) -> int:
        """See ports.events.EventRows.newest."""
        return self._connection.execute(select(func.max(events.c.sequence))).scalar() or 0

    def all(self, *, subject: str | None = None, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        """See ports.events.EventRows.all."""
        query = select(events).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
        if subject is not None:
            query = query.where(events.c.sequence.in_(self._about(subject)))
        return self._whole(query)

    def backwards(
        self, *, subject: str = "", words: Iterable[str] = (), before: int, after: int = 0, limit: int
    ) -> tuple[Event, ...]:
        """See ports.events.EventRows.backwards."""
        within = (events.c.sequence < before, events.c.sequence > after)
        query = select(events).where(*within).order_by(events.c.sequence.desc()).limit(limit)
        if subject:
            query = query.where(events.c.sequence.in_(self._about(subject)))
        for word in words:
            query = query.where(events.c.entry.contains(to_text(word).rstrip('"'), autoescape=True))
        return self._whole(query)

    def attempts(self, subjects: Sequence[str], *, limit: int) -> tuple[Event, ...]:
        """See ports.events.EventRows.attempts."""
        about = select(events.c.sequence).where(events.c.subject.in_(subjects))
        newest = about.order_by(events.c.sequence.desc()).limit(limit)
        begins = (events.c.entry.startswith(f'{{"action":"{action}') for action in ("promote", "request."))
        query = select(events).where(events.c.sequence.in_(newest), or_(*begins))
        return self._whole(query.order_by(events.c.sequence.desc()))

    def _whole(self, query: Select[Any]) -> tuple[Event, ...]:
        return tuple(
            Event(row.sequence, from_text(row.entry, Entry), row.previous, row.digest)
            for row in self._connection.execute(query)
        )


class BlobTable:
    """See ports.BlobRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def known(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of `digests` that have a row."""
        wanted, found = sorted(set(digests)), set[Digest]()
        for start in range(0, len(wanted), BATCH):
            query = select(blobs.c.digest).where(blobs.c.digest.in_(wanted[start : start + BATCH]))
            found.update(self._connection.execute(query).scalars())
        return frozenset(found)

    def referenced(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """See ports.BlobRows.referenced."""
        wanted = list(digests)
        used = (
            select(column).where(column.in_(wanted))
            for column in (version_files.c.digest, stored_base_files.c.digest, scores.c.outcomes)
        )
        return frozenset(self._connection.execute(union(*used)).scalars())

    def unreferenced(self) -> tuple[Digest, ...]:
        """Blobs that no version, no stored base and no score refers to."""
        kept = select(scores.c.outcomes).where(scores.c.outcomes.is_not(None))
        used = union(select(version_files.c.digest), select(stored_base_files.c.digest), kept)
        return tuple(self._connection.execute(select(blobs.c.digest).where(blobs.c.digest.not_in(used))).scalars())

    def forget(self, digest: Digest) -> None:
        """Delete the row of an unreferenced blob."""
        self._connection.execute(delete(blobs).where(blobs.c.digest == digest))

    def each(self) -> tuple[tuple[Digest, int], ...]:
        """See ports.BlobRows.each."""
        query = select(blobs.c.digest, blobs.c.size).order_by(blobs.c.digest)
        return tuple((row.digest, row.size) for row in self._connection.execute(query))

    def used(self, scopes: Sequence[str], *, after: str = "", limit: int | None = None) -> tuple[Used, ...]:
        """See ports.BlobRows.used."""
        query = _totals(scopes, adapters.c.name, *adapter_totals.c).order_by(*_MOST_FIRST).limit(limit)
        if after:
            pushed, _, name = after.partition(" ")
            same = and_(adapter_totals.c.pushed == int(pushed), adapters.c.name > name)
            query = query.where(or_(adapter_totals.c.pushed < int(pushed), same))
        return tuple(
            Used(row.name, row.versions, int(row.pushed), int(row.stored)) for row in self._connection.execute(query)
        )

    def used_in_all(self, scopes: Sequence[str]) -> UsedInAll:
        """See ports.BlobRows.used_in_all."""
        totals = adapter_totals.c
        query = _totals(scopes, func.count(), func.sum(totals.pushed), func.sum(totals.stored))
        return UsedInAll(*(int(each or 0) for each in self._connection.execute(query).one()))

    def miscounted(self) -> tuple[str, ...]:
        """See ports.BlobRows.miscounted."""
        return miscounted(self._connection)

    def recount(self) -> None:
        """See ports.BlobRows.recount."""
        recount(self._connection)


_MOST_FIRST = (adapter_totals.c.pushed.desc(), adapters.c.name)


def _totals(scopes: Sequence[str], *columns: ColumnElement[Any]) -> Select[Any]:
    """Of adapters in one of these scopes that have versions."""
    query = select(*columns).join_from(adapter_totals, adapters, adapters.c.id == adapter_totals.c.adapter_id)
    return query.where(adapter_totals.c.versions > 0, in_scopes(scopes))
