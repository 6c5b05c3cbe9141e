"""Blobs as plain files: written aside, hashed on the way, fsynced, then renamed to their digest.

Order of a write: bytes to a temporary file, fsync, rename to `sha256/ab/<hex>`, fsync of the folders. A crash at any
point leaves a complete blob or a temporary file that `sweep` removes; readers never see half a blob.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

from adapter_registry.domain.digest import Digest, hex_of, parse
from adapter_registry.domain.errors import (
    DigestMismatch,
    InvalidReference,
    NotFound,
    RegistryError,
    StoreFull,
    StoreUnavailable,
)
from adapter_registry.domain.ports import Location

BLOCK = 1 << 20


class LocalBlobs:
    """A BlobStore in one folder of a local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "sha256"
        self._incoming = folder / "incoming"

    def put(self, digest: Digest, source: BinaryIO, *, name: str) -> int:
        """See BlobStore.put. A stored blob that no longer hashes to its digest is replaced."""
        parse(digest)
        with self.incoming(name=name) as incoming:
            while block := source.read(BLOCK):
                incoming.write(block)
            return incoming.publish(digest)

    @contextmanager
    def incoming(self, *, name: str) -> Iterator[IncomingFile]:
        """See BlobStore.incoming."""
        aside = self._incoming / secrets.token_hex(16)
        with _explained(name):
            self._incoming.mkdir(parents=True, exist_ok=True)
            stream = aside.open("xb", buffering=0)
        try:
            yield IncomingFile(self, stream, aside, name)
        finally:
            stream.close()
            aside.unlink(missing_ok=True)

    def location(self, digest: Digest) -> Location | None:
        """See BlobStore.location."""
        path = self.path(digest)
        return Location(str(path), local=True) if path.is_file() else None

    def open(self, digest: Digest) -> BinaryIO:
        """See BlobStore.open."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError as missing:
            raise NotFound(
                f"the store lost the bytes of {digest}: `adapters admin check` names every version that needs them; "
                "pushing the same files again restores them."
            ) from missing

    def size(self, digest: Digest) -> int | None:
        """See BlobStore.size."""
        try:
            return self.path(digest).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def holds(self, digest: Digest, size: int) -> bool:
        """See BlobStore.holds."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            if path.stat().st_size == size and _hash(path) == digest:
                os.utime(path)
                return True
        return False

    def delete(self, digest: Digest) -> None:
        """See BlobStore.delete."""
        path = self.path(digest)
        with suppress(FileNotFoundError):
            path.unlink()
            _sync_folder(path.parent)

    def each(self) -> Iterator[tuple[Digest, float]]:
        """See BlobStore.each."""
        now = time.time()
        for path in sorted(self._folder.glob("??/*")):
            with suppress(FileNotFoundError, InvalidReference):
                yield parse(path.name), now - path.stat().st_mtime

    def sweep(self, *, older_than: float) -> int:
        """See BlobStore.sweep."""
        removed = 0
        now = time.time()
        for path in self._incoming.glob("*"):
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime >= older_than:
                    path.unlink()
                    removed += 1
        return removed

    def reachable(self) -> None:
        """See BlobStore.reachable."""
        with _explained("the folder of blobs"):
            self._incoming.mkdir(parents=True, exist_ok=True)
            if not os.access(self._incoming, os.W_OK | os.X_OK) or not os.access(
                self._folder.parent, os.R_OK | os.X_OK
            ):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def path(self, digest: Digest) -> Path:
        """Where the bytes of a digest are, or would be."""
        name = hex_of(parse(digest))
        return self._folder / name[:2] / name

    def publish(self, aside: Path, digest: Digest) -> None:
        """Give a complete, synced file its place."""
        final = self.path(digest)
        fresh = not final.parent.exists()
        final.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(final)
        _sync_folder(final.parent)
        if fresh:
            _sync_folder(final.parent.parent)


class IncomingFile:
    """See ports.Incoming: a file aside, hashed as it is written."""

    def __init__(self, store: LocalBlobs, stream: RawIOBase, aside: Path, name: str) -> None:
        self._store, self._stream, self._aside, self._name = store, stream, aside, name
        self._hasher, self._size = hashlib.sha256(), 0

    def write(self, *pieces: bytes) -> None:
        """See Incoming.write."""
        with _explained(self._name):
            for piece in pieces:
                self._hasher.update(piece)
                self._size += len(piece)
                left = memoryview(piece)
                while left:
                    left = left[self._stream.write(left) or 0 :]

    def publish(self, digest: Digest) -> int:
        """See Incoming.publish."""
        received = self._hasher.hexdigest()
        if received != hex_of(digest):
            raise DigestMismatch(self._name, declared=digest, received=received, size=self._size)
        if not self._store.holds(digest, self._size):
            with _explained(self._name):
                os.fsync(self._stream.fileno())
                os.fchmod(self._stream.fileno(), 0o444)
                self._store.publish(self._aside, digest)
        return self._size


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failure(name, error) from error


def _failure(name: str, error: OSError) -> RegistryError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"{name}: the disk of the store is full; nothing was stored. Free some space and try again.")
    return StoreUnavailable(f"{name}: the store cannot write it ({error.strerror}); nothing was stored.")


def _hash(path: Path) -> Digest:
    with path.open("rb") as stream:
        return Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
