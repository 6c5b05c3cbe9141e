"""Rows of branches with their drafts, of who owns which bytes, and of uploads that are still in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.draft import Branch, Draft
from adapter_registry.domain.sketch import Sketch
from adapter_registry.storage.rows import from_text, insert_missing, to_text, upsert
from adapter_registry.storage.tables import adapters, branches, owned_blobs, staged_xorbs, version_files, versions
from adapter_registry.storage.tables_people import namespaces

# Asked by every pull of a Hub client; made once, because making them takes longer than answering them.
_CREATED = select(adapters.c.created_at).where(adapters.c.name == bindparam("wanted_adapter"))
_BRANCHES = (
    select(branches.c.name, versions.c.number, branches.c.draft)
    .select_from(branches)
    .outerjoin(versions, versions.c.id == branches.c.version_id)
    .where(
        branches.c.adapter_id
        == select(adapters.c.id).where(adapters.c.name == bindparam("wanted_adapter")).scalar_subquery()
    )
    .order_by(branches.c.name)
)


class BranchTable:
    """See ports.BranchRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_adapter(self, adapter: str, *, by: str, at: str) -> bool:
        """See ports.BranchRows.create_adapter."""
        if self._adapter_id(adapter) is not None:
            return False
        row = {"name": adapter, "folded": adapter.casefold(), "created_by": by, "created_at": at}
        insert_missing(self._connection, adapters, [row])
        return True

    def created_at(self, adapter: str) -> str | None:
        """See ports.BranchRows.created_at."""
        return self._connection.execute(_CREATED, {"wanted_adapter": adapter}).scalar()

    def of(self, adapter: str) -> tuple[Branch, ...]:
        """See ports.BranchRows.of."""
        rows = self._connection.execute(_BRANCHES, {"wanted_adapter": adapter})
        return tuple(_branch(row) for row in rows)

    def get(self, adapter: str, name: str) -> Branch | None:
        """See ports.BranchRows.get."""
        row = self._connection.execute(self._query(adapter).where(branches.c.name == name)).one_or_none()
        return _branch(row) if row else None

    def put(self, adapter: str, branch: Branch) -> None:
        """See ports.BranchRows.put."""
        adapter_id = self._adapter_id(adapter)
        number = select(versions.c.id).where(versions.c.adapter_id == adapter_id, versions.c.number == branch.number)
        row = {
            "adapter_id": adapter_id,
            "name": branch.name,
            "version_id": self._connection.execute(number).scalar() if branch.number else None,
            "draft": to_text(branch.draft) if branch.draft else None,
        }
        upsert(self._connection, branches, row)

    def remove(self, adapter: str, name: str) -> bool:
        """See ports.BranchRows.remove."""
        gone = delete(branches).where(branches.c.adapter_id == self._adapter_id(adapter), branches.c.name == name)
        return self._connection.execute(gone).rowcount > 0

    def own(self, namespace: str, digests: Iterable[Digest], *, at: str, sketch: Sketch | None = None) -> None:
        """See ports.BranchRows.own."""
        known = {"sketch": sketch} if sketch else {}
        for digest in sorted(set(digests)):
            upsert(self._connection, owned_blobs, {"namespace": namespace, "digest": digest, "at": at, **known})

    def sketched(self, sketches: Iterable[Sketch]) -> dict[Digest, Sketch]:
        """See ports.BranchRows.sketched."""
        query = select(owned_blobs.c.digest, owned_blobs.c.sketch).where(owned_blobs.c.sketch.in_(list(sketches)))
        return {row.digest: row.sketch for row in self._connection.execute(query)}

    def owned(self, namespace: str, digests: Iterable[Digest]) -> dict[Digest, str]:
        """See ports.BranchRows.owned."""
        query = select(owned_blobs.c.digest, owned_blobs.c.at).where(
            owned_blobs.c.namespace == namespace, owned_blobs.c.digest.in_(list(digests))
        )
        return {row.digest: row.at for row in self._connection.execute(query)}

    def reserved(self, digests: Iterable[Digest], *, since: str) -> frozenset[Digest]:
        """See ports.BranchRows.reserved."""
        wanted, found = list(digests), set[Digest]()
        for table in (owned_blobs, staged_xorbs):
            query = select(table.c.digest).where(table.c.digest.in_(wanted), table.c.at > since)
            found.update(self._connection.execute(query).scalars())
        return frozenset(found)

    def holders(self, digest: Digest) -> tuple[str, ...]:
        """See ports.BranchRows.holders."""
        query = (
            select(adapters.c.name)
            .join(versions, versions.c.adapter_id == adapters.c.id)
            .join(version_files, version_files.c.version_id == versions.c.id)
            .where(version_files.c.digest == digest)
            .distinct()
        )
        return tuple(self._connection.execute(query).scalars())

    def disown(self, digest: Digest) -> None:
        """See ports.BranchRows.disown."""
        self._connection.execute(delete(owned_blobs).where(owned_blobs.c.digest == digest))

    def drafted(self) -> frozenset[Digest]:
        """See ports.BranchRows.drafted."""
        query = select(branches.c.draft).where(branches.c.draft.is_not(None))
        drafts = (from_text(text, Draft) for text in self._connection.execute(query).scalars())
        return frozenset(file.digest for draft in drafts for file in draft.files)

    def default_base(self, namespace: str) -> Digest | None:
        """See ports.BranchRows.default_base."""
        query = select(namespaces.c.default_base).where(namespaces.c.name == namespace)
        return self._connection.execute(query).scalar()

    def set_default_base(self, namespace: str, base: Digest | None, *, by: str, at: str) -> None:
        """See ports.BranchRows.set_default_base."""
        upsert(self._connection, namespaces, {"name": namespace, "default_base": base, "set_by": by, "set_at": at})

    def stage_xorb(self, upload: str, xorb: str, digest: Digest, *, at: str) -> None:
        """See ports.BranchRows.stage_xorb."""
        insert_missing(self._connection, staged_xorbs, [{"upload": upload, "hash": xorb, "digest": digest, "at": at}])

    def staged_xorb(self, upload: str, xorb: str) -> Digest | None:
        """See ports.BranchRows.staged_xorb."""
        query = select(staged_xorbs.c.digest).where(staged_xorbs.c.upload == upload, staged_xorbs.c.hash == xorb)
        return self._connection.execute(query).scalar()

    def forget_xorbs(self, *, before: str) -> None:
        """See ports.BranchRows.forget_xorbs."""
        self._connection.execute(delete(staged_xorbs).where(staged_xorbs.c.at < before))

    def _adapter_id(self, adapter: str) -> int | None:
        return self._connection.execute(select(adapters.c.id).where(adapters.c.name == adapter)).scalar()

    def _query(self, adapter: str) -> Any:
        return (
            select(branches.c.name, branches.c.draft, versions.c.number)
            .join(adapters, adapters.c.id == branches.c.adapter_id)
            .outerjoin(versions, versions.c.id == branches.c.version_id)
            .where(adapters.c.name == adapter)
        )


def _branch(row: Any) -> Branch:
    return Branch(row.name, row.number, from_text(row.draft, Draft) if row.draft else None)
