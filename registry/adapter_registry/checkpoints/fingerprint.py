"""Digests of weight files: SHA-256 of the file and BLAKE3 of every tensor, in one pass over the bytes on all cores.

SHA-256 of one file is serial by nature. Files are read side by side, each block fed to both hashers while it is in the
cache; where that would leave threads idle at the end, whole files and tensors are separate tasks, so that a single file
takes about as long as its SHA-256 alone.
"""

from __future__ import annotations

import hashlib
import heapq
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from adapter_registry.checkpoints.cores import cores
from adapter_registry.checkpoints.fingerprint_cache import Fingerprint, cached, keep
from adapter_registry.checkpoints.header import Header, TensorEntry
from adapter_registry.domain.errors import InvalidInput

BLOCK = 1 << 20
RUN = 1 << 26
"""Bytes of tensors that make a task of their own when a file's tensors are hashed beside the file."""
REPORT_SECONDS = 0.1
BOTH, TENSORS = 1.3, 0.45
"""What reading a byte for both digests costs, and for its tensor's digest apart, in terms of its SHA-256 alone."""

Progress = Callable[[int], None]
WeightsFile = tuple[Path, Header]


def fingerprints(
    files: Sequence[WeightsFile],
    *,
    cache: Path | None,
    progress: Progress,
    threads: int | None = None,
) -> tuple[Fingerprint, ...]:
    """The Fingerprint of each file, in order.

    Args:
        files: path and header of each.
        cache: folder of fingerprints by file identity (device, inode, size, times); None reads every byte.
        progress: called in the calling thread with numbers of bytes that add up to the size of all files.
        threads: default: one per core this process may use.

    Raises:
        InvalidInput: a file changed while it was read.
    """
    before = [path.stat() for path, _ in files]
    known = [cached(cache, header, status) for (_, header), status in zip(files, before, strict=True)]
    progress(sum(status.st_size for status, each in zip(before, known, strict=True) if each is not None))
    todo = [i for i, each in enumerate(known) if each is None]
    read = dict(zip(todo, _read([files[i] for i in todo], progress, threads or cores()), strict=True))
    for i, fingerprint in read.items():
        after = files[i][0].stat()
        if _state(after) != _state(before[i]):
            raise _changed(files[i][0])
        keep(cache, fingerprint, after)
    return tuple(each or read[i] for i, each in enumerate(known))


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _changed(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} changed while it was read; nothing was registered. Try again when nobody writes it.")


def _read(files: Sequence[WeightsFile], progress: Progress, threads: int) -> list[Fingerprint]:
    shared = _Shared()
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        tasks = _submit(files, pool, shared, threads)
        pending = {task for parts in tasks for task in parts}
        while pending:
            done, pending = wait(pending, timeout=REPORT_SECONDS, return_when=FIRST_EXCEPTION)
            for task in done:
                task.result()
            progress(shared.take())
        return [_joined(task.result() for task in parts) for parts in tasks]
    finally:
        # After an interrupt or an error the other threads stop at their next block, not at the end of their file.
        shared.stop.set()
        pool.shutdown(cancel_futures=True)


@dataclass(slots=True)
class _Shared:
    """What the threads share: whether to stop, and the bytes done since somebody last asked."""

    stop: threading.Event = field(default_factory=threading.Event)
    done: deque[int] = field(default_factory=deque)

    def take(self) -> int:
        return sum(self.done.popleft() for _ in range(len(self.done)))


_Part = tuple[str, dict[str, str]]
"""SHA-256 of the file, or "" where another task finds it; and BLAKE3 of the tensors this task read."""


def _submit(
    files: Sequence[WeightsFile], pool: ThreadPoolExecutor, shared: _Shared, threads: int
) -> list[list[Future[_Part]]]:
    largest_first = sorted(range(len(files)), key=lambda i: -files[i][1].size)
    together = set(largest_first[: _together([files[i][1].size for i in largest_first], threads)])
    cost = {i: files[i][1].size * (BOTH if i in together else 1) for i in largest_first}
    tasks = {
        i: [pool.submit(_in_one_pass, *files[i], shared) if i in together else pool.submit(_whole, files[i][0], shared)]
        for i in sorted(largest_first, key=lambda i: -cost[i])
    }
    for i in largest_first:
        path, header = files[i]
        if i not in together:
            tasks[i] += [pool.submit(_tensors, path, run, shared) for run in _runs(header)]
    return [tasks[i] for i in range(len(files))]


def _together(sizes: Sequence[int], threads: int) -> int:
    """How many of the files, largest first, to read for both digests at once so that all are done soonest."""
    return min(range(len(sizes), -1, -1), key=lambda count: _seconds(sizes, count, threads), default=0)


def _seconds(sizes: Sequence[int], together: int, threads: int) -> float:
    """When all is done, in units of the SHA-256 of a byte: the longest tasks first, tensors where there is room."""
    costs = [size * BOTH for size in sizes[:together]] + list(sizes[together:])
    loads = [0.0] * threads
    for cost in sorted(costs, reverse=True):
        heapq.heapreplace(loads, loads[0] + cost)
    return max(max(loads), (sum(loads) + TENSORS * sum(sizes[together:])) / threads)


def _runs(header: Header) -> Iterator[list[TensorEntry]]:
    """The tensors in groups of about RUN bytes."""
    run: list[TensorEntry] = []
    for entry in header.tensors:
        run.append(entry)
        if entry.end - run[0].start >= RUN:
            yield run
            run = []
    if run:
        yield run


def _joined(parts: Iterator[_Part]) -> Fingerprint:
    sha256, tensors = "", dict[str, str]()
    for whole, some in parts:
        sha256 = whole or sha256
        tensors |= some
    return Fingerprint(sha256, tensors)


def _in_one_pass(path: Path, header: Header, shared: _Shared) -> _Part:
    whole = hashlib.sha256()
    digests: dict[str, str] = {}
    with _mapped(path, shared) as blocks:
        for block in blocks(0, header.data_start):
            whole.update(block)
            shared.done.append(len(block))
        for entry in header.tensors:
            tensor = blake3()
            for block in blocks(entry.start, entry.end):
                # SHA-256 first: slow enough to hide the time that the block takes to come from memory.
                whole.update(block)
                tensor.update(block)
                shared.done.append(len(block))
            digests[entry.name] = tensor.hexdigest()
    return whole.hexdigest(), digests


def _whole(path: Path, shared: _Shared) -> _Part:
    whole = hashlib.sha256()
    with _mapped(path, shared) as blocks:
        for block in blocks(0, path.stat().st_size):
            whole.update(block)
            shared.done.append(len(block))
    return whole.hexdigest(), {}


def _tensors(path: Path, entries: Sequence[TensorEntry], shared: _Shared) -> _Part:
    digests: dict[str, str] = {}
    with _mapped(path, shared) as blocks:
        for entry in entries:
            tensor = blake3()
            for block in blocks(entry.start, entry.end):
                tensor.update(block)
            digests[entry.name] = tensor.hexdigest()
    return "", digests


_Blocks = Callable[[int, int], Iterator[memoryview]]


@contextmanager
def _mapped(path: Path, shared: _Shared) -> Iterator[_Blocks]:
    """The bytes of a file between two offsets, block by block, mapped and not copied."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            mapped.madvise(mmap.MADV_SEQUENTIAL)
        size = len(mapped)
        with memoryview(mapped) as view:

            def blocks(start: int, end: int) -> Iterator[memoryview]:
                for at in range(start, end, BLOCK):
                    # Reading a mapping beyond the end of a file that was cut meanwhile would end the process.
                    if os.fstat(stream.fileno()).st_size < size or shared.stop.is_set():
                        raise _changed(path)
                    with view[at : min(at + BLOCK, end)] as block:
                        yield block

            yield blocks
