"""Blobs in memory: for tests and trials; gone with the process."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from adapter_registry.domain.digest import Digest, of_bytes, parse
from adapter_registry.domain.errors import DigestMismatch, NotFound
from adapter_registry.storage.blobs_whole import BehindServer, StartsOver
from adapter_registry.storage.spooled import SpooledIncoming, spooled


class MemoryBlobs(StartsOver, BehindServer):
    """A BlobStore in a dictionary; safe for several threads, because each step is one operation on it."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._asked: dict[Digest, float] = {}

    def put(self, digest: Digest, source: BinaryIO, *, name: str) -> int:
        """See BlobStore.put. Holds all bytes in memory."""
        wanted, data = parse(digest), source.read()
        received = of_bytes(data)
        if received != wanted:
            raise DigestMismatch(name, declared=wanted, received=received, size=len(data))
        self._asked[wanted] = time.monotonic()
        self._blobs[wanted] = data
        return len(data)

    def incoming(self, *, name: str) -> AbstractContextManager[SpooledIncoming]:
        """See BlobStore.incoming."""
        return spooled(lambda digest, file, path: self.put(digest, file, name=path), name)

    def location(self, digest: Digest) -> None:  # noqa: ARG002  there is none
        """See BlobStore.location."""
        return

    def open(self, digest: Digest) -> BinaryIO:
        """See BlobStore.open."""
        data = self._blobs.get(parse(digest))
        if data is None:
            raise NotFound(
                f"the store lost the bytes of {digest}: `adapters admin check` names every version that needs them; "
                "pushing the same files again restores them."
            )
        return io.BytesIO(data)

    def size(self, digest: Digest) -> int | None:
        """See BlobStore.size."""
        data = self._blobs.get(parse(digest))
        return None if data is None else len(data)

    def holds(self, digest: Digest, size: int) -> bool:
        """See BlobStore.holds."""
        if self.size(digest) != size:
            return False
        self._asked[parse(digest)] = time.monotonic()
        return True

    def delete(self, digest: Digest) -> None:
        """See BlobStore.delete."""
        self._blobs.pop(parse(digest), None)
        self._asked.pop(parse(digest), None)

    def each(self) -> Iterator[tuple[Digest, float]]:
        """See BlobStore.each."""
        now = time.monotonic()
        for digest in sorted(dict(self._blobs)):
            yield digest, now - self._asked.get(digest, now)

    def reachable(self) -> None:
        """See BlobStore.reachable."""

    def sweep(self, *, older_than: float) -> int:  # noqa: ARG002  nothing is ever half written
        """See BlobStore.sweep."""
        return 0
