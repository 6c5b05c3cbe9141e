"""Rows of adapters, Versions, files, tags and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    union,
    union_all,
    update,
)

from adapter_registry.domain.adapter import Description, Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.versioning import precedence
from adapter_registry.domain.views.listing import AdapterLine, Order, Wanted
from adapter_registry.storage.rows import batches, from_text, insert_missing, to_text, upsert
from adapter_registry.storage.tables import (
    adapter_totals,
    adapters,
    bases,
    blobs,
    labels,
    promotions,
    stages,
    tags,
    version_files,
    version_parents,
    versions,
)
from adapter_registry.storage.totals import count_in, count_out
from adapter_registry.storage.version_rows import AROUND, AROUND_ONE, id_of, in_scopes, row_of_adapter, version_of

MOST_POINTERS = 100
SEMVERS = 100
"""Looked up at once, for a range: the first that fits is near the highest as a rule."""

_COLUMNS = (
    versions.c.id,
    adapters.c.name.label("adapter"),
    versions.c.number,
    versions.c.semver,
    versions.c.digest,
    versions.c.base,
    versions.c.base_name,
    versions.c.description,
    versions.c.message,
    versions.c.created_by,
    versions.c.created_at,
    versions.c.revoked_because,
    versions.c.lineage,
)


# Statements that every pull needs, made once: making one takes longer than SQLite takes to answer it.
_VERSIONS: Select[Any] = (
    select(*_COLUMNS)
    .join(adapters, adapters.c.id == versions.c.adapter_id)
    .where(versions.c.removed_at.is_(None))
    .order_by(versions.c.number.desc())
)
_SPELLED = select(adapters.c.name).where(adapters.c.folded == bindparam("wanted_folded"))

# One adapter's id first: a planner that has no statistics yet might begin with every tag of that name.
_ADAPTER = select(adapters.c.id).where(adapters.c.name == bindparam("wanted_adapter")).scalar_subquery()


def _pointed_to(table: Table, name: ColumnElement[str]) -> Select[Any]:
    return select(table.c.version_id).where(table.c.adapter_id == _ADAPTER, name == bindparam("wanted_name"))


_BY_TAG, _BY_STAGE = _pointed_to(tags, tags.c.name), _pointed_to(stages, stages.c.stage)
_TAGGED = _VERSIONS.where(versions.c.id.in_(_BY_TAG))
_STAGED = _VERSIONS.where(versions.c.id.in_(_BY_STAGE))
NAMED = _VERSIONS.add_columns(adapters.c.created_at.label("adapter_created_at")).where(
    versions.c.id.in_(union_all(_BY_TAG, _BY_STAGE))
)


# Looked up for each pointer: joined, SQLite reads all that ever moved.
_SINCE = (
    select(promotions.c.at)
    .where(
        promotions.c.adapter_id == stages.c.adapter_id,
        promotions.c.stage == stages.c.stage,
        promotions.c.sequence == stages.c.sequence,
    )
    .scalar_subquery()
)
_OTHERS = versions.alias()
_THERE = select(_OTHERS.c.id).where(_OTHERS.c.removed_at.is_(None))


class VersionTable:
    """See ports.VersionRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def adapters(
        self, wanted: Wanted | None = None, *, after: str = "", limit: int | None = None
    ) -> tuple[AdapterLine, ...]:
        """See ports.VersionRows.adapters."""
        kept = self._newest(wanted or Wanted(), after, limit).subquery()
        count = select(adapter_totals.c.versions).where(adapter_totals.c.adapter_id == kept.c.adapter_id)
        size = select(func.sum(version_files.c.size)).where(version_files.c.version_id == kept.c.newest)
        query = (
            select(*_COLUMNS, count.scalar_subquery().label("versions"), size.scalar_subquery().label("size"))
            .select_from(kept)
            .join(versions, versions.c.id == kept.c.newest)
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .order_by(adapters.c.name if (wanted or Wanted()).order is Order.NAME else versions.c.id.desc())
        )
        rows = self._connection.execute(query).all()
        pointers = self._pointers([row.adapter for row in rows])
        return tuple(_line(row, pointers[row.adapter]) for row in rows)

    def _newest(self, wanted: Wanted, after: str, limit: int | None) -> Select[Any]:
        """(adapter id, id of its newest version) of the adapters wanted. The newest is looked up for each adapter.

        Grouping all versions by their adapter would read every one of them for each page of the list.
        """
        newest = _THERE.where(_OTHERS.c.adapter_id == adapters.c.id).with_only_columns(func.max(_OTHERS.c.id))
        named = select(adapters.c.id.label("adapter_id"), adapters.c.name, newest.scalar_subquery().label("newest"))
        named = named.where(in_scopes(wanted.scopes))
        if wanted.search:
            named = named.where(adapters.c.folded.contains(wanted.search.casefold(), autoescape=True))
        if wanted.stage:
            named = named.where(adapters.c.id.in_(select(stages.c.adapter_id).where(stages.c.stage == wanted.stage)))
        if wanted.order is Order.NAME:
            named = named.where(adapters.c.name > after)
        found = named.subquery()
        query = select(found.c.adapter_id, found.c.newest).where(found.c.newest.is_not(None)).limit(limit)
        if wanted.base:
            query = query.join(versions, versions.c.id == found.c.newest).where(versions.c.base == wanted.base)
        if wanted.order is Order.NAME:
            return query.order_by(found.c.name)
        query = query.where(found.c.newest < int(after)) if after.isdigit() else query
        return query.order_by(found.c.newest.desc())

    def spelled(self, adapter: str) -> str | None:
        """See ports.VersionRows.spelled."""
        return self._connection.execute(_SPELLED, {"wanted_folded": adapter.casefold()}).scalar()

    def names_near(self, adapter: str) -> tuple[str, ...]:
        """See ports.VersionRows.names_near."""
        namespace = adapter.partition("/")[0]
        query = select(adapters.c.name).where(adapters.c.name.startswith(f"{namespace}/", autoescape=True))
        return tuple(self._connection.execute(query.order_by(adapters.c.name).limit(1000)).scalars())

    def all_of(self, adapter: str, *, before: int | None = None, limit: int | None = None) -> tuple[Version, ...]:
        """See ports.VersionRows.all_of."""
        below = () if before is None else (versions.c.number < before,)
        return self._versions(versions.c.adapter_id == row_of_adapter(adapter), *below, limit=limit)

    def numbered(self, adapter: str, number: int) -> Version | None:
        """The version `v<number>`."""
        return self._one(adapters.c.name == adapter, versions.c.number == number)

    def labelled(self, adapter: str, semver: str) -> Version | None:
        """The version with this semantic version label."""
        return self._one(adapters.c.name == adapter, versions.c.semver == semver)

    def with_digest(self, adapter: str, digest: str) -> Version | None:
        """See ports.VersionRows.with_digest."""
        text = digest if digest.startswith("sha256:") else f"sha256:{digest}"
        same = versions.c.digest == text if len(text) == 71 else versions.c.digest.startswith(text, autoescape=True)
        return self._one(adapters.c.name == adapter, same)

    def with_digests(self, digests: Sequence[Digest]) -> tuple[Version, ...]:
        """See ports.VersionRows.with_digests."""
        found = (self._versions(versions.c.digest.in_(some)) for some in batches(list(digests)))
        return tuple(version for some in found for version in some)

    def made_from(self, digests: Sequence[Digest], *, limit: int) -> tuple[Version, ...]:
        """See ports.VersionRows.made_from."""
        of = select(versions.c.id).where(versions.c.digest.in_(digests))
        children = select(version_parents.c.version_id).where(version_parents.c.parent_id.in_(of))
        query = _VERSIONS.where(versions.c.id.in_(children)).order_by(None).order_by(versions.c.id.desc()).limit(limit)
        return self._whole(self._connection.execute(query).all())

    def arrived(self, arrivals: Sequence[int]) -> dict[int, Version]:
        """See ports.VersionRows.arrived."""
        rows = [
            row
            for some in batches(list(arrivals))
            for row in self._connection.execute(_VERSIONS.where(versions.c.id.in_(some)))
        ]
        return dict(zip((row.id for row in rows), self._whole(rows), strict=True))

    def tagged(self, adapter: str, tag: str) -> Version | None:
        """The version a tag points to."""
        return self._pointed(_TAGGED, adapter, tag)

    def staged(self, adapter: str, stage: str) -> Version | None:
        """The version a stage points to."""
        return self._pointed(_STAGED, adapter, stage)

    def named(self, adapter: str, name: str) -> Version | None:
        """See ports.VersionRows.named."""
        return self._pointed(NAMED, adapter, name)

    def _pointed(self, query: Select[Any], adapter: str, name: str) -> Version | None:
        found = self._whole(self._connection.execute(query, {"wanted_adapter": adapter, "wanted_name": name}).all())
        return found[0] if found else None

    def semvers(self, adapter: str) -> Iterator[str]:
        """See ports.VersionRows.semvers."""
        order = (versions.c.precedence.desc(), versions.c.number.desc())
        there = (versions.c.removed_at.is_(None), versions.c.revoked_at.is_(None))
        mine = versions.c.adapter_id == row_of_adapter(adapter)
        query = select(versions.c.semver, versions.c.precedence, versions.c.number).where(mine, *there)
        query = query.order_by(*order).limit(SEMVERS)
        rows = self._connection.execute(query).all()
        while rows:
            yield from (row.semver for row in rows)
            place = tuple_(literal(rows[-1].precedence), literal(rows[-1].number))
            below = tuple_(versions.c.precedence, versions.c.number) < place
            rows = self._connection.execute(query.where(below)).all() if len(rows) == SEMVERS else []

    def pointers(self, adapter: str) -> tuple[str, ...]:
        """See ports.VersionRows.pointers."""
        here = select(adapters.c.id).where(adapters.c.name == adapter).scalar_subquery()
        names = union(
            select(tags.c.name).where(tags.c.adapter_id == here),
            select(stages.c.stage).where(stages.c.adapter_id == here),
        )
        return tuple(sorted(self._connection.execute(names.limit(MOST_POINTERS)).scalars()))

    def latest(self, adapter: str) -> Version | None:
        """The newest version that was not removed."""
        newest = _THERE.where(_OTHERS.c.adapter_id == row_of_adapter(adapter)).with_only_columns(func.max(_OTHERS.c.id))
        return self._one(versions.c.id == newest.scalar_subquery())

    def used(self, adapter: str) -> tuple[int, str | None]:
        """See ports.VersionRows.used."""
        mine = versions.c.adapter_id == row_of_adapter(adapter)
        number = self._connection.execute(select(func.max(versions.c.number)).where(mine)).scalar() or 0
        highest = select(versions.c.semver).where(mine).order_by(versions.c.precedence.desc()).limit(1)
        return number, self._connection.execute(highest).scalar()

    def given(self, adapter: str, semver: str) -> bool:
        """See ports.VersionRows.given."""
        here = (versions.c.adapter_id == row_of_adapter(adapter), versions.c.semver == semver)
        return self._connection.execute(select(versions.c.id).where(*here)).scalar() is not None

    def add(self, version: Version, *, manifest: bytes) -> None:
        """See ports.VersionRows.add."""
        adapter_id = self._adapter_id(version.adapter) or self._create(version)
        row = {
            "adapter_id": adapter_id,
            "number": version.number,
            "semver": version.semver,
            "precedence": precedence(version.semver),
            "digest": version.digest,
            "base": version.base,
            "base_name": version.base_name,
            "manifest": manifest.decode(),
            "description": to_text(version.description),
            "message": version.message,
            "created_by": version.created_by,
            "created_at": version.created_at,
            "lineage": to_text(version.lineage) if version.lineage else None,
        }
        version_id = self._connection.execute(insert(versions).values(row).returning(versions.c.id)).scalar_one()
        insert_missing(self._connection, blobs, [{"digest": f.digest, "size": f.size} for f in version.files])
        files = [{"version_id": version_id, "path": f.path, "size": f.size, "digest": f.digest} for f in version.files]
        self._connection.execute(insert(version_files), files)
        self.set_labels(version, dict(version.labels))
        count_in(self._connection, adapter_id, version)

    def remove(self, version: Version, *, by: str, at: str) -> None:
        """See ports.VersionRows.remove."""
        version_id = id_of(self._connection, version)
        [stored] = self._versions(versions.c.id == version_id)
        count_out(self._connection, self._adapter_id(version.adapter) or 0, stored)
        self._connection.execute(delete(version_files).where(version_files.c.version_id == version_id))
        self._connection.execute(delete(labels).where(labels.c.version_id == version_id))
        gone = update(versions).where(versions.c.id == version_id)
        self._connection.execute(gone.values(removed_by=by, removed_at=at))

    def revoke(self, version: Version, *, because: str, by: str, at: str) -> None:
        """See ports.VersionRows.revoke."""
        gone = update(versions).where(versions.c.id == id_of(self._connection, version))
        self._connection.execute(gone.values(revoked_by=by, revoked_at=at, revoked_because=because))

    def set_tag(self, version: Version, tag: str, *, by: str, at: str) -> None:
        """Point `tag` at `version`, wherever it pointed before."""
        row = {
            "adapter_id": self._adapter_id(version.adapter),
            "name": tag,
            "version_id": id_of(self._connection, version),
        }
        upsert(self._connection, tags, {**row, "moved_by": by, "moved_at": at})

    def remove_tag(self, adapter: str, tag: str) -> bool:
        """Remove `tag`; whether it was there."""
        gone = delete(tags).where(tags.c.adapter_id == self._adapter_id(adapter), tags.c.name == tag)
        return self._connection.execute(gone).rowcount > 0

    def set_labels(self, version: Version, labels_: dict[str, str | None]) -> None:
        """See ports.VersionRows.set_labels."""
        version_id = id_of(self._connection, version)
        for key, value in labels_.items():
            if value is None:
                here = (labels.c.version_id == version_id) & (labels.c.key == key)
                self._connection.execute(delete(labels).where(here))
            else:
                upsert(self._connection, labels, {"version_id": version_id, "key": key, "value": value})

    def locked_to(self, base: Digest) -> int:
        """See ports.VersionRows.locked_to."""
        return self._connection.execute(select(bases.c.locked).where(bases.c.digest == base)).scalar() or 0

    def _adapter_id(self, adapter: str) -> int | None:
        return self._connection.execute(select(adapters.c.id).where(adapters.c.name == adapter)).scalar()

    def _create(self, version: Version) -> int:
        row = {"name": version.adapter, "folded": version.adapter.casefold()}
        created = {"created_by": version.created_by, "created_at": version.created_at}
        statement = insert(adapters).values({**row, **created}).returning(adapters.c.id)
        return int(self._connection.execute(statement).scalar_one())

    def _one(self, *conditions: ColumnElement[bool]) -> Version | None:
        found = self._versions(*conditions)
        return found[0] if found else None

    def _versions(self, *conditions: ColumnElement[bool], limit: int | None = None) -> tuple[Version, ...]:
        query = _VERSIONS.where(*conditions).limit(limit)
        return self._whole(self._connection.execute(query).all())

    def _whole(self, rows: Sequence[Any]) -> tuple[Version, ...]:
        """Versions with what belongs to them, fetched together for all of them."""
        around: defaultdict[int, list[Any]] = defaultdict(list)
        for some in batches([row.id for row in rows]):
            one = len(some) == 1
            query, given = (AROUND_ONE, {"id": some[0]}) if one else (AROUND, {"ids": some})
            for found in self._connection.execute(query, given):
                around[found[0]].append(found)
        return tuple(version_of(row, around[row.id]) for row in rows)

    def _pointers(self, names: list[str]) -> defaultdict[str, dict[str, tuple[int, str]]]:
        found: defaultdict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
        for some in batches(names):
            query = (
                select(adapters.c.name, stages.c.stage, versions.c.number, _SINCE)
                .select_from(stages)
                .join(adapters, adapters.c.id == stages.c.adapter_id)
                .join(versions, versions.c.id == stages.c.version_id)
                .where(adapters.c.name.in_(some))
            )
            for name, stage, number, at in self._connection.execute(query):
                found[name][stage] = (number, at)
        return found


def _line(row: Any, pointers: dict[str, tuple[int, str]]) -> AdapterLine:
    description = from_text(row.description, Description)
    return AdapterLine(
        adapter=row.adapter,
        versions=row.versions,
        latest=row.number,
        semver=row.semver,
        method=description.method,
        rank=description.rank,
        base=row.base,
        base_name=row.base_name,
        size=int(row.size),
        pushed_at=row.created_at,
        stages={stage: number for stage, (number, _) in pointers.items()},
        since={stage: at for stage, (_, at) in pointers.items()},
        arrival=row.id,
        flags=(*(("revoked",) if row.revoked_because is not None else ()), *description.flags),
    )
