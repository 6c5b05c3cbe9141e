"""Deltas by rows: made again from their factors whenever they are needed, so that no input is ever held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.devices import BLOCK, CPU, DEVICE_BLOCK, Array, Device, empty, library, wide
from adapter_registry.tensors.layers import Pair


class Rows(Protocol):
    """A matrix that tells its rows, in memory or on a device."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""

    def block(self, start: int, stop: int) -> Array:
        """Rows `start` to `stop`, for the caller to change."""


class PairRows:
    """The delta of a pair of factors."""

    def __init__(self, pair: Pair, device: Device = CPU) -> None:
        self.shape = pair.shape
        self._up = device.put((pair.up * np.float32(pair.scale)).astype(np.float32, copy=False))
        self._down = device.put(pair.down.astype(np.float32, copy=False))

    def block(self, start: int, stop: int) -> Array:
        """See Rows."""
        return self._up[start:stop] @ self._down


@dataclass(frozen=True)
class Moved:
    """Rows that are made in memory, on a device."""

    rows: Rows
    device: Device

    @property
    def shape(self) -> tuple[int, int]:
        """See Rows."""
        return self.rows.shape

    def block(self, start: int, stop: int) -> Array:
        """See Rows."""
        return self.device.put(self.rows.block(start, stop))


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


def blocks(matrix: Rows | Array) -> Iterator[tuple[int, int]]:
    """(start, stop) of blocks of rows, as large as suits where they are."""
    rows, columns = matrix.shape
    first = matrix.block(0, 0) if hasattr(matrix, "block") else matrix
    entries = BLOCK if isinstance(first, np.ndarray) else DEVICE_BLOCK
    step = max(1, entries // max(columns, 1))
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


Kept = Callable[[Array], Array]
"""What is left of the next block of rows; called once for each block, in order."""


def by_rows(deltas: Sequence[Rows], kept: Sequence[Kept], combine: Callable[[Array], Array]) -> Array:
    """The matrix whose blocks are `combine` of (n, rows, columns): what `kept` leaves of each delta."""
    first = deltas[0].block(0, 0)
    out, stack = empty(deltas[0].shape, first), library(first).stack
    for start, stop in blocks(deltas[0]):
        out[start:stop] = combine(stack([keep(d.block(start, stop)) for d, keep in zip(deltas, kept, strict=True)]))
    return out


def norm_of(matrix: Array) -> float:
    """Frobenius norm, summed in float64."""
    squares = (float((wide(matrix[start:stop]) ** 2).sum()) for start, stop in blocks(matrix))
    return float(np.sqrt(sum(squares)))
