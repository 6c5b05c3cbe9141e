"""Deltas beside the weights they are added to: their size, intruder dimensions, what DoRA's lengths make of both."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.base import Tensor
from adapter_registry.domain.diff import AgainstBase, ModuleDiff, State
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.base_weights import BaseWeights, base_weights
from adapter_registry.tensors.devices import CPU, Array, Device, beside, host, library, memory_explained, wide
from adapter_registry.tensors.diff import Finish
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.matrices import Matrix
from adapter_registry.tensors.spectra import Float64, norm

TOP, COMPARED, THRESHOLD = 10, 64, 0.5
"""Singular vectors of W + D that are looked at; of W that they are held against; |cosine| below which one intrudes."""
SPARE = 16
"""Columns of a block beside those that are wanted: the iteration converges by how much they fall off."""
SETTLED, MOST_ROUNDS = 1e-3, 24
ROWS = 256


@dataclass(frozen=True, slots=True)
class _Weight:
    """A base's matrix as (out, in), and what is known of it: its norm, and right singular vectors (in, COMPARED).

    `there` is the matrix on the device that looks for intruders.
    """

    matrix: Float32
    there: Array
    size: float
    right: Float32 | None


@contextmanager
def against(folder: Path, *, cache: Path | None, intruders: bool, device: Device = CPU) -> Iterator[Finish]:
    """What adds to each module how its deltas lie to the base's weight.

    Args:
        folder: of the base; one of its matrices at a time is in memory.
        cache: folder where vectors of this base are kept; None: nowhere.
        intruders: whether to look for intruder dimensions.
        device: where to look for them.
    """
    with memory_explained(device), base_weights(folder) as weights:
        yield _AgainstWeights(weights, cache, intruders, device).finish


class _AgainstWeights:
    def __init__(self, weights: BaseWeights, cache: Path | None, intruders: bool, device: Device) -> None:
        self._weights, self._cache, self._intruders, self._device = weights, cache, intruders, device
        self._one_weight = threading.Lock()

    def finish(self, found: ModuleDiff, first: Matrix | None, second: Matrix | None) -> ModuleDiff:
        there = first or second
        tensor = there.tensor if there else None
        if there is None or tensor is None or tensor.name not in self._weights:
            return replace(found, note=found.note or "the base stores this weight in several tensors; not held against")
        with self._one_weight:
            weight = self._weight(there, tensor)
            sides = [self._beside(weight, each) if each else None for each in (first, second)]
            found = replace(found, first_base=sides[0], second_base=sides[1])
            if first and second and any(each.lengths() is not None for each in (first, second)):
                return _with_lengths(found, weight.matrix, first, second)
        return found

    def _weight(self, at: Matrix, tensor: Tensor) -> _Weight:
        matrix = self._weights.array(tensor.name)
        if at.expert is not None:
            matrix = matrix[at.expert]
        matrix = matrix.reshape(matrix.shape[0], -1)
        matrix = matrix.T if at.swapped else matrix
        there = self._device.put(matrix) if self._intruders else matrix
        key = f"{tensor.name} {tensor.digest} {at.expert} {COMPARED}"
        place = self._cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz" if self._cache else None
        if place is not None and place.exists():
            with np.load(place) as kept:
                if not self._intruders or kept["right"].size:
                    return _Weight(matrix, there, float(kept["size"]), kept["right"].astype(np.float32))
        found = strongest(there, None, min(COMPARED, *matrix.shape), None)[1] if self._intruders else None
        weight = _Weight(matrix, there, norm(matrix), None if found is None else host(found))
        if place is not None:
            _keep(place, weight)
        return weight

    def _beside(self, weight: _Weight, side: Matrix) -> AgainstBase:
        pair = oriented(side)
        size = float(np.sqrt(max(0.0, np.sum((pair.up.T @ pair.up) * (pair.down @ pair.down.T)))))
        relative = abs(pair.scale) * size / weight.size if weight.size else 0.0
        if not self._intruders or weight.right is None:
            return AgainstBase(relative)
        similarities = similarities_of(weight.there, pair, beside(weight.there, weight.right))
        return AgainstBase(
            relative=relative,
            intruders=int(np.count_nonzero(similarities < THRESHOLD)),
            similarities=tuple(similarities.tolist()),
            top=len(similarities),
            compared=weight.right.shape[1],
            threshold=THRESHOLD,
        )


def oriented(side: Matrix) -> Pair:
    """Its factors as of an (out, in) matrix, however the base stores it."""
    pair = side.read()
    return Pair(pair.down.T, pair.up.T, pair.scale) if side.swapped else pair


def similarities_of(matrix: Array, pair: Pair, right: Array) -> Float64:
    """For each of the strongest left singular vectors of W + D, the largest |cosine| with those of W.

    Args:
        matrix: W, (out, in); on a device, the work is done there.
        pair: of D.
        right: right singular vectors of W, (in, k), beside it: W·v has the direction of the left one.
    """
    there, lib = _beside(matrix, pair), library(matrix)
    left = matrix @ right
    left /= lib.linalg.norm(left, None, 0).clip(1e-30)
    changed, _ = strongest(
        matrix, there, min(TOP, *matrix.shape), library(matrix).concatenate([right, there.down.T], 1)
    )
    return np.asarray(host(wide(abs(left.T @ changed))).max(axis=0))


def _beside(matrix: Array, pair: Pair) -> Pair:
    """A pair whose factors are float32 where the matrix is."""
    up, down = (beside(matrix, np.array(each, np.float32, order="C")) for each in (pair.up, pair.down))
    return Pair(up, down, pair.scale)


def strongest(matrix: Array, pair: Pair | None, count: int, start: Array | None) -> tuple[Array, Array]:
    """Left and right singular vectors of W, or of W + D with D never made, by block iteration until they settle."""
    linalg, columns = library(matrix).linalg, min(count + SPARE, *matrix.shape)
    if start is None:
        start = beside(matrix, np.random.default_rng(0).standard_normal((matrix.shape[1], columns), dtype=np.float32))
    right = linalg.qr(start)[0]
    before = np.zeros(count)
    for _ in range(MOST_ROUNDS):
        left, values, turn = linalg.svd(_times(matrix, pair, right), full_matrices=False)
        kept, now = min(columns, len(values)), host(values)[:count]
        best = (left[:, :count], right @ turn[:count].T)
        if np.all(np.abs(now - before) <= SETTLED**2 * now[:1]):
            break
        before = now
        right = linalg.qr(_transposed_times(matrix, pair, left[:, :kept]))[0]
    return best


def _times(matrix: Array, pair: Pair | None, block: Array) -> Array:
    made = matrix @ block
    return made if pair is None else made + pair.scale * (pair.up @ (pair.down @ block))


def _transposed_times(matrix: Array, pair: Pair | None, block: Array) -> Array:
    made = matrix.T @ block
    return made if pair is None else made + pair.scale * (pair.down.T @ (pair.up.T @ block))


def _keep(place: Path, weight: _Weight) -> None:
    """Best effort: without it the vectors are worked out again."""
    aside = place.with_suffix(f".{threading.get_ident()}.tmp.npz")
    right = weight.right if weight.right is not None else np.zeros((0, 0))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        np.savez(aside, size=weight.size, right=right.astype(np.float16))
        aside.replace(place)
    except OSError:
        aside.unlink(missing_ok=True)


def _with_lengths(found: ModuleDiff, weight: Float32, first: Matrix, second: Matrix) -> ModuleDiff:
    """Norms and cosine of what DoRA really adds, m / |W + D| · (W + D) - W by rows, made by blocks of rows in float64.

    Source: DoRA, arXiv:2402.09353, as PEFT has it.
    """
    if first.embedding:
        return replace(found, note="DoRA: the direction only, as of every embedding")
    sums = np.zeros(4)
    pairs, lengths = [oriented(side) for side in (first, second)], [side.lengths() for side in (first, second)]
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        base = weight[rows].astype(np.float64)
        one, other = (_added(base, pair, size, rows) for pair, size in zip(pairs, lengths, strict=True))
        apart = other - one
        sums += [np.sum(one * one), np.sum(other * other), np.sum(apart * apart), np.sum(one * other)]
    norms = (float(sums[0]) ** 0.5, float(sums[1]) ** 0.5, float(sums[2]) ** 0.5)
    both, size = norms[0] * norms[1], norm(weight)
    sides = [AgainstBase(own / size if size else 0.0) for own in norms[:2]]
    return replace(
        found,
        state=State.CHANGED if norms[2] else State.SAME,
        norms=norms,
        relative=norms[2] / norms[0] if norms[0] else None,
        cosine=float(sums[3]) / both if both else None,
        first_base=sides[0],
        second_base=sides[1],
        note="DoRA: norms, change and cosine are of what is really added; all else is of the direction",
    )


def _added(base: Float64, pair: Pair, lengths: Float32 | None, rows: slice) -> NDArray[np.float64]:
    delta = pair.scale * (pair.up[rows].astype(np.float64) @ pair.down)
    if lengths is None:
        return delta
    moved = base + delta
    sizes = np.linalg.norm(moved, axis=1)
    return np.asarray((lengths.reshape(-1)[rows] / sizes)[:, None] * moved - base)
