"""The loop that a merge spends its time in: weights plus low-rank deltas, rounded once, in tiles that stay in cache.

For each row and column it computes `round(W + Σ s · (up @ down))`. Each product is summed in float32 from the first
rank to the last, by fused multiply-add: the order in which a BLAS sums a small inner dimension, so that the bits are
those of `torch.matmul` (up to rank 192, where it sums in one go). The scale is applied by a rounded multiplication and
the sum is rounded once to the type that is stored, to nearest with ties to even, as PEFT's merge does.

A tile is two rows by `TILE` columns. `down` is packed by tiles of columns, so that its rows do not share cache sets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

TILE = 512
"""Columns computed at once: sixteen ranks of them are 32 KiB of `down`."""
STEP = 4
"""Ranks taken in one pass over a tile; factors are padded with zeros to a multiple of it."""
F32, BF16, F16, F64 = 0, 1, 2, 3
"""Types of weights, as the kernel is told them."""
SUMS = 4
"""Figures about what the stored type keeps: Σ D², Σ (kept − D)², weights that moved, Σ W²."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled without the interpreter's lock; kept on disk beside the package, else in the user's cache."""
    try:
        return cast("Callable[..., Any]", njit(cache=True, nogil=True, boundscheck=False)(function))
    except RuntimeError:  # neither of both can be written
        return cast("Callable[..., Any]", njit(nogil=True, boundscheck=False)(function))


@intrinsic
def _fma(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    """A · b + c, rounded once."""
    return types.float32(types.float32, types.float32, types.float32), lambda _, builder, __, args: builder.fma(*args)


@intrinsic
def _bits(_context: Any, _value: Any) -> Any:
    """The bits of a float32."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


@intrinsic
def _float(_context: Any, _value: Any) -> Any:
    """The float32 that has these bits."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate


@intrinsic
def _half_bits(_context: Any, _value: Any) -> Any:
    """A float32 rounded to float16, as its bits."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        from llvmlite import ir  # noqa: PLC0415  needed while compiling only

        half = builder.fptrunc(args[0], ir.HalfType())
        return builder.bitcast(half, context.get_value_type(types.uint16))

    return types.uint16(types.float32), generate


@intrinsic
def _from_half(_context: Any, _value: Any) -> Any:
    """The float32 that equals a float16 given by its bits."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        from llvmlite import ir  # noqa: PLC0415  needed while compiling only

        half = builder.bitcast(args[0], ir.HalfType())
        return builder.fpext(half, context.get_value_type(types.float32))

    return types.float32(types.uint16), generate


@_compiled
def _load(words, kind, start, count, values):  # type: ignore[no-untyped-def]
    """`count` weights from element `start` on, as float32."""
    if kind == BF16:
        w16 = words.view(np.uint16)[start : start + count]
        for j in range(count):
            values[j] = _float(np.uint32(w16[j]) << np.uint32(16))
    elif kind == F16:
        w16 = words.view(np.uint16)[start : start + count]
        for j in range(count):
            values[j] = _from_half(w16[j])
    elif kind == F32:
        w32 = words.view(np.float32)[start : start + count]
        for j in range(count):
            values[j] = w32[j]
    else:
        w64 = words.view(np.float64)[start : start + count]
        for j in range(count):
            values[j] = np.float32(w64[j])


@_compiled
def _store(values, words, kind, start, count):  # type: ignore[no-untyped-def]
    """`count` float32 values rounded into a stored type, from element `start` on."""
    if kind == BF16:
        w16 = words.view(np.uint16)[start : start + count]
        for j in range(count):
            bits = _bits(values[j])
            # Adding half a step, or one less where the last kept bit is 0, carries exactly when rounding goes up.
            rounded = (bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
            nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            w16[j] = np.uint16(np.uint32(0x7FC0) if nan else rounded)
    elif kind == F16:
        w16 = words.view(np.uint16)[start : start + count]
        for j in range(count):
            w16[j] = _half_bits(values[j])
    elif kind == F32:
        w32 = words.view(np.float32)[start : start + count]
        for j in range(count):
            w32[j] = values[j]
    else:
        w64 = words.view(np.float64)[start : start + count]
        for j in range(count):
            w64[j] = values[j]


@_compiled
def _product(up, tile, first, last, row, one, two):  # type: ignore[no-untyped-def]
    """Rows `row` and `row + 1` of up @ down in one tile of columns, ranks `first` to `last` in order."""
    count = one.shape[0]
    for j in range(count):
        one[j] = np.float32(0)
        two[j] = np.float32(0)
    for k in range(first, last, 4):
        a0, a1, a2, a3 = up[row, k], up[row, k + 1], up[row, k + 2], up[row, k + 3]
        b0, b1, b2, b3 = up[row + 1, k], up[row + 1, k + 1], up[row + 1, k + 2], up[row + 1, k + 3]
        d0, d1, d2, d3 = tile[k], tile[k + 1], tile[k + 2], tile[k + 3]
        for j in range(count):
            one[j] = _fma(a3, d3[j], _fma(a2, d2[j], _fma(a1, d1[j], _fma(a0, d0[j], one[j]))))
            two[j] = _fma(b3, d3[j], _fma(b2, d2[j], _fma(b1, d1[j], _fma(b0, d0[j], two[j]))))


@_compiled
def _delta(up, tile, ends, scales, row, total, part):  # type: ignore[no-untyped-def]
    """Two rows of Σ s · (up @ down) in one tile of columns; each adapter's product is scaled by itself."""
    first = 0
    for i in range(ends.shape[0]):
        scale = scales[i]
        if i == 0:
            _product(up, tile, first, ends[i], row, total[0], total[1])
            for j in range(total.shape[1]):
                total[0, j] *= scale
                total[1, j] *= scale
        else:
            _product(up, tile, first, ends[i], row, part[0], part[1])
            for j in range(total.shape[1]):
                total[0, j] += part[0, j] * scale
                total[1, j] += part[1, j] * scale
        first = ends[i]


@_compiled
def _tally(weights, delta, kept, count, sums):  # type: ignore[no-untyped-def]
    """Add one row's figures to `sums`."""
    for j in range(count):
        weight, added = np.float64(weights[j]), np.float64(delta[j])
        moved = np.float64(kept[j]) - weight
        sums[0] += added * added
        sums[1] += (moved - added) * (moved - added)
        sums[2] += 1.0 if moved != 0.0 else 0.0
        sums[3] += weight * weight


@_compiled
def merge_rows(source, target, kinds, columns, factors, place, sums):  # type: ignore[no-untyped-def]
    """Rows of `round(W + Σ s · (up @ down))`.

    Args:
        source: bytes of the rows of W.
        target: bytes to write the rows to.
        kinds: types of both, `BF16` or another.
        columns: of a row.
        factors: (up, tiles, ends, scales): `up` (rows + 1, R) of the whole matrix, `tiles` (n, R, TILE) of `down`,
            where the ranks of each adapter end, and its scale.
        place: number of the first of these rows in the matrix; each row whose number the second divides is tallied.
        sums: (SUMS,) float64, added to.
    """
    up, tiles, ends, scales = factors
    (kind, stored), (first, every) = kinds, place
    rows = source.shape[0] // (columns * (2 if kind in (BF16, F16) else 8 if kind == F64 else 4))
    total, part = np.empty((2, TILE), np.float32), np.empty((2, TILE), np.float32)
    weights, kept = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for t in range(tiles.shape[0]):
        count = min(TILE, columns - t * TILE)
        for row in range(0, rows, 2):
            _delta(up, tiles[t], ends, scales, first + row, total, part)
            for side in range(min(2, rows - row)):
                start = (row + side) * columns + t * TILE
                _load(source, kind, start, count, weights)
                for j in range(count):
                    part[side, j] = weights[j] + total[side, j]
                _store(part[side], target, stored, start, count)
                if (first + row + side) % every == 0:
                    _load(target, stored, start, count, kept)
                    _tally(weights, total[side], kept, count, sums)


@_compiled
def delta_rows(target, factors, first):  # type: ignore[no-untyped-def]
    """Rows of `Σ s · (up @ down)` alone, from row `first` of the matrix on, into a float32 array."""
    up, tiles, ends, scales = factors
    rows, columns = target.shape
    total, part = np.empty((2, TILE), np.float32), np.empty((2, TILE), np.float32)
    for t in range(tiles.shape[0]):
        count = min(TILE, columns - t * TILE)
        for row in range(0, rows, 2):
            _delta(up, tiles[t], ends, scales, first + row, total, part)
            for side in range(min(2, rows - row)):
                target[row + side, t * TILE : t * TILE + count] = total[side, :count]


@_compiled
def convert(source, kind, target, stored):  # type: ignore[no-untyped-def]
    """Weights of one type rounded into another."""
    size = 2 if kind in (BF16, F16) else 8 if kind == F64 else 4
    values = np.empty(TILE, np.float32)
    for start in range(0, source.shape[0] // size, TILE):
        count = min(TILE, source.shape[0] // size - start)
        _load(source, kind, start, count, values)
        _store(values, target, stored, start, count)
