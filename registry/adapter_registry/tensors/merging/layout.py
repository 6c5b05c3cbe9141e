"""Which files a merged checkpoint has, and what lies where in them: the base's own layout, unless it must change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_registry.checkpoints.base_files import INDEX, SINGLE
from adapter_registry.checkpoints.base_folder import Opened
from adapter_registry.checkpoints.header import Header
from adapter_registry.domain.base import Base, size_of
from adapter_registry.tensors.merging.blocks import ITEM
from adapter_registry.tensors.merging.edits import Edit
from adapter_registry.tensors.merging.plan import Origin, Plan

NOT_COPIED = (".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt", ".md")
"""Endings of files that hold weights, or tell of the base itself; everything else goes with the merged checkpoint."""
LARGEST_COPIED = 256_000_000


@dataclass(frozen=True, slots=True)
class OutTensor:
    """One tensor of the result.

    Attributes:
        name: in the result.
        origin: where its values start.
        edit: what happens to them; None for nothing.
        dtype: it is stored in.
        shape: as its origin's.
        size: in bytes.
    """

    name: str
    origin: Origin
    edit: Edit | None
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def untouched(self) -> bool:
        """Whether its bytes are those of its origin."""
        return self.edit is None and self.dtype == self.origin.entry.dtype and self.origin.decode is None


@dataclass(frozen=True, slots=True)
class OutFile:
    """One weight file of the result.

    Attributes:
        name: of the file.
        head: everything before the first tensor's bytes.
        tensors: in the order of their bytes.
        known: sha256 of the whole file, where it is a file of the base byte for byte; else None.
    """

    name: str
    head: bytes
    tensors: tuple[OutTensor, ...]
    known: str | None

    @property
    def size(self) -> int:
        """Of the whole file."""
        return len(self.head) + sum(tensor.size for tensor in self.tensors)


def layout(
    plan: Plan, base: Base, opened: Opened, *, dtype: str | None = None, shard: int | None = None
) -> tuple[OutFile, ...]:
    """The weight files of the result.

    Args:
        plan: what happens to which tensor.
        base: for the digests of its files.
        opened: its files.
        dtype: type for every tensor of floats; None keeps each one's own.
        shard: largest size of a file in bytes; None keeps the base's files.
    """
    stored = {entry.name: entry.dtype for _, header in opened.files for entry in header.tensors}
    usual = _usual(opened)
    own = {name for name in plan.origins if name in stored}
    new = [name for name in plan.origins if name not in own]

    def out(name: str) -> OutTensor:
        origin = plan.origins[name]
        kept = stored.get(name) or (usual if origin.entry.dtype in ITEM else origin.entry.dtype)
        kind = dtype if dtype and kept in ITEM else kept
        size = size_of(origin.entry.shape) * ITEM[kind] if kind in ITEM else origin.entry.end - origin.entry.start
        return OutTensor(name, origin, plan.edits.get(name), kind, origin.entry.shape, size)

    groups = [(path.name, header, [out(entry.name) for entry in header.tensors]) for path, header in opened.files]
    groups[-1][2].extend(map(out, new))
    if shard is not None:
        groups = list(_regrouped(groups, shard))
    digests = {file.path: file.sha256 for file in base.files}
    sources = {path.name: path for path, _ in opened.files}
    return tuple(_file(name, header, tensors, digests, sources) for name, header, tensors in groups)


def index_of(files: Sequence[OutFile], earlier: bytes | None) -> bytes | None:
    """The index of shards: the base's own bytes where it still tells the truth; None where none is needed.

    Args:
        files: of the result.
        earlier: the base's index, if it has one and its files are kept.
    """
    if len(files) == 1 and earlier is None:
        return None
    total = sum(tensor.size for file in files for tensor in file.tensors)
    weight_map = {tensor.name: file.name for file in files for tensor in file.tensors}
    told: dict[str, Any] = json.loads(earlier) if earlier else {}
    metadata = told.get("metadata") or {}
    if earlier and told.get("weight_map") == weight_map and metadata.get("total_size") in (None, total):
        return earlier
    document = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return (json.dumps(document, indent=2) + "\n").encode()


def index_name(folder: Path) -> str | None:
    """The base's index of shards, if it has one."""
    if (folder / INDEX).is_file():
        return INDEX
    return next((path.name for path in sorted(folder.glob("*.safetensors.index.json"))), None)


def copied(folder: Path) -> Iterator[Path]:
    """Files beside the weights that go with them: tokenizer, generation config, chat template, licence, programs."""
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") or path.name.endswith(NOT_COPIED)
        if path.is_file() and not hidden and path.name != "config.json" and path.stat().st_size <= LARGEST_COPIED:
            yield path


def _usual(opened: Opened) -> str:
    """The float type that most bytes of the base have; for tensors that it does not have."""
    sizes: dict[str, int] = {}
    for _, header in opened.files:
        for entry in header.tensors:
            if entry.dtype in ITEM:
                sizes[entry.dtype] = sizes.get(entry.dtype, 0) + entry.end - entry.start
    return max(sizes, key=lambda kind: sizes[kind], default="F32")


def _regrouped(
    groups: Iterable[tuple[str, Header, list[OutTensor]]], shard: int
) -> Iterator[tuple[str, Header, list[OutTensor]]]:
    shards: list[tuple[Header, list[OutTensor]]] = []
    filled = 0
    for _, header, tensors in groups:
        for tensor in tensors:
            if not shards or filled + tensor.size > shard:
                shards.append((header, []))
                filled = 0
            shards[-1][1].append(tensor)
            filled += tensor.size
    count = len(shards)
    for number, (header, tensors) in enumerate(shards, 1):
        name = SINGLE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
        yield name, header, tensors


def _file(
    name: str, header: Header, tensors: list[OutTensor], digests: Mapping[str, str], sources: Mapping[str, Path]
) -> OutFile:
    kept = [(t.name, t.dtype, t.shape) for t in tensors] == [(e.name, e.dtype, e.shape) for e in header.tensors]
    if not kept or name not in sources or any(tensor.origin.decode for tensor in tensors):
        return OutFile(name, _head(tensors, header.metadata), tuple(tensors), None)
    with sources[name].open("rb") as stream:
        head = stream.read(header.data_start)
    own = all(tensor.untouched and tensor.origin.path == sources[name] for tensor in tensors)
    return OutFile(name, head, tuple(tensors), digests.get(name) if own else None)


def _head(tensors: Iterable[OutTensor], metadata: Mapping[str, str]) -> bytes:
    document: dict[str, object] = {"__metadata__": dict(metadata) or {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size
        document[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
