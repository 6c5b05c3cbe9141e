"""Rows of the Bases whose bytes are stored, and of the ids they are served under."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.stored_base import StoredBase
from adapter_registry.storage.rows import insert_missing
from adapter_registry.storage.tables import (
    adapters,
    blobs,
    namespaces,
    stored_base_files,
    stored_base_names,
    stored_bases,
)


class StoredBaseTable:
    """See stored_base.StoredBaseRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, stored: StoredBase) -> None:
        """See stored_base.StoredBaseRows.add."""
        row = {
            "base": stored.base,
            "commit": stored.commit,
            "model_type": stored.model_type,
            "stored_by": stored.stored_by,
            "stored_at": stored.stored_at,
        }
        files = [{"base": stored.base, "path": f.path, "size": f.size, "digest": f.digest} for f in stored.files]
        names = [{"name": name, "base": stored.base, "folded": name.casefold()} for name in stored.names]
        insert_missing(self._connection, blobs, [{"digest": f.digest, "size": f.size} for f in stored.files])
        insert_missing(self._connection, stored_bases, [row])
        insert_missing(self._connection, stored_base_files, files)
        insert_missing(self._connection, stored_base_names, names)

    def get(self, base: Digest) -> StoredBase | None:
        """See stored_base.StoredBaseRows.get."""
        return next(iter(self._read(select(stored_bases).where(stored_bases.c.base == base))), None)

    def named(self, name: str) -> tuple[StoredBase, ...]:
        """See stored_base.StoredBaseRows.named."""
        query = (
            select(stored_bases)
            .join(stored_base_names, stored_base_names.c.base == stored_bases.c.base)
            .where(stored_base_names.c.name == name)
            .order_by(stored_bases.c.stored_at.desc(), stored_bases.c.base)
        )
        return self._read(query)

    def spelled(self, name: str) -> str | None:
        """See stored_base.StoredBaseRows.spelled."""
        query = select(stored_base_names.c.name).where(stored_base_names.c.folded == name.casefold())
        return self._connection.execute(query.limit(1)).scalar()

    def listed(self, *, after: str = "", limit: int | None = None) -> tuple[tuple[str, StoredBase], ...]:
        """See stored_base.StoredBaseRows.listed."""
        wanted = (
            select(stored_base_names.c.name)
            .where(stored_base_names.c.name > after)
            .distinct()
            .order_by(stored_base_names.c.name)
            .limit(limit)
        )
        query = (
            select(stored_base_names.c.name, stored_bases)
            .join(stored_bases, stored_bases.c.base == stored_base_names.c.base)
            .where(stored_base_names.c.name.in_(wanted))
            .order_by(stored_base_names.c.name, stored_bases.c.stored_at.desc(), stored_bases.c.base)
        )
        found: dict[str, StoredBase] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.name, _stored(row, (row.name,), ()))
        return tuple(found.items())

    def all(self) -> tuple[StoredBase, ...]:
        """See stored_base.StoredBaseRows.all."""
        return self._read(select(stored_bases).order_by(stored_bases.c.stored_at, stored_bases.c.base))

    def remove(self, name: str, bases: Iterable[Digest]) -> None:
        """See stored_base.StoredBaseRows.remove."""
        of = stored_base_names.c.base
        for base in bases:
            self._connection.execute(delete(stored_base_names).where(stored_base_names.c.name == name, of == base))
            if self._connection.execute(select(of).where(of == base)).first() is None:
                self._connection.execute(delete(stored_base_files).where(stored_base_files.c.base == base))
                self._connection.execute(delete(stored_bases).where(stored_bases.c.base == base))

    def local_namespace(self, namespace: str) -> bool:
        """See stored_base.StoredBaseRows.local_namespace."""
        folded = namespace.casefold()
        adapter = select(adapters.c.id).where(adapters.c.folded.startswith(f"{folded}/", autoescape=True)).limit(1)
        settings = select(namespaces.c.name).where(func.lower(namespaces.c.name) == folded)
        return any(self._connection.execute(query).first() is not None for query in (adapter, settings))

    def _read(self, query: Select[Any]) -> tuple[StoredBase, ...]:
        rows = self._connection.execute(query).all()
        names = self._names([row.base for row in rows])
        return tuple(_stored(row, names.get(row.base, ()), self._files(row.base)) for row in rows)

    def _names(self, bases: Iterable[Digest]) -> dict[Digest, tuple[str, ...]]:
        query = select(stored_base_names).where(stored_base_names.c.base.in_(list(bases)))
        found: dict[Digest, tuple[str, ...]] = {}
        for row in self._connection.execute(query.order_by(stored_base_names.c.name)):
            found[row.base] = (*found.get(row.base, ()), row.name)
        return found

    def _files(self, base: Digest) -> tuple[File, ...]:
        query = select(stored_base_files).where(stored_base_files.c.base == base).order_by(stored_base_files.c.path)
        return tuple(File(row.path, row.size, row.digest) for row in self._connection.execute(query))


def _stored(row: Any, names: tuple[str, ...], files: tuple[File, ...]) -> StoredBase:
    return StoredBase(row.base, names, row.commit, row.model_type, files, row.stored_by, row.stored_at)
