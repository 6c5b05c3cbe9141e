"""Writing a merged checkpoint: aside, file by file, hashed in the same pass, resumed if interrupted, all or nothing.

Files are made in a hidden folder beside the result and moved into place together. A journal there names each finished
file with its digest; a merge with the same recipe takes those over once it has read them again. Workers share out the
files; where there are fewer files than workers, blocks of a file are computed by several.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapter_registry.domain.errors import Conflict, StoreFull, StoreUnavailable
from adapter_registry.tensors.merge_blocks import Block, Bytes, Tally, Work
from adapter_registry.tensors.merge_device import Lanes
from adapter_registry.tensors.merge_layout import OutFile, OutTensor

JOURNAL = ".journal"
COPIED_AT_ONCE = 4 << 20
"""Bytes that are copied and hashed by turns, so that both find them in cache."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY, errno.EPERM)

Progress = Callable[[int], None]
Tallies = dict[str, Tally]


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: its name, size and sha256 (64 hex digits)."""

    name: str
    size: int
    sha256: str


@contextmanager
def aside(out: Path, recipe: str) -> Iterator[Path]:
    """The hidden folder that the files of `out` are made in; what an interrupted merge of the same recipe left is kept.

    Raises:
        Conflict: `out` exists and is not empty, or another process merges into it now.
        StoreFull: the disk filled up; nothing is left behind.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} exists already; nothing was written. Name a folder that does not exist.")
    place = out.parent / f".{out.name}.merging"
    with _explained(out, place):
        place.mkdir(parents=True, exist_ok=True)
        with (place / JOURNAL).open("a+") as journal:
            _only_one(journal.fileno(), out)
            if _recipe_in(place) != recipe:
                _emptied(place)
                journal.truncate(0)
                _noted(journal.fileno(), {"recipe": recipe})
            yield place


@contextmanager
def _explained(out: Path, place: Path) -> Iterator[None]:
    """A full disk, told as one; what was written so far is removed."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        shutil.rmtree(place, ignore_errors=True)
        kind = StoreFull if full else StoreUnavailable
        what = "there is no space left" if full else str(error.strerror or error)
        raise kind(f"{out} could not be written: {what}. Nothing was left behind. Name another place.") from error


def _only_one(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"another process is merging into {out}; wait for it, or name another folder.") from error


def _recipe_in(place: Path) -> str | None:
    lines = _lines(place)
    return str(lines[0].get("recipe")) if lines else None


def _lines(place: Path) -> list[dict[str, Any]]:
    """The journal; a last line that was cut short by an interruption is left out."""
    found = []
    for line in (place / JOURNAL).read_text(errors="replace").splitlines():
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            break
    return found


def _emptied(place: Path) -> None:
    for path in place.iterdir():
        if path.name != JOURNAL:
            path.unlink()


def _noted(descriptor: int, line: dict[str, object]) -> None:
    os.write(descriptor, (json.dumps(line) + "\n").encode())
    os.fsync(descriptor)


def line_of(written: Written, file: OutFile, tallies: Tallies) -> dict[str, object]:
    """What the journal notes of a finished file: its digest, and the figures of its tensors."""
    figures = {t.name: tallies[t.name].figures for t in file.tensors if t.name in tallies}
    return {"file": written.name, "size": written.size, "sha256": written.sha256, "figures": figures}


def lay(out: Path, recipe: str, done: Iterable[tuple[dict[str, object], Path]]) -> None:
    """Lay files made elsewhere where a merge of this recipe into `out` takes them over, as if it had been interrupted.

    Args:
        out: what will be merged into.
        recipe: of the merge.
        done: `line_of` each file, and the folder it is in; it stays there too.
    """
    with aside(out, recipe) as place, (place / JOURNAL).open("a") as journal:
        for line, folder in done:
            name = str(line["file"])
            try:
                (place / name).hardlink_to(folder / name)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                shutil.copyfile(folder / name, place / name)
            _noted(journal.fileno(), line)


def finished(place: Path, files: Sequence[OutFile], tallies: Tallies) -> dict[str, Written]:
    """Files that an interrupted merge has finished, by name: their bytes are read and have the digest noted.

    What it found of their tensors goes to `tallies`.
    """
    wanted = {file.name: file.size for file in files}
    found = {}
    for line in _lines(place)[1:]:
        name, size, sha256 = str(line.get("file")), line.get("size"), str(line.get("sha256"))
        path = place / name
        if wanted.get(name) == size and path.is_file() and path.stat().st_size == size:
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() == sha256:
                    found[name] = Written(name, path.stat().st_size, sha256)
                    for tensor, figures in dict(line.get("figures") or {}).items():
                        tallies[tensor].add(np.array(figures[2:], np.float64), figures[0], figures[1])
    return found


def publish(place: Path, out: Path) -> None:
    """Move the finished folder into place; from here on the result is there whole."""
    with _explained(out, place):
        (place / JOURNAL).unlink()
        _synced(place)
        if out.exists():
            out.rmdir()
        place.rename(out)
        _synced(out.parent)


def _synced(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_files(
    place: Path,
    files: Sequence[OutFile],
    *,
    workers: int,
    progress: Progress,
    tallies: Tallies,
    lanes: Lanes | None = None,
) -> list[Written]:
    """Write the files that are not there yet; their digests, in the order of `files`. `lanes`: see `Work`."""
    done = finished(place, files, tallies)
    lock, stop = threading.Lock(), threading.Event()
    missing = [file for file in files if file.name not in done]
    for file in done.values():
        progress(file.size)

    def write(file: OutFile) -> None:
        with ExitStack() as stack:
            writer = _Writer(place / file.name, stack, helpers=helpers, progress=counted, work=work, stop=stop)
            digest = writer.write(file)
        with lock, (place / JOURNAL).open("a") as journal:
            done[file.name] = Written(file.name, file.size, digest)
            _noted(journal.fileno(), line_of(done[file.name], file, tallies))

    def work(tensor: OutTensor, source: Bytes) -> Work:
        tally = tallies[tensor.name] if tensor.edit else Tally()
        return Work(tensor.edit, source, tensor.origin.entry.dtype, tensor.shape, tensor.dtype, tally, lanes)

    def counted(count: int) -> None:
        with lock:
            progress(count)

    at_once = max(1, min(workers, len(missing)))
    helpers = workers // at_once if workers > at_once else 0
    # The largest first, so that no worker is left alone with it at the end.
    with _explained(place, place), ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(write, file) for file in sorted(missing, key=lambda file: -file.size)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            _raise_cause(future)
    return [done[file.name] for file in files]


def _raise_cause(future: Future[None]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None and not isinstance(error, _Stopped):
        raise error


class _Stopped(Exception):
    """Another worker failed; its error is the one to tell."""


class _Writer:
    """Writes one file."""

    def __init__(
        self,
        path: Path,
        stack: ExitStack,
        *,
        helpers: int,
        progress: Progress,
        work: Callable[[OutTensor, Bytes], Work],
        stop: threading.Event,
    ) -> None:
        self._target = stack.enter_context(path.open("wb", buffering=0))
        self._stack, self._progress, self._work_of, self._stop = stack, progress, work, stop
        self._pool = stack.enter_context(ThreadPoolExecutor(helpers)) if helpers > 1 else None
        self._window = 2 * helpers if helpers > 1 else 0
        self._hash: Any = None
        self._sources: dict[Path, tuple[Any, Bytes]] = {}
        self._buffers: list[Bytes] = []

    def write(self, file: OutFile) -> str:
        """Write it, flushed to the disk; its sha256."""
        self._hash = hashlib.sha256() if file.known is None else None
        self._put(memoryview(file.head))
        pending: deque[tuple[Future[Bytes], Bytes]] = deque()
        for tensor in file.tensors:
            if tensor.untouched:
                self._drain(pending, 0)
                self._copy(tensor)
            else:
                work = self._work(tensor)
                for block in work.blocks():
                    self._compute(block, work, pending)
        self._drain(pending, 0)
        os.fsync(self._target.fileno())
        return str(self._hash.hexdigest()) if self._hash else str(file.known)

    def _compute(self, block: Block, work: Work, pending: deque[tuple[Future[Bytes], Bytes]]) -> None:
        buffer = self._buffers.pop() if self._buffers else work.buffer()
        if buffer.size < work.largest:
            buffer = work.buffer()
        if self._pool is None:
            self._put(block(buffer).data)
            self._buffers.append(buffer)
            return
        pending.append((self._pool.submit(block, buffer), buffer))
        self._drain(pending, self._window)

    def _drain(self, pending: deque[tuple[Future[Bytes], Bytes]], left: int) -> None:
        while len(pending) > left:
            future, buffer = pending.popleft()
            self._put(future.result().data)
            self._buffers.append(buffer)

    def _put(self, data: memoryview) -> None:
        if self._stop.is_set():
            raise _Stopped
        if self._hash is not None:
            self._hash.update(data)
        count = len(data)
        while data:
            data = data[self._target.write(data) :]
        self._progress(count)

    def _copy(self, tensor: OutTensor) -> None:
        """Copy bytes in the kernel, which may share them where the file system can; hash them from the page cache."""
        descriptor, whole = self._source(tensor.origin.path)
        start, end = tensor.origin.entry.start, tensor.origin.entry.end
        while start < end:
            if self._stop.is_set():
                raise _Stopped
            count = min(COPIED_AT_ONCE, end - start)
            copied = self._copied(descriptor, start, count)
            if copied:
                if self._hash is not None:
                    self._hash.update(whole[start : start + copied])
                self._progress(copied)
            else:
                self._put(whole[start : start + count].data)
            start += copied or count

    def _copied(self, descriptor: int, start: int, count: int) -> int:
        try:
            return os.copy_file_range(descriptor, self._target.fileno(), count, offset_src=start)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            return 0

    def _source(self, path: Path) -> tuple[int, Bytes]:
        if path not in self._sources:
            stream = self._stack.enter_context(path.open("rb"))
            self._sources[path] = (
                stream.fileno(),
                np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8),
            )
        return self._sources[path]

    def _work(self, tensor: OutTensor) -> Work:
        entry = tensor.origin.entry
        if tensor.origin.decode is not None:
            return self._work_of(tensor, tensor.origin.decode())
        _, whole = self._source(tensor.origin.path)
        return self._work_of(tensor, whole[entry.start : entry.end])
