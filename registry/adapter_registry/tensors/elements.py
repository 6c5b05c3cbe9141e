"""What holds of single elements of two deltas: signs, largest magnitudes. Factors do not tell; rows are made again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.diff import Elements, Estimate
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.layers import Pair

SAMPLED_ROWS = 16
"""Rows of a module that an estimate looks at: some ten thousands of elements."""
TOP_SHARE = 0.01
BLOCK_ELEMENTS = 1 << 20
"""Elements of a block of rows that is made at a time, in float32."""

_HALF = np.uint32(16)
_Counts = NDArray[np.int64]


def sampled(first: Pair, second: Pair, name: str) -> Elements:
    """Estimates from rows drawn by the name of the module, the same each time, with their standard errors.

    The error is that of a mean over rows: elements of one row depend on each other, rows are drawn independently.
    """
    rows = first.shape[0]
    if rows <= SAMPLED_ROWS:
        return exact(first, second)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).choice(rows, SAMPLED_ROWS, replace=False)
    one, other = _rows(first, drawn), _rows(second, drawn)
    tops = [np.abs(each) >= _threshold(each) for each in (one, other)]
    conflicts = _opposed(one, other).mean(axis=1)
    both, each_side = (tops[0] & tops[1]).sum(axis=1), (tops[0].sum(axis=1) + tops[1].sum(axis=1)) / 2
    return Elements(
        sign_conflict=Estimate(float(conflicts.mean()), _stderr(conflicts)),
        top_overlap=_ratio(both, each_side),
        top_share=TOP_SHARE,
        largest=float(np.abs(other - one).max()),
        rows=SAMPLED_ROWS,
        exact=False,
    )


def exact(first: Pair, second: Pair) -> Elements:
    """Counted over every element, in three passes over blocks of rows; no more than a block is ever there."""
    count = first.shape[0] * first.shape[1]
    bounds = [_exact_threshold(pair, count) for pair in (first, second)]
    conflicts, both, tops, largest = 0, 0, 0, 0.0
    for one, other in zip(_blocks(first), _blocks(second), strict=True):
        conflicts += int(np.count_nonzero(_opposed(one, other)))
        high = [_magnitudes(each) >= bound for each, bound in zip((one, other), bounds, strict=True)]
        both += int(np.count_nonzero(high[0] & high[1]))
        tops += int(np.count_nonzero(high[0])) + int(np.count_nonzero(high[1]))
        largest = max(largest, float(np.abs(other - one).max()))
    return Elements(
        sign_conflict=Estimate(conflicts / count),
        top_overlap=Estimate(2 * both / tops),
        top_share=TOP_SHARE,
        largest=largest,
        rows=first.shape[0],
        exact=True,
    )


def _rows(pair: Pair, rows: NDArray[np.int64] | slice) -> Float32:
    return np.asarray(pair.up[rows] @ pair.down) * np.float32(pair.scale)


def _blocks(pair: Pair) -> Iterator[Float32]:
    height = max(1, BLOCK_ELEMENTS // pair.shape[1])
    return (_rows(pair, slice(start, start + height)) for start in range(0, pair.shape[0], height))


def _opposed(one: Float32, other: Float32) -> NDArray[np.bool_]:
    return np.sign(one) * np.sign(other) < 0


def _threshold(values: Float32) -> float:
    kept = max(1, round(TOP_SHARE * values.size))
    return float(np.partition(np.abs(values), values.size - kept, axis=None)[values.size - kept])


def _magnitudes(values: Float32) -> NDArray[np.uint32]:
    """Bits of |x|: they are ordered as the numbers are."""
    return np.abs(values).view(np.uint32)


def _exact_threshold(pair: Pair, count: int) -> np.uint32:
    """Bits of the k-th largest magnitude: a histogram of the upper half of the bits, then of the lower half there."""
    wanted = max(1, round(TOP_SHARE * count))
    upper = sum(_histogram(_magnitudes(block) >> _HALF) for block in _blocks(pair))
    high, left = _place(upper, wanted)
    inside = (bits[bits >> _HALF == high] for bits in map(_magnitudes, _blocks(pair)))
    low, _ = _place(sum(_histogram(bits & np.uint32(0xFFFF)) for bits in inside), left)
    return np.uint32((high << 16) | low)


def _histogram(halves: NDArray[np.uint32]) -> _Counts:
    return np.bincount(halves.ravel(), minlength=1 << 16)


def _place(counts: _Counts | int, wanted: int) -> tuple[int, int]:
    """The bin that holds the `wanted`-th from above, and which of that bin it is."""
    above = np.cumsum(np.asarray(counts)[::-1])
    steps = int(np.searchsorted(above, wanted))
    return len(above) - 1 - steps, wanted - (int(above[steps - 1]) if steps else 0)


def _stderr(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _ratio(parts: NDArray[np.int64], wholes: NDArray[np.float64]) -> Estimate:
    """Σparts / Σwholes with the error of a ratio of means over rows."""
    value = float(parts.sum() / wholes.sum())
    return Estimate(value, _stderr(parts - value * wholes) / float(wholes.mean()))
