"""Rows of the Bases whose bytes are stored, by the ids they are served under."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.stored_base import StoredBase
from adapter_registry.storage.rows import insert_missing
from adapter_registry.storage.tables import adapters, blobs, stored_base_files, stored_bases
from adapter_registry.storage.tables_people import namespaces


class StoredBaseTable:
    """See stored_base.StoredBaseRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, stored: StoredBase) -> None:
        """See stored_base.StoredBaseRows.add."""
        key = {"name": stored.name, "base": stored.base}
        row = {
            "folded": stored.name.casefold(),
            "commit": stored.commit,
            "model_type": stored.model_type,
            "stored_by": stored.stored_by,
            "stored_at": stored.stored_at,
        }
        files = [{**key, "path": f.path, "size": f.size, "digest": f.digest} for f in stored.files]
        insert_missing(self._connection, blobs, [{"digest": f.digest, "size": f.size} for f in stored.files])
        self._connection.execute(insert(stored_bases), [{**key, **row}])
        self._connection.execute(insert(stored_base_files), files)

    def of(self, base: Digest) -> tuple[StoredBase, ...]:
        """See stored_base.StoredBaseRows.of."""
        return self._read(_ALL.where(stored_bases.c.base == base).order_by(stored_bases.c.name))

    def named(self, name: str) -> tuple[StoredBase, ...]:
        """See stored_base.StoredBaseRows.named."""
        return self._read(_ALL.where(stored_bases.c.name == name).order_by(*_NEWEST_FIRST))

    def spelled(self, name: str) -> str | None:
        """See stored_base.StoredBaseRows.spelled."""
        query = select(stored_bases.c.name).where(stored_bases.c.folded == name.casefold()).limit(1)
        return self._connection.execute(query).scalar()

    def listed(self, *, after: str = "") -> tuple[StoredBase, ...]:
        """See stored_base.StoredBaseRows.listed."""
        query = _ALL.where(stored_bases.c.name > after).order_by(stored_bases.c.name, *_NEWEST_FIRST)
        found: dict[str, StoredBase] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.name, _stored(row, ()))
        return tuple(found.values())

    def all(self) -> tuple[StoredBase, ...]:
        """See stored_base.StoredBaseRows.all."""
        return self._read(_ALL.order_by(stored_bases.c.name, *_NEWEST_FIRST))

    def remove(self, stored: StoredBase) -> None:
        """See stored_base.StoredBaseRows.remove."""
        for table in (stored_base_files, stored_bases):
            gone = delete(table).where(table.c.name == stored.name, table.c.base == stored.base)
            self._connection.execute(gone)

    def local_namespace(self, namespace: str) -> bool:
        """See stored_base.StoredBaseRows.local_namespace."""
        folded = namespace.casefold()
        adapter = select(adapters.c.id).where(adapters.c.folded.startswith(f"{folded}/", autoescape=True)).limit(1)
        settings = select(namespaces.c.name).where(func.lower(namespaces.c.name) == folded)
        return any(self._connection.execute(query).first() is not None for query in (adapter, settings))

    def _read(self, query: Select[Any]) -> tuple[StoredBase, ...]:
        return tuple(_stored(row, self._files(row)) for row in self._connection.execute(query).all())

    def _files(self, row: Any) -> tuple[File, ...]:
        query = (
            select(stored_base_files)
            .where(stored_base_files.c.name == row.name, stored_base_files.c.base == row.base)
            .order_by(stored_base_files.c.path)
        )
        return tuple(File(file.path, file.size, file.digest) for file in self._connection.execute(query))


_ALL = select(stored_bases)
_NEWEST_FIRST = (stored_bases.c.stored_at.desc(), stored_bases.c.base)


def _stored(row: Any, files: tuple[File, ...]) -> StoredBase:
    return StoredBase(row.name, row.base, row.commit, row.model_type, files, row.stored_by, row.stored_at)
