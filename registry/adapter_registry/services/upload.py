"""Uploads: where each file that is missing goes, and what counts as received.

A file goes through the server, or straight to the store behind it by an address that is good for these bytes alone.
What was sent there counts once the store has confirmed size and digest, and for the namespace that asked, nobody else.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, InvalidInput
from adapter_registry.domain.peft.fields import WEIGHTS
from adapter_registry.domain.ports import Backend, Partial
from adapter_registry.domain.sketch import Sketch, parsed
from adapter_registry.domain.upload import Sent, Unknown, Upload
from adapter_registry.services.push import Owned, claims_to, missing, named, received

if TYPE_CHECKING:
    from adapter_registry.checkpoints.passing import Passing


def begin(backend: Backend, *, adapter: str, files: Sequence[File]) -> tuple[Upload, ...]:
    """How to send each of these files whose bytes are missing, as `push.missing` says; the others need no sending.

    Nobody learns from an answer whether the store has bytes that are somebody else's: they are to be sent all the same.

    Raises:
        InvalidInput: a size that is none.
    """
    for file in files:
        if file.size < 0:
            raise InvalidInput(f"{file.path[:100]}: a size is a number of bytes, not {file.size}.")
    wanted = set(missing(backend, adapter=adapter, files=files))
    once = {file.digest: file for file in files if file.digest in wanted}
    return tuple(_upload(backend, named(backend, adapter), file) for file in once.values())


def unknown(backend: Backend, *, adapter: str, sketches: Sequence[Sketch]) -> tuple[Unknown, ...]:
    """Which of these sketches stand for files whose bytes are surely missing, as far as `push.missing` would tell.

    Such a file may be sent before its digest is known, under its sketch. None are in a store that takes up no upload.

    Raises:
        InvalidReference: not a sketch.
    """
    wanted, name = {parsed(each) for each in sketches}, named(backend, adapter)
    with backend.catalog.reading() as tx:
        alike = tx.branches.sketched(wanted)
        known = {alike[digest] for digest in claims_to(backend, tx, name, alike)}
    there = {each: so_far(backend, adapter=adapter, of=each) for each in sorted(wanted - known)}
    return tuple(Unknown(each, size) for each, size in there.items() if size is not None)


def finish(backend: Backend, *, adapter: str, sent: Sequence[Sent]) -> tuple[Digest, ...]:
    """Which of these files arrived where `begin` sent them; they belong to the adapter's namespace from now on.

    The store is asked, not the sender. What did not arrive, or is something else, is to be sent again.
    """
    name = named(backend, adapter)
    arrived = [
        each for each in sent if backend.blobs.arrived(each.digest, each.size, proof=_proof(backend, name, each.ticket))
    ]
    if arrived:
        received(backend, adapter=name, digests=[each.digest for each in arrived])
    return tuple(
        each.digest
        for each in arrived
        if backend.blobs.settle(each.digest, each.size, proof=_proof(backend, name, each.ticket))
    )


@dataclass(frozen=True, slots=True)
class OwnedPartial(Owned):
    """See ports.Partial."""

    incoming: Partial
    passing: Passing | None = None

    def write(self, *pieces: bytes | memoryview) -> None:
        """See ports.Incoming.write."""
        self.incoming.write(*pieces)
        if self.passing is not None:
            for piece in pieces:
                self.passing.update(piece)

    def publish(self, digest: Digest) -> int:
        """See ports.Incoming.publish."""
        # Explicitly, since `slots` makes another class of this one, which bare `super()` does not know.
        size = Owned.publish(self, digest)
        if self.passing is not None and (weights := self.passing.weights()) is not None:
            from adapter_registry.checkpoints.passing import remember  # noqa: PLC0415

            remember(digest, weights)
        return size

    @property
    def received(self) -> int:
        """See ports.Partial.received."""
        return self.incoming.received

    @property
    def digest(self) -> Digest:
        """See ports.Partial.digest."""
        return self.incoming.digest


def so_far(backend: Backend, *, adapter: str, of: Digest | Sketch) -> int | None:
    """Bytes that are there of an upload that was cut off; None where an upload starts over."""
    return backend.blobs.received(_session(backend, named(backend, adapter), of))


@contextmanager
def taking_up(
    backend: Backend, *, adapter: str, of: Digest | Sketch, name: str, offset: int, length: int
) -> Iterator[Partial]:
    """Go on with an upload of `length` bytes at `offset`; `publish` stores it, and gives it to the adapter's namespace.

    Weights that come in one piece are looked at meanwhile.

    Raises:
        Conflict: the upload is at another place, or somebody is sending it now.
        Unsupported: the store takes up no upload.
    """
    where = named(backend, adapter)
    with backend.blobs.partial(_session(backend, where, of), name=name) as partial:
        if partial.received != offset:
            raise Conflict(f"{name}: {partial.received:,} bytes are there, not {offset:,}; go on from there.")
        yield OwnedPartial(backend, where, partial, _passing(length) if name == WEIGHTS and not offset else None)


def _passing(size: int) -> Passing:
    # numpy is needed for values only.
    from adapter_registry.checkpoints.passing import Passing  # noqa: PLC0415

    return Passing(size)


def _upload(backend: Backend, adapter: str, file: File) -> Upload:
    ticket = secrets.token_hex(16)
    direct = backend.blobs.destination(file.digest, file.size, proof=_proof(backend, adapter, ticket))
    if direct is not None:
        return Upload(file.digest, file.size, direct, ticket)
    return Upload(file.digest, file.size, received=so_far(backend, adapter=adapter, of=file.digest))


def _proof(backend: Backend, adapter: str, ticket: str) -> str:
    """What goes with the bytes: tells nobody the ticket, and is another for another account or namespace."""
    return _named_by("ticket", ticket, backend.actor, adapter.partition("/")[0])


def _session(backend: Backend, adapter: str, of: Digest | Sketch) -> str:
    """Another one for another account or namespace; a Digest begins with `sha256:`, so it is never a Sketch."""
    return _named_by("session", of, backend.actor, adapter.partition("/")[0])


def _named_by(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
