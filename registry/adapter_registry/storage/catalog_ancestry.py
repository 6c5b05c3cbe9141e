"""Rows of what was made of what, and of withdrawn ancestors."""

from __future__ import annotations

from sqlalchemy import Connection, Select, literal, select, tuple_, union

from adapter_registry.domain.adapter import Version
from adapter_registry.storage.catalog_versions import VersionTable
from adapter_registry.storage.rows import batches, insert_missing
from adapter_registry.storage.tables import adapters, revoked_ancestors, version_parents, versions
from adapter_registry.storage.version_rows import id_of


class AncestryTable:
    """See ports.ancestry.AncestryRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def made(self, version: Version) -> None:
        """See ports.ancestry.AncestryRows.made."""
        parents = sorted({(p.adapter, p.number) for p in version.lineage.parents}) if version.lineage else []
        if not parents:
            return
        me = id_of(self._connection, version)
        named = select(versions.c.id).join(adapters, adapters.c.id == versions.c.adapter_id)
        ids: list[int] = []
        for some in batches(parents):
            here = tuple_(adapters.c.name, versions.c.number).in_(some)
            ids += self._connection.execute(named.where(here)).scalars()
        insert_missing(self._connection, version_parents, [{"version_id": me, "parent_id": each} for each in ids])
        self._marked([me], {mark for each in ids for mark in self._marks(each)})

    def descendants(self, version: Version) -> tuple[Version, ...]:
        """See ports.ancestry.AncestryRows.descendants."""
        table = VersionTable(self._connection)
        query = (
            select(adapters.c.name, versions.c.number)
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .where(versions.c.id.in_(self._below(version)), versions.c.removed_at.is_(None))
            .order_by(adapters.c.name, versions.c.number)
        )
        found = (table.numbered(row.name, row.number) for row in self._connection.execute(query).all())
        return tuple(each for each in found if each is not None)

    def mark(self, version: Version) -> tuple[Version, ...]:
        """See ports.ancestry.AncestryRows.mark."""
        below = [row.id for row in self._connection.execute(self._below(version))]
        self._marked(below, {version.reference})
        return self.descendants(version)

    def _below(self, version: Version) -> Select[tuple[int]]:
        """Ids of what was made of a version, directly or not."""
        first = select(version_parents.c.version_id.label("id")).where(
            version_parents.c.parent_id == literal(id_of(self._connection, version))
        )
        below = first.cte("below", recursive=True)
        further = select(version_parents.c.version_id).join(below, version_parents.c.parent_id == below.c.id)
        return select(below.union(further).c.id)

    def _marks(self, version_id: int) -> set[str]:
        """The marks that what is made of a version inherits: its own, and one of it when it is withdrawn."""
        own = select(revoked_ancestors.c.reference).where(revoked_ancestors.c.version_id == version_id)
        itself = (
            select(adapters.c.name + "@v" + versions.c.number.cast(revoked_ancestors.c.reference.type))
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .where(versions.c.id == version_id, versions.c.revoked_at.is_not(None))
        )
        return set(self._connection.execute(union(own, itself)).scalars())

    def _marked(self, ids: list[int], references: set[str]) -> None:
        rows = [{"version_id": each, "reference": reference} for each in ids for reference in sorted(references)]
        insert_missing(self._connection, revoked_ancestors, rows)
