"""Check the store against itself, and remove bytes that nothing refers to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from adapter_registry.domain.digest import Digest, hex_of
from adapter_registry.domain.event import Entry, Outcome, broken_link
from adapter_registry.domain.ports import Backend, BlobStore, Transaction

GRACE_SECONDS = 2 * 3600.0
"""How long bytes that nothing refers to are safe: longer than any push takes between upload and commit."""

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing wrong with the store.

    Attributes:
        what: `missing`, `damaged` or `log`.
        digest: of the blob concerned; None for the log.
        text: what it is and what to do.
        affected: what needs it: versions, `namespace/name@v3`, and stored bases, `base NAME`.
    """

    what: str
    digest: Digest | None
    text: str
    affected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What a check found.

    Attributes:
        blobs: how many blobs the catalog knows.
        bytes: their total size.
        events: length of the audit log.
        read: whether every byte was read.
        damage: everything wrong; empty when the store is sound.
    """

    blobs: int
    bytes: int
    events: int
    read: bool
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed, or would remove: blobs, their bytes, and leftovers of interrupted writes."""

    blobs: int
    bytes: int
    leftovers: int


def check(backend: Backend, *, read_data: bool, progress: Callable[[int], None]) -> StoreReport:
    """Every blob row has its bytes, and the audit log is an unbroken chain.

    Args:
        backend: the registry.
        read_data: hash every byte; otherwise sizes only.
        progress: called with the size of each blob checked.
    """
    with backend.catalog.reading() as tx:
        rows = tx.blobs.each()
        events = tx.events.all()
        users = _users(tx)
    damage = []
    for digest, size in rows:
        what = _state(backend.blobs, digest, size, read_data=read_data)
        if what:
            text = f"blob {digest} ({size:,} bytes) is {what}; pushing the same files again restores it"
            damage.append(Damage(what, digest, text, tuple(users.get(digest, ()))))
        progress(size)
    broken = broken_link(events)
    if broken is not None:
        damage.append(Damage("log", None, f"the audit log was changed at or before event {broken}", ()))
    return StoreReport(len(rows), sum(size for _, size in rows), len(events), read_data, tuple(damage))


def _users(tx: Transaction) -> dict[Digest, list[str]]:
    users: dict[Digest, list[str]] = {}
    for line in tx.versions.adapters():
        for version in tx.versions.all_of(line.adapter):
            for file in version.files:
                users.setdefault(file.digest, []).append(version.reference)
    for stored in tx.stored_bases.all():
        for file in stored.files:
            users.setdefault(file.digest, []).append(f"base {stored.name}")
    return users


def _state(blobs: BlobStore, digest: Digest, size: int, *, read_data: bool) -> str | None:
    found = blobs.size(digest)
    if found is None:
        return "missing"
    if found != size:
        return "damaged"
    if not read_data:
        return None
    hasher = hashlib.sha256()
    with blobs.open(digest) as stream:
        while block := stream.read(BLOCK):
            hasher.update(block)
    return None if hasher.hexdigest() == hex_of(digest) else "damaged"


def collect(backend: Backend, *, grace_seconds: float = GRACE_SECONDS, dry_run: bool = False) -> Collected:
    """Remove what no version and no stored base refers to and nobody touched for `grace_seconds`.

    Rows go first, in a transaction of their own. Bytes go in a second one, which holds off every commit: only those
    that still have no row and that no push touched meanwhile. A crash in between leaves bytes without a row, which
    the next collection removes; never a row without bytes.
    """
    if not dry_run:
        _forget_rows(backend, grace_seconds)
    with backend.catalog.writing() as tx:
        unreferenced = set(tx.blobs.unreferenced())
        ages = dict(backend.blobs.each())
        known = tx.blobs.known(ages) | tx.branches.drafted()
        doomed = [
            d for d, age in ages.items() if age >= grace_seconds and (d not in known or (dry_run and d in unreferenced))
        ]
        size = sum(backend.blobs.size(digest) or 0 for digest in doomed)
        if dry_run:
            return Collected(len(doomed), size, 0)
        for digest in doomed:
            tx.branches.disown(digest)
            backend.blobs.delete(digest)
        leftovers = backend.blobs.sweep(older_than=grace_seconds)
        if doomed or leftovers:
            detail = {"blobs": len(doomed), "bytes": size, "leftovers": leftovers}
            tx.events.append(Entry("collect", "store", Outcome.DONE, backend.actor, backend.clock(), detail))
    return Collected(len(doomed), size, leftovers)


def _forget_rows(backend: Backend, grace_seconds: float) -> None:
    with backend.catalog.writing() as tx:
        ages = dict(backend.blobs.each())
        drafted = tx.branches.drafted()
        for digest in tx.blobs.unreferenced():
            if digest not in drafted and ages.get(digest, grace_seconds) >= grace_seconds:
                tx.blobs.forget(digest)
