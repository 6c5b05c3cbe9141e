"""Rows of audit events and blobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, union

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.event import GENESIS, Entry, Event, chained
from adapter_registry.domain.usage import Used
from adapter_registry.storage.catalog_webhooks import WebhookTable
from adapter_registry.storage.rows import from_text, to_text
from adapter_registry.storage.tables import adapters, blobs, events, scores, stored_base_files, version_files, versions
from adapter_registry.storage.version_rows import in_scopes

BATCH = 10_000
"""Digests of one question: SQLite takes 32,766 values at once, PostgreSQL 65,535."""


class EventTable:
    """See ports.EventRows; `appended` is what this transaction added."""

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

    def newest(self) -> int:
        """See ports.EventRows.newest."""
        return self._connection.execute(select(func.max(events.c.sequence))).scalar() or 0

    def all(self, *, subject: str | None = None, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        """See ports.EventRows.all."""
        query = select(events).where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
        if subject is not None:
            about = events.c.subject.startswith(f"{subject}@", autoescape=True)
            query = query.where(or_(events.c.subject == subject, about))
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
        pushed = (
            select(adapters.c.name, func.count(versions.c.id.distinct()), func.sum(version_files.c.size))
            .select_from(joined)
            .where(there)
            .group_by(adapters.c.name)
        )
        files = select(adapters.c.name, version_files.c.digest, func.max(version_files.c.size).label("size"))
        once = files.select_from(joined).where(there).group_by(adapters.c.name, version_files.c.digest).subquery()
        each = select(once.c.name, func.sum(once.c.size)).group_by(once.c.name)
        whole = select(func.max(once.c.size).label("size")).group_by(once.c.digest).subquery()
        stored = {name: int(size) for name, size in self._connection.execute(each)}
        total = self._connection.execute(select(func.sum(whole.c.size))).scalar()
        rows = self._connection.execute(pushed)
        return tuple(Used(name, count, int(size), stored[name]) for name, count, size in rows), int(total or 0)
