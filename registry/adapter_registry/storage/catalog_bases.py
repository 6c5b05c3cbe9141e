"""Rows of Bases, their names and declared equivalences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, func, select, tuple_, update

from adapter_registry.domain.base import Base, RegisteredBase, Tensor, files_root
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.lock import Equivalence
from adapter_registry.storage.rows import from_text, insert_missing, to_text, upsert
from adapter_registry.storage.tables import base_names, bases, equivalences, stored_bases


class BaseTable:
    """See ports.BaseRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, base: Base, *, name: str, by: str, at: str) -> None:
        """See ports.BaseRows.add."""
        insert_missing(self._connection, bases, [_row(base.digest, base)])
        row = {"name": name, "digest": base.digest, "added_by": by, "added_at": at}
        insert_missing(self._connection, base_names, [row])

    def learn(self, digest: Digest, read: Base) -> None:
        """See ports.BaseRows.learn."""
        known = self.get(digest)
        if known is not None:
            told = replace(known, root=read.root, tensors=read.tensors, spot=read.spot, tokenizer=known.tokenizer)
            self._connection.execute(update(bases).where(bases.c.digest == digest).values(_row(digest, told)))

    def get(self, digest: Digest) -> Base | None:
        """See ports.BaseRows.get."""
        row = self._connection.execute(
            select(bases.c.document, bases.c.tensors).where(bases.c.digest == digest)
        ).one_or_none()
        if row is None:
            return None
        return replace(from_text(row.document, Base), tensors=from_text(row.tensors, tuple[Tensor, ...]))

    def names(
        self, *, search: str = "", after: Sequence[str] = (), limit: int | None = None
    ) -> tuple[RegisteredBase, ...]:
        """See ports.BaseRows.names."""
        order = (base_names.c.name, base_names.c.added_at, base_names.c.digest)
        query: Select[Any] = (
            select(base_names, bases.c.document, bases.c.tensor_count)
            .join(bases, bases.c.digest == base_names.c.digest)
            .order_by(*order)
            .limit(limit)
        )
        if search:
            query = query.where(func.lower(base_names.c.name).contains(search.lower(), autoescape=True))
        if after:
            query = query.where(tuple_(*order) > tuple_(*after))
        served = self._served()
        return tuple(
            RegisteredBase(
                row.name,
                from_text(row.document, Base),
                row.tensor_count,
                row.added_by,
                row.added_at,
                tuple(served.get(row.digest, ())),
            )
            for row in self._connection.execute(query)
        )

    def _served(self) -> dict[Digest, list[str]]:
        """Digest -> the ids under which its stored bytes are served."""
        found: dict[Digest, list[str]] = {}
        query = select(stored_bases.c.base, stored_bases.c.name).order_by(stored_bases.c.name)
        for row in self._connection.execute(query):
            found.setdefault(row.base, []).append(row.name)
        return found

    def with_weights_of(self, base: Base) -> tuple[Digest, ...]:
        """See ports.BaseRows.with_weights_of."""
        same = bases.c.files_root == files_root(base.files)
        if base.root is not None:
            same = same | (bases.c.root == base.root)
        return tuple(self._connection.execute(select(bases.c.digest).where(same).order_by(bases.c.digest)).scalars())

    def declare(self, equivalence: Equivalence) -> None:
        """See ports.BaseRows.declare."""
        upsert(
            self._connection,
            equivalences,
            {
                "base": equivalence.base,
                "other": equivalence.other,
                "because": equivalence.because,
                "declared_by": equivalence.declared_by,
                "declared_at": equivalence.declared_at,
            },
        )

    def equivalences(self, digest: Digest) -> tuple[Equivalence, ...]:
        """See ports.BaseRows.equivalences."""
        rows = self._connection.execute(select(equivalences).where(equivalences.c.base == digest))
        return tuple(Equivalence(row.base, row.other, row.because, row.declared_by, row.declared_at) for row in rows)


def _row(digest: Digest, base: Base) -> dict[str, Any]:
    return {
        "digest": digest,
        "root": base.root,
        "files_root": files_root(base.files),
        "document": to_text(replace(base, tensors=())),
        "tensors": to_text(base.tensors),
        "tensor_count": len(base.tensors),
    }
