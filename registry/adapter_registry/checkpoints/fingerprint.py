"""Digests of weight files: SHA-256 of the file and BLAKE3 of every tensor, in one pass over the bytes on all cores.

SHA-256 of one file is serial by nature. With at least as many files as threads, each thread feeds both hashers from the
same block while it is in the cache; with fewer, whole files and tensors are separate tasks.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from adapter_registry.checkpoints.header import Header
from adapter_registry.domain.errors import InvalidInput

BLOCK = 1 << 20
FORMAT = "adapters.fingerprint/1"
RACY_NANOSECONDS = 2_000_000_000
"""A file changed this shortly before it was hashed might change again within the clock's step: not cached."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests of one weight file.

    Attributes:
        sha256: of the whole file, 64 hex digits.
        tensors: tensor name -> BLAKE3-256 of its bytes, 64 hex digits.
    """

    sha256: str
    tensors: dict[str, str]


def fingerprints(
    files: Sequence[tuple[Path, Header]],
    *,
    cache: Path | None,
    progress: Progress,
    threads: int | None = None,
) -> tuple[Fingerprint, ...]:
    """The Fingerprint of each file, in order.

    Args:
        files: path and header of each.
        cache: folder of fingerprints by file identity (device, inode, size, mtime); None reads every byte.
        progress: called with numbers of bytes that add up to the size of all files.
        threads: default: one per core.

    Raises:
        InvalidInput: a file changed while it was read.
    """
    before = [path.stat() for path, _ in files]
    found = [_cached(cache, path, status) for (path, _), status in zip(files, before, strict=True)]
    todo = [i for i, each in enumerate(found) if each is None]
    for i in set(range(len(files))) - set(todo):
        progress(before[i].st_size)
    for i, read in zip(todo, _read([files[i] for i in todo], progress, threads), strict=True):
        _require_unchanged(files[i][0], before[i])
        _keep(cache, files[i][0], before[i], read)
        found[i] = read
    return tuple(each for each in found if each is not None)


def _read(
    files: Sequence[tuple[Path, Header]], progress: Progress, threads: int | None
) -> Iterator[Fingerprint]:
    workers = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(max_workers=workers) as pool:
        if len(files) >= workers:
            yield from pool.map(lambda each: _in_one_pass(*each, progress), files)
            return
        wholes = [pool.submit(_sha256, path, progress) for path, _ in files]
        tensors = [
            {entry.name: pool.submit(_blake3, path, entry.start, entry.end) for entry in header.tensors}
            for path, header in files
        ]
        for whole, parts in zip(wholes, tensors, strict=True):
            yield Fingerprint(whole.result(), {name: part.result() for name, part in parts.items()})


def _in_one_pass(path: Path, header: Header, progress: Progress) -> Fingerprint:
    whole = hashlib.sha256()
    digests: dict[str, str] = {}
    with _mapped(path) as view:
        whole.update(view[: header.data_start])
        for entry in header.tensors:
            tensor = blake3()
            for start in range(entry.start, entry.end, BLOCK):
                block = view[start : min(start + BLOCK, entry.end)]
                whole.update(block)
                tensor.update(block)
                block.release()
            digests[entry.name] = tensor.hexdigest()
            progress(entry.end - entry.start)
    progress(header.data_start)
    return Fingerprint(whole.hexdigest(), digests)


def _sha256(path: Path, progress: Progress) -> str:
    whole = hashlib.sha256()
    with _mapped(path) as view:
        for start in range(0, len(view), 16 * BLOCK):
            block = view[start : start + 16 * BLOCK]
            whole.update(block)
            progress(len(block))
            block.release()
    return whole.hexdigest()


def _blake3(path: Path, start: int, end: int) -> str:
    with _mapped(path) as view, view[start:end] as bytes_:
        return str(blake3(bytes_).hexdigest())


class _mapped:  # noqa: N801  used as a function
    """The bytes of a file as a memoryview, mapped and not copied."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            self._map.madvise(mmap.MADV_SEQUENTIAL)
        self._view = memoryview(self._map)

    def __enter__(self) -> memoryview:
        return self._view

    def __exit__(self, *_: object) -> None:
        self._view.release()
        self._map.close()


def _require_unchanged(path: Path, before: os.stat_result) -> None:
    after = path.stat()
    if (after.st_size, after.st_mtime_ns, after.st_ino) != (before.st_size, before.st_mtime_ns, before.st_ino):
        raise InvalidInput(f"{path} changed while it was read; nothing was registered. Try again when nobody writes it.")


def _entry(cache: Path, path: Path, status: os.stat_result) -> Path:
    identity = f"{FORMAT}:{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{path.name}"
    return cache / "fingerprints" / f"{blake3(identity.encode()).hexdigest()[:40]}.json"


def _cached(cache: Path | None, path: Path, status: os.stat_result) -> Fingerprint | None:
    if cache is None:
        return None
    try:
        document = json.loads(_entry(cache, path, status).read_text())
        if document["format"] == FORMAT and document["size"] == status.st_size:
            return Fingerprint(str(document["sha256"]), dict(document["tensors"]))
    except (OSError, ValueError, KeyError, TypeError):
        # A damaged entry is as good as none: the file is read again and the entry rewritten.
        return None
    return None


def _keep(cache: Path | None, path: Path, status: os.stat_result, read: Fingerprint) -> None:
    if cache is None or time.time_ns() - status.st_mtime_ns < RACY_NANOSECONDS:
        return
    entry = _entry(cache, path, status)
    document = {"format": FORMAT, "size": status.st_size, "sha256": read.sha256, "tensors": read.tensors}
    aside = entry.with_suffix(f".{secrets.token_hex(4)}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(document))
        aside.replace(entry)
    except OSError:
        # A cache that cannot be written costs time, not correctness.
        aside.unlink(missing_ok=True)
