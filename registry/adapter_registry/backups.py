"""Backups: the database first, then the bytes it refers to.

A backup is a folder: a dump of the database, and blobs in the layout of the embedded store. What a database names was
stored before it was named, so bytes copied after the database are all there; bytes without a name are harmless. With
SQLite the folder is itself a registry: ADAPTERS_HOME may name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from adapter_registry import app
from adapter_registry.domain.digest import Digest, short
from adapter_registry.domain.errors import DigestMismatch, NotFound, StoreUnavailable
from adapter_registry.domain.ports import BlobStore, Catalog
from adapter_registry.settings import Settings
from adapter_registry.storage import dumps
from adapter_registry.storage.blobs_local import LocalBlobs
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import open_sqlite

Progress = Callable[[int], None]
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied.

    Attributes:
        blobs: how many the catalog refers to.
        bytes: their total size.
        new: how many of them were not there before.
    """

    blobs: int
    bytes: int
    new: int


def back_up(settings: Settings, folder: Path, *, blobs_only: bool, progress: Progress) -> Copied:
    """Back the registry up into `folder`; what an earlier backup left there is not copied again.

    Args:
        settings: of the registry.
        folder: made when it is not there.
        blobs_only: the database was dumped before, by other means.
        progress: called with the size of each blob.

    Raises:
        Unsupported: pg_dump is needed and not installed.
        StoreUnavailable: bytes are lost, damaged, or were removed meanwhile; the rest is copied.
    """
    backend = app.embedded(settings)
    catalog: Catalog = backend.catalog
    if not blobs_only:
        engine = app.engine_of(settings)
        dumped = dumps.dump(engine, folder)
        if dumped.name == dumps.SQLITE:
            copy = open_sqlite(dumped)
            dumps.check_dump(copy)
            catalog = SqlCatalog(copy)
    with catalog.reading() as tx:
        rows = dict(tx.blobs.each())
        # A draft's bytes have no row yet; their size is what the store says.
        needed = {**{digest: backend.blobs.size(digest) or 0 for digest in tx.branches.drafted()}, **rows}
    return _copied(backend.blobs, LocalBlobs(folder / "blobs"), needed.items(), progress)


def restore(settings: Settings, folder: Path, *, blobs_only: bool, progress: Progress) -> Copied:
    """Fill an empty registry from a backup: the bytes first, then the database.

    Args:
        settings: of the registry to fill.
        folder: that `back_up` made.
        blobs_only: the database is restored by other means.
        progress: called with the size of each blob.

    Raises:
        NotFound: no backup there.
        Conflict: the registry is not empty.
        StoreUnavailable: bytes of the backup are damaged; the database was not restored.
    """
    engine = app.engine_of(settings)
    if not blobs_only:
        if not (folder / dumps.name_of(engine)).is_file():
            raise NotFound(f"{folder} has no {dumps.name_of(engine)}: no backup of this kind of database.")
        dumps.require_empty(engine)
    source, target = LocalBlobs(folder / "blobs"), app.blobs_of(settings)
    held = [(digest, source.size(digest) or 0) for digest, _ in source.each()]
    copied = _copied(source, target, held, progress)
    if not blobs_only:
        dumps.undump(engine, folder)
    return copied


def _copied(source: BlobStore, target: BlobStore, needed: Iterable[tuple[Digest, int]], progress: Progress) -> Copied:
    blobs = size = new = 0
    lost: list[Digest] = []
    for digest, length in needed:
        blobs, size = blobs + 1, size + length
        if target.size(digest) != length:
            try:
                with source.open(digest) as stream:
                    target.put(digest, stream, name=str(digest))
                new += 1
            except (NotFound, DigestMismatch):
                lost.append(digest)
        progress(length)
    if lost:
        named = ", ".join(short(digest) for digest in lost[:MOST_NAMED])
        raise StoreUnavailable(
            f"{len(lost)} of {blobs} blobs are lost or damaged, or were removed meanwhile ({named}); the other "
            f"{blobs - len(lost)} are copied. `adapters admin check --read-data` tells which; if none is, run it again."
        )
    return Copied(blobs, size, new)
