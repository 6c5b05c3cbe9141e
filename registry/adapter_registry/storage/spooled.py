"""Incoming bytes for stores that take a blob whole: kept in a temporary file until their digest is known."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from adapter_registry.domain.digest import Digest, hex_of
from adapter_registry.domain.errors import DigestMismatch

IN_MEMORY = 1 << 20
Put = Callable[[Digest, BinaryIO, str], int]


@contextmanager
def spooled(put: Put, name: str) -> Iterator[SpooledIncoming]:
    """An Incoming whose `publish` hands everything to `put`."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        yield SpooledIncoming(put, file, name)


class HashedAside:
    """Bytes in a file aside, hashed as they are written."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self._name = file, name
        self._hasher, self._size = hashlib.sha256(), 0

    @property
    def sketch(self) -> None:
        """See Incoming.sketch."""

    def write(self, *pieces: bytes | memoryview) -> None:
        """See Incoming.write."""
        for piece in pieces:
            self._hasher.update(piece)
            self._size += len(piece)
            self._file.write(piece)

    def check(self, digest: Digest) -> None:
        """See Incoming.check."""
        received = self._hasher.hexdigest()
        if received != hex_of(digest):
            raise DigestMismatch(self._name, declared=digest, received=received, size=self._size)


class SpooledIncoming(HashedAside):
    """See ports.Incoming."""

    def __init__(self, put: Put, file: IO[bytes], name: str) -> None:
        super().__init__(file, name)
        self._put = put

    def publish(self, digest: Digest) -> int:
        """See Incoming.publish."""
        self.check(digest)
        self._file.seek(0)
        return self._put(digest, cast("BinaryIO", self._file), self._name)
