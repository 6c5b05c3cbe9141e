"""A local folder, a Hub cache folder or one safetensors file -> Base."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapter_registry.checkpoints.base_files import WeightNames, choose
from adapter_registry.checkpoints.checkpoint import (
    MAX_BASE_HEADER,
    MAX_BASE_TENSORS,
    Checkpoint,
    Origin,
    require_none,
    sound,
)
from adapter_registry.checkpoints.fingerprint import Progress, fingerprints
from adapter_registry.checkpoints.header import Header, HeaderRefused
from adapter_registry.checkpoints.header import read as read_header
from adapter_registry.checkpoints.merged_from import LINEAGE, read_lineage
from adapter_registry.checkpoints.spot import make_spot, spot_differences
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput, Notice, Problem
from adapter_registry.domain.lock import Difference, Level, Verdict, compare

LARGEST_TEXT = 256_000_000
LISTED = 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint on disk with its headers read.

    Attributes:
        checkpoint: what the headers and small files say.
        files: path and header of each weight file, by name.
    """

    checkpoint: Checkpoint
    files: tuple[tuple[Path, Header], ...]


def read_base(path: Path, *, cache: Path | None, progress: Progress, threads: int | None = None) -> Base:
    """The Base in a folder, every byte read.

    Args:
        path: a folder of safetensors, a Hub cache folder, or one safetensors file.
        cache: folder of fingerprints computed before; None reads every byte again.
        progress: called with bytes as they are done.
        threads: default: one per core.

    Raises:
        InvalidInput: it holds no safetensors checkpoint; the text says what it holds and what to do.
    """
    opened = open_checkpoint(path)
    with _readable(path):
        read = fingerprints(opened.files, cache=cache, progress=progress, threads=threads)
        spot = make_spot(opened.files, key=secrets.token_hex(16))
    digests = {name: digest for each in read for name, digest in each.tensors.items()}
    return opened.checkpoint.base([each.sha256 for each in read], digests=digests, spot=spot)


def spot_verdict(path: Path, locked: Base) -> Verdict:
    """How a folder fits an adapter that is locked to `locked`, by a look at a few slices of every tensor.

    See `spot` for what that guarantees.

    Raises:
        InvalidInput: the folder holds no safetensors checkpoint, or the Base was registered without reading bytes.
    """
    if locked.spot is None:
        raise InvalidInput(
            "the base was registered from file digests alone, so there are no slices to look at: leave out --spot."
        )
    opened = open_checkpoint(path)
    with _readable(path):
        different = spot_differences(opened.files, locked.spot)
    unread = opened.checkpoint.base(["unread"] * len(opened.files))
    if not different:
        same_files = [(f.path, f.size) for f in unread.files] == [(f.path, f.size) for f in locked.files]
        found = replace(unread, root=locked.root, files=locked.files if same_files else unread.files)
        note = "by spot check: a few slices of every tensor were read, not all bytes"
        verdict = compare(locked, found)
        return replace(verdict, notes=(note, *verdict.notes))
    return _told_apart(compare(locked, unread), different, tensors=len(locked.tensors))


def _told_apart(verdict: Verdict, different: list[str], *, tensors: int) -> Verdict:
    """The verdict on tables alone, with the tensors whose slices differ in place of its unread files."""
    if verdict.level is Level.INCOMPATIBLE:
        return verdict
    rows = [Difference(name, "the locked base's bytes", "other bytes") for name in different[:LISTED]]
    if len(different) > LISTED:
        rows.append(Difference(f"{len(different) - LISTED:,} more tensors", "equal", "different"))
    count = Difference("tensors with equal slices", str(tensors), str(tensors - len(different)))
    others = tuple(each for each in verdict.differences if each.what != "weight files")
    return Verdict(Level.STRUCTURAL, (count, *rows, *others), verdict.notes)


def open_checkpoint(path: Path) -> Opened:
    """The headers and small files of a checkpoint on disk; no tensor bytes are read.

    Raises:
        InvalidInput: see `read_base`.
    """
    path = path.absolute()
    with _readable(path):
        if path.is_file() and path.suffix == ".safetensors":
            folder, weights = path.parent, WeightNames((path.name,), None)
        else:
            folder = _snapshot(path)
            weights = choose(_present(folder), read=lambda name: _text_file(folder / name), source=str(folder))
        files = _headers(folder, weights)
        origin = _origin(folder)
        headers = [(file.name, header) for file, header in files]
        checkpoint = sound(origin, weights, headers=headers, read=lambda name: _text_file(folder / name))
        lineage = read_lineage(folder)
        if lineage is not None:
            told = Notice("merged-from", LINEAGE, "", f"says that it is {lineage.told}")
            checkpoint = replace(checkpoint, notices=(*checkpoint.notices, told))
    return Opened(checkpoint, files)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise InvalidInput(f"{where} could not be read: {error.strerror or error}.") from error


def _snapshot(path: Path) -> Path:
    """The folder with the files: `path`, or the snapshot of a Hub cache folder."""
    if not path.exists():
        raise InvalidInput(f"{path} does not exist.")
    if not path.is_dir():
        raise InvalidInput(f"{path} is a file; name the folder of a checkpoint, or one .safetensors file.")
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    there = sorted(each.name for each in snapshots.iterdir() if each.is_dir())
    main = path / "refs" / "main"
    if main.is_file() and (commit := main.read_text(errors="replace").strip()) in there:
        return snapshots / commit
    if len(there) == 1:
        return snapshots / there[0]
    if not there:
        raise InvalidInput(f"{path} is a Hub cache folder without a snapshot: download the repository first.")
    raise InvalidInput(
        f"{path} holds {len(there)} snapshots; name one: {', '.join(str(snapshots / c) for c in there)}."
    )


def _origin(folder: Path) -> Origin:
    """Where the folder is from, as the Hub's client leaves it in the path of its cache or beside a download."""
    if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
        kind, _, name = folder.parent.parent.name.partition("--")
        return Origin(str(folder), name.replace("--", "/", 1) if kind == "models" else None, folder.name)
    commits: set[str] = set()
    for metadata in (folder / ".cache" / "huggingface" / "download").glob("*.metadata"):
        first = metadata.read_text(errors="replace").splitlines()[:1]
        commits.update(line for line in first if _COMMIT.fullmatch(line))
    return Origin(str(folder), None, commits.pop() if len(commits) == 1 else None)


def _present(folder: Path) -> list[str]:
    """Names of the regular files in the folder, links followed as the Hub cache needs it.

    Raises:
        InvalidInput: a weight file is a link to nothing, as an interrupted clean-up of a cache leaves.
    """
    there = list(folder.iterdir())
    broken = [each for each in there if each.suffix == ".safetensors" and each.is_symlink() and not each.exists()]
    if broken:
        raise InvalidInput(f"{broken[0]} is a link to a file that is gone: download the checkpoint again.")
    return [each.name for each in there if each.is_file()]


def _headers(folder: Path, weights: WeightNames) -> tuple[tuple[Path, Header], ...]:
    files: list[tuple[Path, Header]] = []
    problems: list[Problem] = []
    for name in weights.names:
        try:
            files.append((folder / name, _header(folder / name)))
        except HeaderRefused as refused:
            problems.extend(refused.problems)
    require_none(problems, source=str(folder))
    return tuple(files)


def _header(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as stream:
        return read_header(stream, size=size, file=path.name, max_header=MAX_BASE_HEADER, max_tensors=MAX_BASE_TENSORS)


def _text_file(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    size = path.stat().st_size
    if size > LARGEST_TEXT:
        raise InvalidInput(f"{path} has {size:,} bytes; such a file has at most {LARGEST_TEXT:,}.")
    return path.read_bytes()
