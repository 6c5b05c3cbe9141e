"""The bytes of an edited tensor, in blocks of rows, and how much of each delta the stored type keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.tensors.arrays import as_float32, as_stored
from adapter_registry.tensors.merging import device as merge_device
from adapter_registry.tensors.merging import kernel
from adapter_registry.tensors.merging.device import Lanes
from adapter_registry.tensors.merging.edits import Edit, Part, packed
from adapter_registry.tensors.merging.kernel import Factors

Bytes = NDArray[np.uint8]

BLOCK = 1 << 20
"""Bytes of a block of rows: it stays in a core's cache until it is hashed and written."""
TALLIED = 128
"""About how many rows of each matrix are looked at to tell what survived; all of them where it has fewer."""
KINDS = {"F32": kernel.F32, "BF16": kernel.BF16, "F16": kernel.F16, "F64": kernel.F64}
ITEM = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8}


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of the result: how many bytes they have, and what computes them into an array of that size."""

    size: int
    compute: Callable[[Bytes], None]

    def __call__(self, buffer: Bytes) -> Bytes:
        """Into the beginning of a buffer of `Work.largest` bytes; what was written."""
        target = buffer[: self.size]
        self.compute(target)
        return target


@dataclass(slots=True)
class Tally:
    """Sums over the weights that were looked at; see `merge_kernel.SUMS`."""

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(kernel.SUMS))
    weights: int = 0
    of: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, sums: NDArray[np.float64], weights: int, of: int) -> None:
        """Add the figures of one block: of `weights` weights among `of`."""
        with self._lock:
            self.sums += sums
            self.weights += weights
            self.of += of

    @property
    def figures(self) -> list[float]:
        """What it holds, to be noted: weights looked at, weights in all, and the sums."""
        return [self.weights, self.of, *map(float, self.sums)]


@dataclass(frozen=True, slots=True)
class Work:
    """One tensor to compute.

    Attributes:
        edit: what happens to it; None when it is only stored in another type.
        source: bytes of the values it starts from.
        dtype: of the source.
        shape: of the result.
        stored: dtype of the result.
        tally: where figures go.
        lanes: of a device that computes sums of low-rank products; None: the processor does.
    """

    edit: Edit | None
    source: Bytes
    dtype: str
    shape: tuple[int, ...]
    stored: str
    tally: Tally
    lanes: Lanes | None = None

    def blocks(self) -> Iterator[Block]:
        """The blocks in the order of their bytes; factors are read when the first block of a matrix is asked for."""
        if self.edit is None:
            yield from self._converted()
            return
        count, rows, columns = self.edit.matrices(self.shape)
        for number in range(count):
            parts = self.edit.parts.get(number, [])
            if self.edit.plain:
                yield from self._plain(number * rows, rows, columns, parts)
            else:
                yield from _General(self, number, rows, columns).blocks()

    @property
    def largest(self) -> int:
        """Bytes of the largest block: those of `_block`, or two rows where those are longer."""
        columns = self.edit.matrices(self.shape)[2] if self.edit else 1
        return max(self._block, 2 * columns * ITEM[self.stored])

    def buffer(self) -> Bytes:
        """Room for the largest block."""
        return np.empty(self.largest, np.uint8) if self.lanes is None else self.lanes.buffer(self.largest)

    @property
    def _block(self) -> int:
        return BLOCK if self.lanes is None else merge_device.BLOCK

    def step(self, columns: int) -> int:
        """How many rows a block has; even, as the kernel takes rows by twos."""
        return max(2, self._block // (columns * max(ITEM[self.stored], ITEM[self.dtype])) // 2 * 2)

    def bytes_of(self, first: int, last: int, columns: int) -> Bytes:
        """The source's bytes of some rows."""
        row = columns * ITEM[self.dtype]
        return self.source[first * row : last * row]

    def _converted(self) -> Iterator[Block]:
        step = BLOCK // max(ITEM[self.stored], ITEM[self.dtype])
        total = self.source.size // ITEM[self.dtype]
        for first in range(0, total, step):
            yield self._conversion(first, min(first + step, total))

    def _conversion(self, first: int, last: int) -> Block:
        def compute(target: Bytes) -> None:
            kernel.convert(self.bytes_of(first, last, 1), KINDS[self.dtype], target, KINDS[self.stored])

        return Block((last - first) * ITEM[self.stored], compute)

    def _plain(self, offset: int, rows: int, columns: int, parts: list[Part]) -> Iterator[Block]:
        step, factors = self.step(columns), self._factors(parts, rows, columns) if parts else None
        for first in range(0, rows, step):
            last = min(first + step, rows)
            if factors is None:
                yield self._conversion((offset + first) * columns, (offset + last) * columns)
            else:
                yield self._merged(offset, first, last, (rows, columns), factors)

    def _factors(self, parts: list[Part], rows: int, columns: int) -> Any:
        """As the kernel takes them, or as the device does."""
        return packed(parts, rows, columns) if self.lanes is None else self.lanes.placed(parts)

    def _merged(self, offset: int, first: int, last: int, size: tuple[int, int], factors: Any) -> Block:
        rows, columns = size
        every = max(1, rows // TALLIED)

        def compute(target: Bytes) -> None:
            sums = np.zeros(kernel.SUMS)
            source = self.bytes_of(offset + first, offset + last, columns)
            if self.lanes is not None:
                sums += self.lanes.merge_rows(source, target, (self.dtype, self.stored), factors, (first, every))
            else:
                kinds = KINDS[self.dtype], KINDS[self.stored]
                place = first, every
                kernel.merge_rows(source, target, kinds, factors, columns=columns, place=place, sums=sums)
            looked = len(range(-(-first // every) * every, last, every))
            self.tally.add(sums, looked * columns, (last - first) * columns)

        return Block((last - first) * columns * ITEM[self.stored], compute)


class _General:
    """One matrix with more than low-rank products: float64 arithmetic, rounded to float32 and then to what is stored.

    The sum is `W + Σ w · (changed(W) - W)`; a single change of weight 1 is `changed(W)` itself.
    """

    def __init__(self, work: Work, number: int, rows: int, columns: int) -> None:
        self._work, self._rows, self._columns = work, rows, columns
        self.size, self.step = (rows, columns), work.step(columns)
        self._first_row = number * rows
        assert work.edit is not None  # noqa: S101  `Work.blocks` says so
        self._edit = work.edit
        self._parts = work.edit.parts.get(number, [])

    def blocks(self) -> Iterator[Block]:
        plain = [part for part in self._parts if part.magnitude is None]
        factors = packed(plain, self._rows, self._columns) if plain else None
        doras = [_Dora(part, self) for part in self._parts if part.magnitude is not None]
        vectors = [(each.weight, each.vector()) for each in self._edit.scalings]
        added = [(weight, vector()) for weight, vector in self._edit.added]
        for first in range(0, self._rows, self.step):
            yield self._block(first, min(first + self.step, self._rows), factors, (doras, vectors, added))

    def start(self, first: int, last: int) -> NDArray[np.float32]:
        """Rows of the matrix as they were."""
        at = self._first_row
        stored = self._work.bytes_of(at + first, at + last, self._columns).view(NUMPY[self._work.dtype])
        return as_float32(stored, self._work.dtype).reshape(last - first, self._columns)

    def _block(self, first: int, last: int, factors: Factors | None, changes: tuple[Any, ...]) -> Block:
        def compute(target: Bytes) -> None:
            before = self.start(first, last)
            after = self._changed(before, first, last, factors, changes).astype(np.float32)
            for rows in self._edit.rows:
                _set_rows(after, rows.ids, rows.values(), first)
            stored = np.ascontiguousarray(as_stored(after, self._work.stored))
            target[:] = stored.reshape(-1).view(np.uint8)
            if self._parts or self._edit.scalings:
                self._tally(before, after, stored, first)

        return Block((last - first) * self._columns * ITEM[self._work.stored], compute)

    def _changed(
        self, before: NDArray[np.float32], first: int, last: int, factors: Factors | None, changes: tuple[Any, ...]
    ) -> NDArray[Any]:
        doras, vectors, added = changes
        if len(vectors) == 1 and vectors[0][0] == 1 and not (doras or added or factors):
            return before.astype(np.float64) * _rows_of(vectors[0][1], first, last)
        if not (doras or vectors or added or factors):
            return before
        weights = before.astype(np.float64)
        total = weights.copy()
        if factors is not None:
            delta = np.empty((last - first, self._columns), np.float32)
            kernel.delta_rows(delta, factors, first)
            total += delta
        for dora in doras:
            total += dora.part.weight * (dora.rows(weights, first, last) - weights)
        for weight, vector in vectors:
            total += weight * (weights * _rows_of(vector, first, last) - weights)
        for weight, vector in added:
            # PEFT multiplies in float32; the scale is in the vector already.
            total += weight * vector.reshape(1, -1)
        return total

    def _tally(self, before: Any, after: Any, stored: Any, first: int) -> None:
        every = max(1, self._rows // TALLIED)
        chosen = np.arange(-(-first // every) * every, first + len(before), every) - first
        if not chosen.size:
            self._work.tally.add(np.zeros(kernel.SUMS), 0, before.size)
            return
        weights = before[chosen].astype(np.float64)
        delta = after[chosen].astype(np.float64) - weights
        moved = as_float32(stored[chosen], self._work.stored).astype(np.float64) - weights
        sums = [(delta**2).sum(), ((moved - delta) ** 2).sum(), np.count_nonzero(moved), (weights**2).sum()]
        self._work.tally.add(np.array(sums, np.float64), weights.size, before.size)


class _Dora:
    """What DoRA makes of a matrix: `m / |W + D| · (W + D)`, the norm taken over each output (arXiv:2402.09353)."""

    def __init__(self, part: Part, matrix: _General) -> None:
        self.part, self._matrix = part, matrix
        if part.magnitude is None:
            raise ValueError("this part has no magnitude")
        self._magnitude = part.magnitude().astype(np.float64).reshape(-1)
        pair = part.pair()
        self._up, self._down = pair.up.astype(np.float64) * pair.scale, pair.down.astype(np.float64)
        self._norms = self._column_norms() if part.across else None

    def rows(self, weights: NDArray[np.float64], first: int, last: int) -> NDArray[np.float64]:
        """Rows of the changed matrix."""
        value = weights + self._delta(first, last)
        if self._norms is not None:
            factor: Any = (self._magnitude / self._norms)[None, :]
        else:
            factor = (self._magnitude[first:last] / np.sqrt((value**2).sum(axis=1)))[:, None]
        changed: NDArray[np.float64] = factor * value
        return changed

    def _delta(self, first: int, last: int) -> NDArray[np.float64]:
        # In float64, as the quotient of two sums that are nearly equal shows each rounding.
        delta: NDArray[np.float64] = self._up[first:last] @ self._down
        return delta

    def _column_norms(self) -> NDArray[np.float64]:
        rows, columns = self._matrix.size
        squares = np.zeros(columns)
        step = self._matrix.step
        for first in range(0, rows, step):
            last = min(first + step, rows)
            value = self._matrix.start(first, last).astype(np.float64) + self._delta(first, last)
            squares += (value**2).sum(axis=0)
        return np.sqrt(squares)


NUMPY: dict[str, Any] = {"F32": np.float32, "BF16": np.uint16, "F16": np.float16, "F64": np.float64}


def _rows_of(vector: NDArray[np.float32], first: int, last: int) -> NDArray[np.float64]:
    """The part of a vector that broadcasts over some rows: all of it over columns, these rows of it else."""
    wide = vector.astype(np.float64)
    return wide if wide.shape[0] == 1 else wide[first:last]


def _set_rows(after: NDArray[np.float32], ids: tuple[int, ...], values: NDArray[np.float32], first: int) -> None:
    for position, row in enumerate(ids):
        if first <= row < first + len(after):
            after[row - first] = values[position]
