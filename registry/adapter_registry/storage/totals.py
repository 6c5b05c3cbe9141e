"""Totals that are kept with each version that comes and goes: no list has to add up all of them."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, Select, delete, func, insert, literal, select, update

from adapter_registry.domain.adapter import Version
from adapter_registry.storage.rows import batches, insert_missing, upsert
from adapter_registry.storage.tables import adapter_blobs, adapter_totals, adapters, bases, version_files, versions

_THERE = versions.c.removed_at.is_(None)
_BLOBS: Select[tuple[int, str, int, int]] = (
    select(versions.c.adapter_id, version_files.c.digest, func.max(version_files.c.size), func.count())
    .join(versions, versions.c.id == version_files.c.version_id)
    .where(_THERE)
    .group_by(versions.c.adapter_id, version_files.c.digest)
)
_LOCKED = select(func.count()).where(versions.c.base == bases.c.digest, _THERE).scalar_subquery()


def count_in(connection: Connection, adapter_id: int, version: Version) -> None:
    """A version is there from now on."""
    sizes, times = {f.digest: f.size for f in version.files}, Counter(f.digest for f in version.files)
    known = _times(connection, adapter_id, list(sizes))
    for digest, size in sizes.items():
        row = {"adapter_id": adapter_id, "digest": digest, "size": size}
        upsert(connection, adapter_blobs, {**row, "times": known.get(digest, 0) + times[digest]})
    fresh = sum(size for digest, size in sizes.items() if digest not in known)
    insert_missing(connection, adapter_totals, [{"adapter_id": adapter_id, "versions": 0, "pushed": 0, "stored": 0}])
    _add(connection, adapter_id, 1, sum(file.size for file in version.files), fresh)
    _lock(connection, version, 1)


def count_out(connection: Connection, adapter_id: int, version: Version) -> None:
    """A version, whose files are still known, is there no more."""
    times = Counter(f.digest for f in version.files)
    known, gone = _times(connection, adapter_id, list(times)), 0
    for digest, count in times.items():
        here = (adapter_blobs.c.adapter_id == adapter_id) & (adapter_blobs.c.digest == digest)
        if known.get(digest, 0) > count:
            connection.execute(update(adapter_blobs).where(here).values(times=adapter_blobs.c.times - count))
        else:
            gone += connection.execute(delete(adapter_blobs).where(here).returning(adapter_blobs.c.size)).scalar() or 0
    _add(connection, adapter_id, -1, -sum(file.size for file in version.files), -gone)
    _lock(connection, version, -1)


def _times(connection: Connection, adapter_id: int, digests: list[str]) -> dict[str, int]:
    """Digest -> how many files of the adapter's versions have these bytes; those that none has left out."""
    found: dict[str, int] = {}
    for some in batches(digests):
        query = select(adapter_blobs.c.digest, adapter_blobs.c.times).where(
            adapter_blobs.c.adapter_id == adapter_id, adapter_blobs.c.digest.in_(some)
        )
        found.update((digest, times) for digest, times in connection.execute(query))
    return found


def _add(connection: Connection, adapter_id: int, count: int, pushed: int, stored: int) -> None:
    kept = adapter_totals.c
    more = {"versions": kept.versions + count, "pushed": kept.pushed + pushed, "stored": kept.stored + stored}
    one = update(adapter_totals).where(kept.adapter_id == adapter_id)
    connection.execute(one.values(more))


def _lock(connection: Connection, version: Version, count: int) -> None:
    one = update(bases).where(bases.c.digest == version.base)
    connection.execute(one.values(locked=bases.c.locked + count))


def recount(connection: Connection) -> None:
    """Make all totals anew from the versions and files there are; reads every one."""
    connection.execute(delete(adapter_blobs))
    connection.execute(delete(adapter_totals))
    connection.execute(insert(adapter_blobs).from_select(["adapter_id", "digest", "size", "times"], _BLOBS))
    connection.execute(insert(adapter_totals).from_select(["adapter_id", "versions", "pushed", "stored"], _totals()))
    connection.execute(update(bases).values(locked=_LOCKED))


def _totals() -> Select[tuple[int, int, int, int]]:
    """(adapter id, versions, bytes pushed, bytes kept) as the versions and files say it."""
    once = _BLOBS.subquery()
    adapter_id, _, size, times = once.c
    pushed, stored = func.sum(size * times), func.sum(size)
    added = select(adapter_id.label("id"), pushed.label("pushed"), stored.label("stored")).group_by(adapter_id)
    files, zero = added.subquery(), literal(0)
    there = select(versions.c.adapter_id, func.count().label("versions")).where(_THERE)
    counted = there.group_by(versions.c.adapter_id).subquery()
    return select(
        counted.c.adapter_id,
        counted.c.versions,
        func.coalesce(files.c.pushed, zero),
        func.coalesce(files.c.stored, zero),
    ).outerjoin(files, files.c.id == counted.c.adapter_id)


def miscounted(connection: Connection) -> tuple[str, ...]:
    """Adapters and bases whose totals are not what their versions add up to, by name; reads every version."""
    kept = select(adapter_totals).where(adapter_totals.c.versions > 0)
    told = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(kept)}
    true = {row[0]: tuple(map(int, row[1:])) for row in connection.execute(_totals())}
    wrong = [key for key in told.keys() | true.keys() if told.get(key) != true.get(key)]
    names = [
        name
        for some in batches(wrong)
        for name in connection.execute(select(adapters.c.name).where(adapters.c.id.in_(some))).scalars()
    ]
    locked = connection.execute(select(bases.c.digest).where(bases.c.locked != _LOCKED)).scalars()
    return (*sorted(names), *sorted(locked))
