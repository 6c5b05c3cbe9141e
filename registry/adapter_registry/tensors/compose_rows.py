"""Deltas by rows: made again from their factors whenever they are needed, so that no input is ever held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.layers import Pair

BLOCK = 1 << 18
"""Entries of a block: 1 MB of float32 stays in the cache while several methods' steps pass over it."""


class Rows(Protocol):
    """A matrix that tells its rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    def block(self, start: int, stop: int) -> Float32:
        """Rows `start` to `stop`, for the caller to change."""


class PairRows:
    """The delta of a pair of factors."""

    def __init__(self, pair: Pair) -> None:
        self.shape = pair.shape
        self._up = (pair.up * np.float32(pair.scale)).astype(np.float32, copy=False)
        self._down = pair.down.astype(np.float32, copy=False)

    def block(self, start: int, stop: int) -> Float32:
        """See Rows."""
        return np.asarray(self._up[start:stop] @ self._down)


class ArrayRows:
    """A matrix that is there."""

    def __init__(self, array: Float32) -> None:
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self._array = array

    def block(self, start: int, stop: int) -> Float32:
        """See Rows."""
        return np.array(self._array[start:stop], dtype=np.float32)


@dataclass(frozen=True)
class DoraRows:
    """The delta of a DoRA layer, of full rank: m / ‖W + s·B·A‖ ∘ (W + s·B·A) - W, norms by row.

    Attributes:
        low: s·B·A.
        weight: the base's weight, (rows, columns).
        magnitude: m, one for each row.

    Source: DoRA, arXiv:2402.09353 §4.1.
    """

    low: Rows
    weight: Rows
    magnitude: Float32

    @property
    def shape(self) -> tuple[int, int]:
        """See Rows."""
        return self.low.shape

    def block(self, start: int, stop: int) -> Float32:
        """See Rows."""
        weight = self.weight.block(start, stop)
        moved = weight + self.low.block(start, stop)
        moved *= (self.magnitude[start:stop] / np.linalg.norm(moved, axis=1))[:, None]
        return np.asarray(moved - weight)


@dataclass(frozen=True)
class Difference:
    """One matrix less another."""

    tuned: Rows
    base: Rows

    @property
    def shape(self) -> tuple[int, int]:
        """See Rows."""
        return self.tuned.shape

    def block(self, start: int, stop: int) -> Float32:
        """See Rows."""
        return np.asarray(self.tuned.block(start, stop) - self.base.block(start, stop))


def blocks(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """(start, stop) of blocks of rows."""
    rows, columns = shape
    step = max(1, BLOCK // max(columns, 1))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


Kept = Callable[[Float32], Float32]
"""What is left of the next block of rows; called once for each block, in order."""


def by_rows(deltas: Sequence[Rows], kept: Sequence[Kept], combine: Callable[[Float32], Float32]) -> Float32:
    """The matrix whose blocks are `combine` of (n, rows, columns): what `kept` leaves of each delta."""
    out = np.empty(deltas[0].shape, dtype=np.float32)
    for start, stop in blocks(deltas[0].shape):
        out[start:stop] = combine(np.stack([keep(d.block(start, stop)) for d, keep in zip(deltas, kept, strict=True)]))
    return out


def norm_of(rows: Rows) -> float:
    """Frobenius norm, summed in float64."""
    squares = (float(np.square(rows.block(a, b), dtype=np.float64).sum()) for a, b in blocks(rows.shape))
    return float(np.sqrt(sum(squares)))
