"""Writing a merged checkpoint: aside, file by file, hashed in the same pass, resumed if interrupted, all or nothing.

Files are made in a hidden folder beside the result and moved into place together. A journal there names each finished
file with its digest; a merge with the same recipe takes those over once it has read them again. A crew makes the files.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapter_registry.domain.errors import Conflict, StoreFull, StoreUnavailable
from adapter_registry.tensors.merging.crew import Crew, Progress
from adapter_registry.tensors.merging.device import Lanes
from adapter_registry.tensors.merging.layout import OutFile
from adapter_registry.tensors.merging.pieces import Pieces, Tallies

JOURNAL = ".journal"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


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
    done, lock = finished(place, files, tallies), threading.Lock()
    for file in done.values():
        progress(file.size)

    def begin(file: OutFile) -> Pieces:
        return Pieces(place / file.name, file, tallies, lanes)

    def finish(file: OutFile, digest: str) -> None:
        with lock, (place / JOURNAL).open("a") as journal:
            done[file.name] = Written(file.name, file.size, digest)
            _noted(journal.fileno(), line_of(done[file.name], file, tallies))

    with _explained(place, place):
        crew = Crew(workers, begin=begin, finish=finish, progress=progress)
        crew.make([file for file in files if file.name not in done])
    return [done[file.name] for file in files]
