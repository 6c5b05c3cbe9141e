"""Reading files while they are sent: in pieces, telling how far they are, the last one when it may go."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

from adapter_registry.checkpoints.adapter_files import Source
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.transport.remote import BLOCK

MAPPED = 4 << 20
"""Bytes from which on mapping a file costs less than a copy."""


class Watch:
    """How far every file is, told once however often its bytes travel.

    Args:
        progress: called with bytes that are there, as they become more.
    """

    def __init__(self, progress: Callable[[int], None]) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._allowed = threading.Event()
        self._seen: dict[str, int] = {}
        self._stopped = False

    def stop(self) -> None:
        """Let nothing be read any more."""
        self._stopped = True
        self._allowed.set()

    def allow(self) -> None:
        """Let the last pieces be read."""
        self._allowed.set()

    def whole(self, source: Source) -> None:
        """All of a file is there."""
        self.at(source, source.size)

    def at(self, source: Source, position: int) -> None:
        """A file is sent up to here."""
        if self._stopped:
            raise _Stopped
        with self._lock:
            new = position - self._seen.get(source.path, 0)
            if new > 0:
                self._seen[source.path] = position
                self._progress(new)

    def reading(
        self, stream: BinaryIO, source: Source, *, at: int = 0, held: bool = False, mapped: bool = False
    ) -> Iterator[memoryview]:
        """`stream`, which is at byte `at` of the file, to the file's end, watched; each piece is good until the next.

        Args:
            stream: the file's bytes.
            source: the file.
            at: where the stream is.
            held: the last piece waits until it is allowed.
            mapped: the pieces go to the kernel as they are. It takes mapped memory, a copy less, and answers EFAULT
                where the file became shorter; any other reader would die of that.
        """
        pieces = _mapped if mapped and source.size >= MAPPED else _read
        for piece in pieces(stream, source, at):
            if held and at + len(piece) == source.size:
                self._allowed.wait()
            self.at(source, at)
            at += len(piece)
            yield piece
        self.at(source, at)


def _read(stream: BinaryIO, source: Source, at: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(BLOCK, source.size)))
    while at < source.size:
        read = stream.readinto(buffer[: source.size - at])  # type: ignore[attr-defined]  # every stream of ours has it
        if not read:
            raise became_shorter(source.path)
        at += read
        yield buffer[:read]


def _mapped(stream: BinaryIO, source: Source, at: int) -> Iterator[memoryview]:
    descriptor = stream.fileno()
    if os.fstat(descriptor).st_size < source.size:
        raise became_shorter(source.path)
    mapping = mmap.mmap(descriptor, source.size, access=mmap.ACCESS_READ)
    view = memoryview(mapping)
    try:
        while at < source.size:
            piece = view[at : at + BLOCK]
            if os.fstat(descriptor).st_size < source.size:
                raise became_shorter(source.path)
            yield piece
            at += len(piece)
            piece.release()
    finally:
        view.release()
        # A piece that somebody still holds keeps it open until they let go.
        with suppress(BufferError):
            mapping.close()


def became_shorter(path: str) -> InvalidInput:
    """What is wrong with a file that lost bytes."""
    return InvalidInput(f"{path} became shorter while it was sent; nothing was stored. Try again.")


class _Stopped(RegistryError):
    """Another file failed."""

    code, status, exit_code = "server-unreachable", 503, 1

    def __init__(self) -> None:
        super().__init__("another file could not be sent.")
