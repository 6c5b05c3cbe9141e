"""Which entries of a delta stay: by magnitude, at random, or both. Deltas come by rows and are not held.

Each function looks at a delta as often as it needs to and returns what keeps its blocks. Random ones draw from a
generator of their own, in the order of the rows, so that the same seed keeps the same entries whatever the blocks are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adapter_registry.tensors.composing.rows import Kept, Rows, blocks
from adapter_registry.tensors.devices import Array, beside, host, library

_HALF, _LOW = 16, 0xFFFF


def everything(block: Array) -> Array:
    """Nothing is left out."""
    return block


def _bits(block: Array) -> Array:
    """Magnitudes as integers of the same order."""
    return abs(block).view(library(block).int32)


class _Largest:
    """Whether entries are among the `count` largest magnitudes; of equal ones the first rows count."""

    def __init__(self, threshold: int, equals: int) -> None:
        self._threshold, self._equals = threshold, equals

    def __call__(self, block: Array) -> Array:
        bits = _bits(block)
        chosen = bits > self._threshold
        if self._equals:
            same = library(block).where((bits == self._threshold).ravel())[0][: self._equals]
            self._equals -= len(same)
            chosen.reshape(-1)[same] = True
        return chosen


def largest(rows: Rows, counts: Sequence[int]) -> list[_Largest]:
    """For each count, what tells the entries of that many largest magnitudes: exact, in two passes.

    The first counts by the upper half of the bits of the magnitudes, the second by the lower half inside of the one
    bin that each threshold lies in.
    """
    upper = np.zeros(1 << 16, dtype=np.int64)
    for start, stop in blocks(rows):
        upper += _counted(_bits(rows.block(start, stop)) >> _HALF)
    bins = [_bin(upper, count) for count in counts]
    lower = {each: np.zeros(1 << 16, dtype=np.int64) for each, _ in bins}
    for start, stop in blocks(rows):
        bits = _bits(rows.block(start, stop))
        for each, counted in lower.items():
            counted += _counted(bits[bits >> _HALF == each] & _LOW)
    found = []
    for each, left in bins:
        low, equals = _bin(lower[each], left)
        found.append(_Largest((each << 16) | low, equals))
    return found


def _counted(halves: Array) -> NDArray[np.int64]:
    return np.asarray(host(library(halves).bincount(halves.ravel(), minlength=1 << 16)))


def _bin(counted: NDArray[np.int64], count: int) -> tuple[int, int]:
    """(the bin in which the `count`-th largest lies, how many of that bin are wanted)."""
    above = np.cumsum(counted[::-1])
    index = int(np.searchsorted(above, count)) if count else 0
    before = int(above[index - 1]) if index else 0
    return len(counted) - 1 - index, count - before


def by_magnitude(rows: Rows, density: float, *, least: int = 0) -> Kept:
    """Keep the ⌊density · size⌋ entries of the largest magnitude, and at a density above 0 at least `least`.

    Source: the trim of TIES, arXiv:2306.01708 §4.1; `magnitude_prune` of PEFT. mergekit's keeps at least one.
    """
    if density >= 1:
        return everything
    count = max(least if density else 0, int(density * (rows.shape[0] * rows.shape[1])))
    [chosen] = largest(rows, [count])
    return lambda block: block * chosen(block)


def between(rows: Rows, density: float, outliers: float) -> Kept:
    """Leave out the ⌊outliers · size⌋ largest magnitudes and keep the ⌊density · size⌋ next ones.

    Where there are not that many, fewer of the largest are left out.

    Source: Model Breadcrumbs, arXiv:2312.06795 §3.2, with both shares as mergekit names them.
    """
    size = rows.shape[0] * rows.shape[1]
    count = int(density * size)
    top = min(int(outliers * size), size - count)
    if not top:
        return by_magnitude(rows, density)
    wanted, left_out = largest(rows, [top + count, top])
    return lambda block: block * (wanted(block) & ~left_out(block))


def at_random(key: int, density: float) -> Kept:
    """Keep each entry with probability `density` and divide it by that; nothing at density 0.

    Source: DARE, arXiv:2311.03099 §3.2.
    """
    if density >= 1:
        return everything
    numbers = np.random.default_rng(key)

    def keep(block: Array) -> Array:
        return block * (_drawn(numbers, block) < density) * (1 / density if density else 0.0)

    return keep


def at_random_same_sum(rows: Rows, key: int, density: float) -> Kept:
    """Keep each entry with probability `density`, then scale so that the sum of magnitudes is what it was.

    Source: mergekit's rescaling by the L1 norm.
    """
    if density >= 1:
        return everything

    def mask(numbers: np.random.Generator, block: Array) -> Array:
        return block * (_drawn(numbers, block) < density)

    return _same_sum(rows, key, mask)


def by_rank(key: int, density: float, spread: float) -> Kept:
    """MAGPRUNE: keep the entry of rank k of n in its row with probability q_k, and divide it by q_k.

    q rises evenly from density - spread/2 for the smallest magnitude of the row to density + spread/2 for the largest.

    Source: DELLA, arXiv:2406.11617 §3.1.
    """
    if density >= 1:
        return everything
    numbers = np.random.default_rng(key)

    def keep(block: Array) -> Array:
        chance = _chances(block, density, spread / 2)
        return block * (_drawn(numbers, block) < chance) / chance

    return keep


def by_rank_same_sum(rows: Rows, key: int, density: float, spread: float) -> Kept:
    """As `by_rank` with probabilities from density - spread to density + spread, scaled to the same L1 norm.

    Source: mergekit's `della`.
    """
    if density >= 1:
        return everything

    def mask(numbers: np.random.Generator, block: Array) -> Array:
        return block * (_drawn(numbers, block) < _chances(block, density, spread))

    return _same_sum(rows, key, mask)


def _drawn(numbers: np.random.Generator, block: Array) -> Array:
    """A number of 0 to 1 for each entry: numpy's, wherever the block is, so that a seed means the same everywhere."""
    return beside(block, numbers.random(tuple(block.shape), dtype=np.float32))


def _chances(block: Array, density: float, spread: float) -> Array:
    even = np.linspace(density - spread, density + spread, block.shape[1], dtype=np.float32)
    chances, order = library(block).empty_like(block), library(block).argsort(abs(block), 1)
    if isinstance(block, np.ndarray):
        np.put_along_axis(chances, order, even[None], axis=1)
        return chances
    return chances.scatter_(1, order, beside(block, even).expand_as(chances))


def _same_sum(rows: Rows, key: int, mask: Callable[[np.random.Generator, Array], Array]) -> Kept:
    numbers, before, after = np.random.default_rng(key), 0.0, 0.0
    for start, stop in blocks(rows):
        block = rows.block(start, stop)
        float64 = library(block).float64
        before += float(abs(block).sum(dtype=float64))
        after += float(abs(mask(numbers, block)).sum(dtype=float64))
    again, scale = np.random.default_rng(key), before / after if after else 0.0
    return lambda block: mask(again, block) * scale
