"""Rows of audit events and blobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_, delete, func, insert, null, select, union, union_all
from sqlalchemy.sql.selectable import SelectBase

from adapter_registry.domain.audit.event import GENESIS, Entry, Event, chained
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.views.usage import Used
from adapter_registry.storage.catalog_webhooks import WebhookTable
from adapter_registry.storage.rows import from_text, to_text
from adapter_registry.storage.tables import adapters, blobs, events, scores, stored_base_files, version_files, versions
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
        return tuple(
            Event(row.sequence, from_text(row.entry, Entry), row.previous, row.digest)
            for row in self._connection.execute(query)
        )

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

    def used(self, scopes: Sequence[str]) -> tuple[tuple[Used, ...], int]:
        """See ports.BlobRows.used."""
        joined = version_files.join(versions, versions.c.id == version_files.c.version_id)
        joined = joined.join(adapters, adapters.c.id == versions.c.adapter_id)
        there = and_(versions.c.removed_at.is_(None), in_scopes(scopes))
        size = func.max(version_files.c.size)
        once = (
            select(versions.c.adapter_id, version_files.c.digest, size.label("size"), func.count().label("times"))
            .select_from(joined)
            .where(there)
            .group_by(versions.c.adapter_id, version_files.c.digest)
            .cte()
        )
        # One walk over the files answers both: what each adapter has, and what all of them share (under no adapter).
        one = select(func.max(once.c.size).label("size")).group_by(once.c.digest).subquery()
        pushed = func.sum(once.c.size * once.c.times)
        each = select(once.c.adapter_id, pushed, func.sum(once.c.size)).group_by(once.c.adapter_id)
        rows = self._connection.execute(union_all(each, select(null(), null(), func.sum(one.c.size)))).all()
        bytes_of = {adapter: (int(sent or 0), int(kept or 0)) for adapter, sent, kept in rows}
        counted = (
            select(adapters.c.id, adapters.c.name, func.count())
            .join(versions, versions.c.adapter_id == adapters.c.id)
            .where(there)
            .group_by(adapters.c.id, adapters.c.name)
        )
        lines = self._connection.execute(counted).all()
        return tuple(Used(name, count, *bytes_of.get(key, (0, 0))) for key, name, count in lines), bytes_of[None][1]
