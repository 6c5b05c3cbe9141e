"""One file of a merged checkpoint in pieces that can be made in any order: computed, or copied by the kernel."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adapter_registry.tensors.merging.blocks import Block, Bytes, Tally, Work
from adapter_registry.tensors.merging.device import Lanes
from adapter_registry.tensors.merging.layout import OutFile, OutTensor

COPIED_AT_ONCE = 2 << 20
"""Bytes of a copied piece: what copied it leaves them in a cache for what hashes them."""
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY, errno.EPERM)

Tallies = dict[str, Tally]
Piece = tuple[int, Callable[[], tuple[Bytes, Callable[[], None]]]]
"""How many bytes it has; writes them where they belong, and tells them and what to call once they are hashed."""


class Pieces:
    """Makes the pieces of one file; several threads may make pieces that one of them has asked for."""

    def __init__(self, path: Path, file: OutFile, tallies: Tallies, lanes: Lanes | None) -> None:
        self._file, self._tallies, self._lanes = file, tallies, lanes
        self._stack = ExitStack()
        self._target = self._stack.enter_context(path.open("wb", buffering=0)).fileno()
        self._sources: dict[Path, tuple[int, Bytes]] = {}
        self._buffers: list[Bytes] = []

    def __iter__(self) -> Iterator[Piece]:
        """In the order of their bytes."""
        yield len(self._file.head), partial(self._put, np.frombuffer(self._file.head, np.uint8), 0)
        at = len(self._file.head)
        for tensor in self._file.tensors:
            for size, make in self._copies(tensor, at) if tensor.untouched else self._computed(tensor, at):
                yield size, make
                at += size

    def close(self, *, sync: bool) -> None:
        """Let go of everything; `sync`: once the bytes are on the disk."""
        with self._stack:
            if sync:
                os.fsync(self._target)

    def _computed(self, tensor: OutTensor, at: int) -> Iterator[Piece]:
        work = self._work(tensor)
        for block in work.blocks():
            yield block.size, partial(self._compute, block, work, at)
            at += block.size

    def _compute(self, block: Block, work: Work, at: int) -> tuple[Bytes, Callable[[], None]]:
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = work.buffer()
        if buffer.size < work.largest:
            buffer = work.buffer()
        data, _ = self._put(block(buffer), at)
        return data, partial(self._buffers.append, buffer)

    def _put(self, data: Bytes, at: int) -> tuple[Bytes, Callable[[], None]]:
        left = data.data
        while left:
            count = os.pwrite(self._target, left, at)
            left, at = left[count:], at + count
        return data, _nothing

    def _copies(self, tensor: OutTensor, at: int) -> Iterator[Piece]:
        source, end = tensor.origin.entry.start, tensor.origin.entry.end
        for start in range(source, end, COPIED_AT_ONCE):
            count = min(COPIED_AT_ONCE, end - start)
            yield count, partial(self._copy, tensor.origin.path, start, count, at + start - source)

    def _copy(self, path: Path, start: int, count: int, at: int) -> tuple[Bytes, Callable[[], None]]:
        """Copy bytes in the kernel, which may share them where the file system can."""
        descriptor, whole = self._source(path)
        data, done = whole[start : start + count], 0
        while done < count:
            copied = self._copied(descriptor, start + done, count - done, at + done)
            if not copied:
                self._put(data[done:], at + done)
                break
            done += copied
        return data, _nothing

    def _copied(self, descriptor: int, start: int, count: int, at: int) -> int:
        try:
            return os.copy_file_range(descriptor, self._target, count, offset_src=start, offset_dst=at)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            return 0

    def _source(self, path: Path) -> tuple[int, Bytes]:
        if path not in self._sources:
            stream = self._stack.enter_context(path.open("rb"))
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._sources[path] = stream.fileno(), np.frombuffer(mapped, np.uint8)
        return self._sources[path]

    def _work(self, tensor: OutTensor) -> Work:
        entry, tally = tensor.origin.entry, self._tallies[tensor.name] if tensor.edit else Tally()
        if tensor.origin.decode is not None:
            values: Any = tensor.origin.decode()
        else:
            values = self._source(tensor.origin.path)[1][entry.start : entry.end]
        return Work(tensor.edit, values, entry.dtype, tensor.shape, tensor.dtype, tally, self._lanes)


def _nothing() -> None:
    return
