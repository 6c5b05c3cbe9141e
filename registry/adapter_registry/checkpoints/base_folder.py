"""A local folder or a Hub cache folder -> Base."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_registry.checkpoints.base_config import BaseConfig, read_config, vocabulary_rows
from adapter_registry.checkpoints.fingerprint import Progress, fingerprints
from adapter_registry.checkpoints.header import Header, HeaderRefused
from adapter_registry.checkpoints.header import read as read_header
from adapter_registry.checkpoints.spot import make_spot, spot_differences
from adapter_registry.checkpoints.tokenizer import tokenizer_digest
from adapter_registry.domain.base import Base, Tensor, WeightFile, files_root, identity, weights_root
from adapter_registry.domain.errors import InvalidInput, Problem
from adapter_registry.domain.lock import Difference, Level, Verdict, compare

MAX_BASE_HEADER = 100_000_000
MAX_BASE_TENSORS = 1_000_000
INDEX = "model.safetensors.index.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LARGEST_TEXT = 64_000_000


@dataclass(frozen=True, slots=True)
class Opened:
    """A checkpoint on disk with its headers read.

    Attributes:
        folder: where its files are.
        files: path and header of each weight file, by name.
        config: facts of its config.json.
        repository: Hub repository id, where the folder tells.
        commit: 40-hex commit, where the folder tells.
    """

    folder: Path
    files: tuple[tuple[Path, Header], ...]
    config: BaseConfig
    repository: str | None
    commit: str | None

    def tensors(self) -> tuple[Tensor, ...]:
        """The table of tensors, without digests."""
        entries = (entry for _, header in self.files for entry in header.tensors)
        return tuple(sorted((Tensor(e.name, e.dtype, e.shape) for e in entries), key=lambda t: t.name))


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
    read = fingerprints(opened.files, cache=cache, progress=progress, threads=threads)
    digests = {name: digest for each in read for name, digest in each.tensors.items()}
    tensors = tuple(Tensor(t.name, t.dtype, t.shape, digests[t.name]) for t in opened.tensors())
    root = weights_root(tensors)
    tokenizer = tokenizer_digest(lambda name: _text_file(opened.folder / name))
    return Base(
        digest=identity(weights=root, tokenizer=tokenizer),
        files=tuple(
            WeightFile(path.name, header.size, each.sha256)
            for (path, header), each in zip(opened.files, read, strict=True)
        ),
        tensors=tensors,
        config=opened.config.digest,
        tokenizer=tokenizer,
        architecture=opened.config.architecture,
        model_type=opened.config.model_type,
        vocab_size=vocabulary_rows(tensors, opened.config),
        tied=opened.config.tied,
        root=root,
        repository=opened.repository,
        commit=opened.commit,
        quantization=opened.config.quantization,
        spot=make_spot(opened.files, key=secrets.token_hex(16)),
        source=str(opened.folder),
    )


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
    different = spot_differences(opened.files, locked.spot)
    if not different:
        return Verdict(Level.EXACT, notes=("by spot check: a few slices of every tensor were read, not all bytes",))
    found = _unread(opened, locked)
    verdict = compare(locked, found)
    if verdict.level is Level.INCOMPATIBLE:
        return verdict
    listed = tuple(Difference(name, "the locked base's bytes", "other bytes") for name in different[:20])
    count = Difference("tensors with equal slices", str(len(locked.tensors)), str(len(locked.tensors) - len(different)))
    return Verdict(Level.STRUCTURAL, (count, *listed))


def _unread(opened: Opened, locked: Base) -> Base:
    """The checkpoint as a Base whose bytes are unknown, for comparing tables."""
    tensors = opened.tensors()
    files = tuple(WeightFile(path.name, header.size, "unread") for path, header in opened.files)
    return Base(
        digest=identity(weights=files_root(files), tokenizer=None),
        files=files,
        tensors=tensors,
        config=opened.config.digest,
        tokenizer=None,
        architecture=opened.config.architecture,
        model_type=opened.config.model_type,
        vocab_size=vocabulary_rows(tensors, opened.config),
        tied=opened.config.tied,
        root=None,
        repository=opened.repository,
        commit=opened.commit,
        quantization=opened.config.quantization,
        spot=locked.spot,
        source=str(opened.folder),
    )


def open_checkpoint(path: Path) -> Opened:
    """The headers and config of a checkpoint on disk; no tensor bytes are read.

    Raises:
        InvalidInput: see `read_base`.
    """
    if path.is_file() and path.suffix == ".safetensors":
        folder, names = path.parent, [path.name]
    else:
        folder = _snapshot(path)
        names = _weight_names(folder)
    repository, commit = _origin(folder)
    files, problems = [], []
    for name in names:
        try:
            files.append((folder / name, _header(folder / name)))
        except HeaderRefused as refused:
            problems.extend(refused.problems)
    problems = problems or _twice(files)
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:20])
        raise InvalidInput(f"{folder} is not a sound checkpoint; nothing was registered.{listed}", problems=problems)
    config = read_config(_text_file(folder / "config.json"), source=str(folder))
    return Opened(folder, tuple(files), config, repository, commit)


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
    if main.is_file() and main.read_text().strip() in there:
        return snapshots / main.read_text().strip()
    if len(there) == 1:
        return snapshots / there[0]
    raise InvalidInput(f"{path} holds {len(there)} snapshots; name one: {', '.join(str(snapshots / c) for c in there)}.")


def _origin(folder: Path) -> tuple[str | None, str | None]:
    """(repository, commit) where the folder is one that the Hub's client made."""
    if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):
        kind, _, name = folder.parent.parent.name.partition("--")
        return (name.replace("--", "/", 1) if kind == "models" else None), folder.name
    commits = set()
    for metadata in (folder / ".cache" / "huggingface" / "download").glob("*.metadata"):
        first = metadata.read_text(errors="replace").splitlines()[:1]
        commits.update(line for line in first if _COMMIT.fullmatch(line))
    return None, commits.pop() if len(commits) == 1 else None


def _weight_names(folder: Path) -> list[str]:
    index = folder / INDEX
    if index.is_file():
        return _indexed(index)
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    there = sorted(path.name for path in folder.iterdir() if path.is_file())
    if "adapter_config.json" in there:
        raise InvalidInput(
            f"{folder} holds an adapter, not a base; name its base here, and push the adapter with "
            f"`adapters push {folder} --base NAME`."
        )
    weights = [name for name in there if name.endswith(".safetensors")]
    if weights:
        return weights
    raise InvalidInput(f"{folder} holds no safetensors: {_instead(there)}")


def _instead(there: list[str]) -> str:
    if any(name.endswith((".bin", ".pt", ".pth")) for name in there):
        return "its weights are pickled. Load it with transformers once and save it: save_pretrained writes safetensors."
    if any(name.endswith(".gguf") for name in there):
        return "its weights are GGUF. Load it with transformers (gguf_file=...) and save it as safetensors."
    return f"it holds {', '.join(there[:8])}." if there else "it is empty."


def _indexed(index: Path) -> list[str]:
    try:
        document: Any = json.loads(_text_file(index) or b"")
        weight_map = document["weight_map"]
        names = sorted({str(name) for name in weight_map.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"{index} is no index of shards: expected an object with weight_map.") from error
    outside = [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]
    if outside:
        raise InvalidInput(f"{index} names {outside[0]!r}: shards are plain .safetensors file names in the same folder.")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise InvalidInput(f"{index.parent} lacks {len(missing)} of {len(names)} shards: {', '.join(missing[:5])}.")
    return names


def _header(path: Path) -> Header:
    with path.open("rb") as stream:
        size = path.stat().st_size
        return read_header(
            stream, size=size, file=path.name, max_header=MAX_BASE_HEADER, max_tensors=MAX_BASE_TENSORS
        )


def _twice(files: Sequence[tuple[Path, Header]]) -> list[Problem]:
    seen: dict[str, str] = {}
    problems = []
    for path, header in files:
        for entry in header.tensors:
            if entry.name in seen:
                fix = "Keep one copy, or an index that names one file for each tensor."
                found = f"in {seen[entry.name]} and {path.name}"
                problems.append(Problem("tensor-twice", path.name, entry.name, "each tensor in one file", found, fix))
            seen[entry.name] = path.name
    return problems


def _text_file(path: Path) -> bytes | None:
    if not path.is_file() or path.stat().st_size > _LARGEST_TEXT:
        return None
    return path.read_bytes()
