"""Blobs as plain files: written aside, hashed on the way, fsynced, then renamed to their digest.

Order of a write: bytes to a temporary file, fsync, rename to `sha256/ab/<hex>`, fsync of the folders. A crash at any
point leaves a complete blob or a temporary file that `sweep` removes; readers never see half a blob. An upload that can
be taken up again is written to `partial/<session>` instead, one writer at a time, and hashed from its beginning.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from adapter_registry.domain.digest import Digest, hex_of, parse
from adapter_registry.domain.errors import (
    Conflict,
    DigestMismatch,
    InvalidReference,
    NotFound,
    RegistryError,
    StoreFull,
    StoreUnavailable,
)
from adapter_registry.domain.ports import Location
from adapter_registry.domain.sketch import Sketch, sketch_of
from adapter_registry.storage.blobs_whole import BehindServer

BLOCK = 1 << 20
WRITE_BEHIND = 8 << 20
PARTIAL_SECONDS = 24 * 3600
"""How long an upload that was cut off can be taken up again."""


class LocalBlobs(BehindServer):
    """A BlobStore in one folder of a local disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "sha256"
        self._incoming = folder / "incoming"
        self._partial = folder / "partial"

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
            stream = _locked(aside)
        try:
            yield IncomingFile(self, stream, aside, name)
        finally:
            stream.close()
            aside.unlink(missing_ok=True)

    def received(self, session: str) -> int:
        """See BlobStore.received."""
        with suppress(FileNotFoundError):
            status = self._session(session).stat()
            if not _expired(status):
                return status.st_size
        return 0

    @contextmanager
    def partial(self, session: str, *, name: str) -> Iterator[IncomingFile]:
        """See BlobStore.partial. The lock is the kernel's, so a writer that died holds nobody off."""
        path = self._session(session)
        with _explained(name):
            self._partial.mkdir(parents=True, exist_ok=True)
            try:
                stream = _locked(path, fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Conflict(f"{name}: another request is sending it now; go on from where that ends.") from error
        with stream:
            try:
                yield IncomingFile(self, stream, path, name)
            except StoreFull:
                path.unlink(missing_ok=True)
                raise

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
        """See BlobStore.sweep. What somebody is writing is locked, and left alone however old it is."""
        leftovers = [(path, older_than) for path in self._incoming.glob("*")]
        leftovers += [(path, max(older_than, PARTIAL_SECONDS)) for path in self._partial.glob("*")]
        return sum(_left_over(path, age) for path, age in leftovers)

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

    def _session(self, session: str) -> Path:
        return self._partial / hex_of(parse(session))

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
    """See ports.Incoming and ports.Partial: a file aside, hashed as it is written."""

    def __init__(self, store: LocalBlobs, stream: FileIO, aside: Path, name: str) -> None:
        self._store, self._stream, self._aside, self._name = store, stream, aside, name
        self._hasher, self.received = hashlib.sha256(), 0
        with _explained(name):
            while block := stream.read(BLOCK):
                self._hasher.update(block)
                self.received += len(block)
        self._begun = self.received
        self._synced: Future[None] | None = None

    @property
    def digest(self) -> Digest:
        """See Partial.digest."""
        return Digest(f"sha256:{self._hasher.hexdigest()}")

    @property
    def sketch(self) -> Sketch:
        """See Incoming.sketch."""
        with _explained(self._name):
            return sketch_of(self.received, partial(os.pread, self._stream.fileno()))

    def write(self, *pieces: bytes | memoryview) -> None:
        """See Incoming.write."""
        with _explained(self._name):
            for piece in pieces:
                self._hasher.update(piece)
                left = memoryview(piece)
                while left:
                    left = left[self._stream.write(left) or 0 :]
                self.received += len(piece)
            self._begin_writing()

    def _begin_writing(self) -> None:
        """Have the kernel write what has come so far, while more comes: the fsync at the end then waits for little.

        On Linux this advice begins to write pages that are not written yet, and drops only those that are.
        """
        new = self.received - self._begun
        if new >= WRITE_BEHIND and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._stream.fileno(), self._begun, new, os.POSIX_FADV_DONTNEED)
            self._begun = self.received

    def check(self, digest: Digest) -> None:
        """See Incoming.check. What is right begins to be synced, while its claim is recorded."""
        received = self._hasher.hexdigest()
        if received != hex_of(digest):
            self._aside.unlink(missing_ok=True)
            raise DigestMismatch(self._name, declared=digest, received=received, size=self.received)
        if self._synced is None and self.received >= WRITE_BEHIND:
            self._synced = _syncing(self._stream)

    def publish(self, digest: Digest) -> int:
        """See Incoming.publish."""
        self.check(digest)
        if not self._store.holds(digest, self.received):
            with _explained(self._name):
                if self._synced is None:
                    os.fsync(self._stream.fileno())
                else:
                    self._synced.result()
                os.fchmod(self._stream.fileno(), 0o444)
                self._store.publish(self._aside, digest)
        else:
            self._aside.unlink(missing_ok=True)
        return self.received


def _syncing(stream: FileIO) -> Future[None]:
    """What a file holds now being made durable, in a thread that does not need the file to stay open."""
    synced: Future[None] = Future()
    descriptor = os.dup(stream.fileno())

    def run() -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            synced.set_exception(error)
        else:
            synced.set_result(None)
        finally:
            os.close(descriptor)

    threading.Thread(target=run, name="sync", daemon=True).start()
    return synced


def _locked(path: Path, how: int = 0) -> FileIO:
    """A file to write to, for this process alone; made when there is none, or one that was left too long ago."""
    while True:
        stream = FileIO(path, "a+")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | how)
        except BlockingIOError:
            stream.close()
            raise
        status = os.fstat(stream.fileno())
        if _expired(status):
            path.unlink(missing_ok=True)
        elif _is_at(path, status):
            os.utime(stream.fileno())
            stream.seek(0)
            return stream
        # Published or swept before we held it: the name means another file by now, or none.
        stream.close()


def _is_at(path: Path, status: os.stat_result) -> bool:
    try:
        return path.stat().st_ino == status.st_ino
    except FileNotFoundError:
        return False


def _left_over(path: Path, age: float) -> bool:
    """Remove a file that nobody has written to for `age` seconds and that nobody writes now; whether it was one."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            old = time.time() - os.fstat(stream.fileno()).st_mtime >= age
            if old:
                path.unlink()
            return old
    except (FileNotFoundError, BlockingIOError):
        return False


def _expired(status: os.stat_result) -> bool:
    return time.time() - status.st_mtime >= PARTIAL_SECONDS


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
