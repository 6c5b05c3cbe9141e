"""How far merging onto dequantised weights is from merging onto the original ones, for each kind of module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapter_registry.checkpoints.base_folder import open_checkpoint
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import IncompatibleBase, Problem
from adapter_registry.tensors.arrays import as_float32
from adapter_registry.tensors.merging.blocks import ITEM, NUMPY, Tally, Work
from adapter_registry.tensors.merging.edits import Edit
from adapter_registry.tensors.merging.merge import Ingredient, Options, planned
from adapter_registry.tensors.merging.plan import Origin

Sums = NDArray[np.float64]
"""Squares of: the difference of the two merges, the merge onto the originals, what that changes of them."""


@dataclass(frozen=True, slots=True)
class Apart:
    """The difference of the two merges, over all adapted modules of one kind; norms are Frobenius'.

    Attributes:
        kind: last part of the modules' names: `q_proj`.
        modules: how many there are.
        of_weights: its norm beside that of the weights merged onto the originals.
        of_change: its norm beside that of what merging changes of the originals.
    """

    kind: str
    modules: int
    of_weights: float
    of_change: float


def apart_from(base: Base, source: Path, original: Path, ingredients: Sequence[Ingredient]) -> tuple[Apart, ...]:
    """Merge onto both in float32, tensor by tensor, and compare; nothing is written.

    Args:
        base: the quantised one, as registered.
        source: its folder.
        original: folder of the weights that it was made of.
        ingredients: what was merged.

    Raises:
        IncompatibleBase: the original has other tensors; every one is told.
    """
    entries = ((path, entry) for path, header in open_checkpoint(original).files for entry in header.tensors)
    there = {entry.name: Origin(path, entry) for path, entry in entries}
    found: dict[str, list[Sums]] = {}
    with planned(base, source, ingredients, original, options=Options(onto="dequantized")) as task:
        origins = {name: task.plan.origins[name] for name in task.plan.edits}
        _check(original, origins, there)
        for name, edit in task.plan.edits.items():
            kind = edit.name.rpartition(".")[2]
            found.setdefault(kind, []).append(_compared(edit, origins[name], there[name]))
    return tuple(_apart(kind, sums) for kind, sums in sorted(found.items()))


def _check(original: Path, wanted: Mapping[str, Origin], there: Mapping[str, Origin]) -> None:
    problems = []
    for name, origin in wanted.items():
        shape, other = origin.entry.shape, there.get(name)
        if other is None or other.entry.shape != shape or other.entry.dtype not in ITEM:
            found = f"{other.entry.dtype} of {list(other.entry.shape)}" if other else "none"
            problems.append(Problem("cannot-merge", str(original), name, f"floats of {list(shape)}", found, ""))
    if problems:
        listed = "; ".join(map(str, problems[:4]))
        raise IncompatibleBase(
            f"{original} is not what the base was quantised from: {listed} Nothing was written.", problems=problems
        )


def _compared(edit: Edit, ours: Origin, theirs: Origin) -> Sums:
    shape, values, sums, first = theirs.entry.shape, _values(theirs), np.zeros(3), 0
    before = as_float32(values.view(NUMPY[theirs.entry.dtype]), theirs.entry.dtype)
    sources = (_values(ours), ours.entry.dtype), (values, theirs.entry.dtype)
    works = [Work(edit, source, dtype, shape, "F32", Tally()) for source, dtype in sources]
    buffers = [np.empty(work.largest, np.uint8) for work in works]
    for blocks in zip(*(work.blocks() for work in works), strict=True):
        one, other = (block(buffer).view(np.float32) for block, buffer in zip(blocks, buffers, strict=True))
        sums += _square(one - other), _square(other), _square(other - before[first : first + other.size])
        first += other.size
    return sums


def _values(origin: Origin) -> NDArray[np.uint8]:
    entry = origin.entry
    if origin.decode is not None:
        return origin.decode()
    return np.fromfile(origin.path, np.uint8, count=entry.end - entry.start, offset=entry.start)


def _square(values: NDArray[np.float32]) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _apart(kind: str, sums: list[Sums]) -> Apart:
    apart, weights, change = (sqrt(each) for each in np.sum(sums, axis=0))
    return Apart(kind, len(sums), apart / weights if weights else inf, apart / change if change else inf)
