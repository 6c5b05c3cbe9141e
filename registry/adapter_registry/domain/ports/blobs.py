"""The store of bytes, as a Protocol; part of the ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.sketch import Sketch
from adapter_registry.domain.upload import Destination


@dataclass(frozen=True, slots=True)
class Location:
    """A path on this machine (`local`), or a URL that is good for a short while."""

    address: str
    local: bool


class Incoming(Protocol):
    """Bytes on their way into a BlobStore: hashed as they are written, nothing until they are published."""

    @property
    def sketch(self) -> Sketch | None:
        """Of what was written; None in a store that takes nothing whose digest is not known."""

    def write(self, *pieces: bytes | memoryview) -> None:
        """Add bytes at the end."""

    def check(self, digest: Digest) -> None:
        """What was written has this digest.

        Raises:
            DigestMismatch: it is something else; nothing is kept.
        """

    def publish(self, digest: Digest) -> int:
        """Store what was written under `digest`, checked; its size. Durable when it returns.

        Raises:
            DigestMismatch: it is something else; nothing is kept.
        """


class Partial(Incoming, Protocol):
    """Bytes of an upload that may have been cut off before: `write` goes on at the end of what is there."""

    @property
    def received(self) -> int:
        """Bytes that are there."""

    @property
    def digest(self) -> Digest:
        """Of what is there."""


class BlobStore(Protocol):
    """Bytes addressed by their digest."""

    def destination(self, digest: Digest, size: int, *, proof: str) -> Destination | None:
        """Where whoever has the bytes can send them, and nothing else; None when they come through `incoming`.

        What is sent there counts for nothing before `arrived` says so.

        Args:
            digest: of the bytes.
            size: of the bytes.
            proof: 64 hex digits that are fresh, and stay between the store and whoever calls `arrived`.
        """

    def arrived(self, digest: Digest, size: int, *, proof: str) -> bool:
        """Whether bytes with this digest and size were sent to the `destination` of this proof."""

    def settle(self, digest: Digest, size: int, *, proof: str) -> bool:
        """Give bytes that `arrived` their place, where they do not have it yet; False when swept meanwhile."""

    def received(self, session: str) -> int | None:
        """Bytes of an upload that was cut off, 0 when it never began; None when this store takes none up."""

    def partial(self, session: str, *, name: str) -> AbstractContextManager[Partial]:
        """The upload `session` (64 hex digits), from where it was cut off; what is not published is kept for a day.

        Raises:
            Conflict: somebody is sending it now.
            Unsupported: this store takes none up.
        """

    def incoming(self, *, name: str) -> AbstractContextManager[Incoming]:
        """A place to write bytes whose digest is known at the end; `name` is for errors."""

    def location(self, digest: Digest) -> Location | None:
        """Where the bytes can be read without going through `open`; None when nowhere."""

    def put(self, digest: Digest, source: BinaryIO, *, name: str) -> int:
        """Store the bytes of `source` under `digest`; their number.

        Durable when it returns. The same bytes again are a success and are stored once.

        Args:
            digest: what the caller says they are.
            source: read to its end.
            name: the file's name, for the error.

        Raises:
            DigestMismatch: they are not; nothing is kept.
            StoreFull: no space; nothing is kept.
        """

    def open(self, digest: Digest) -> BinaryIO:
        """A seekable stream; raises NotFound when the store lost the bytes."""

    def size(self, digest: Digest) -> int | None:
        """Bytes stored under `digest`; None when there are none."""

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether sound bytes of this size are there; if so, they count as asked for now."""

    def delete(self, digest: Digest) -> None:
        """Remove the bytes; nothing happens when there are none."""

    def each(self) -> Iterator[tuple[Digest, float]]:
        """(digest, age in seconds since it was last stored or asked for)."""

    def reachable(self) -> None:
        """Raises StoreUnavailable when the store does not answer or cannot be used, within seconds."""

    def sweep(self, *, older_than: float) -> int:
        """Remove what interrupted writes left behind more than `older_than` seconds ago; how many files."""
