"""What changed in two adapters' files and tensors, as bytes and as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from adapter_registry.checkpoints.adapter_files import FolderFile, survey
from adapter_registry.domain.diff import LORA_FACTORS, FileDiff, State, TensorDiff
from adapter_registry.tensors.arrays import WeightFile, as_float32

BLOCK = 1 << 20
FLOATS = ("F64", "F32", "F16", "BF16")


def file_changes(first: Path, second: Path) -> tuple[FileDiff, ...]:
    """Every file of either folder, compared byte by byte until the first that differs."""
    mine, other = _files(first), _files(second)
    return tuple(_file(path, mine.get(path), other.get(path)) for path in sorted(mine.keys() | other.keys()))


def _files(folder: Path) -> Mapping[str, FolderFile]:
    return {file.path: file for file in survey(folder).files if file.path != "adapter_lock.json"}


def _file(path: str, first: FolderFile | None, second: FolderFile | None) -> FileDiff:
    sizes = (first.size if first else None, second.size if second else None)
    if first is None or second is None:
        return FileDiff(path, State.ADDED if first is None else State.REMOVED, sizes)
    same = first.size == second.size and _same_bytes(first, second)
    return FileDiff(path, State.SAME if same else State.CHANGED, sizes)


def _same_bytes(first: FolderFile, second: FolderFile) -> bool:
    with first.open() as one, second.open() as other:
        while block := one.read(BLOCK):
            if block != other.read(BLOCK):
                return False
    return True


def tensor_changes(first: WeightFile, second: WeightFile, *, same: bool) -> Iterator[TensorDiff]:
    """Every tensor of either file; `same` where the files are known to be equal."""
    for name in sorted(first.entries.keys() | second.entries.keys()):
        mine, other = first.entries.get(name), second.entries.get(name)
        shapes = (mine.shape if mine else None, other.shape if other else None)
        dtypes = (mine.dtype if mine else None, other.dtype if other else None)
        if mine is None or other is None:
            yield TensorDiff(name, State.ADDED if mine is None else State.REMOVED, shapes, dtypes)
        elif same or (shapes[0] == shapes[1] and dtypes[0] == dtypes[1] and _equal(first, second, name)):
            yield TensorDiff(name, State.SAME, shapes, dtypes)
        else:
            yield TensorDiff(name, State.CHANGED, shapes, dtypes, _relative(first, second, name))


def _equal(first: WeightFile, second: WeightFile, name: str) -> bool:
    one, other = first.raw(name), second.raw(name)
    return all(
        np.array_equal(one[start : start + BLOCK], other[start : start + BLOCK]) for start in range(0, len(one), BLOCK)
    )


def _relative(first: WeightFile, second: WeightFile, name: str) -> float | None:
    """|second - first| / |first| of the values; None where that is not defined, or says nothing."""
    mine, other = first.entries[name], second.entries[name]
    if name.endswith(LORA_FACTORS) or mine.shape != other.shape or {mine.dtype, other.dtype} - set(FLOATS):
        return None
    one, two = first.stored(name).reshape(-1), second.stored(name).reshape(-1)
    before, apart = 0.0, 0.0
    for start in range(0, len(one), BLOCK):
        block = as_float32(one[start : start + BLOCK], mine.dtype).astype(np.float64)
        before += float(block @ block)
        block -= as_float32(two[start : start + BLOCK], other.dtype)
        apart += float(block @ block)
    return (apart / before) ** 0.5 if before else None
