"""The loops of `kernel`, as numba compiles them; read there what they compute.

They work on bare pointers and call nothing, so that what numba makes of them runs without numba. A tile is two rows by
`TILE` columns. `down` is packed by tiles of columns, so that its rows do not share cache sets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numba import cfunc, njit, types
from numba.extending import intrinsic

from adapter_registry.tensors.merging.kernel import BF16, F16, F32, TILE

BYTES, FLOATS = types.CPointer(types.uint8), types.CPointer(types.float32)
LONGS, DOUBLES = types.CPointer(types.int64), types.CPointer(types.float64)
COUNT = types.int64

_WRAPPER = re.compile(r"^define [^\n]*@cfunc\..*?^}\n", re.MULTILINE | re.DOTALL)
_compiled: Callable[..., Any] = njit(nogil=True, boundscheck=False, error_model="numpy", _nrt=False)


def _pointer_to(kind: Any) -> Any:
    """Makes a pointer to some type of another pointer."""

    def typed(_context: Any, pointer: Any) -> Any:
        made = types.CPointer(kind)

        def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(made))

        return made(pointer), generate

    return intrinsic(typed)


_words, _floats, _doubles = map(_pointer_to, (types.uint16, types.float32, types.float64))


@intrinsic
def _from(_context: Any, pointer: Any, _index: Any) -> Any:
    """The pointer so many elements further on."""
    return pointer(pointer, types.int64), lambda _, builder, __, args: builder.gep(args[0], [args[1]])


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
def _load(stored, kind, start, count, values):  # type: ignore[no-untyped-def]
    """`count` weights from element `start` on, as float32."""
    if kind == BF16:
        w16 = _from(_words(stored), start)
        for j in range(count):
            values[j] = _float(np.uint32(w16[j]) << np.uint32(16))
    elif kind == F16:
        w16 = _from(_words(stored), start)
        for j in range(count):
            values[j] = _from_half(w16[j])
    elif kind == F32:
        w32 = _from(_floats(stored), start)
        for j in range(count):
            values[j] = w32[j]
    else:
        w64 = _from(_doubles(stored), start)
        for j in range(count):
            values[j] = np.float32(w64[j])


@_compiled
def _store(values, stored, kind, start, count):  # type: ignore[no-untyped-def]
    """`count` float32 values rounded into a stored type, from element `start` on."""
    if kind == BF16:
        w16 = _from(_words(stored), start)
        for j in range(count):
            bits = _bits(values[j])
            # Adding half a step, or one less where the last kept bit is 0, carries exactly when rounding goes up.
            rounded = (bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
            nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            w16[j] = np.uint16(np.uint32(0x7FC0) if nan else rounded)
    elif kind == F16:
        w16 = _from(_words(stored), start)
        for j in range(count):
            w16[j] = _half_bits(values[j])
    elif kind == F32:
        w32 = _from(_floats(stored), start)
        for j in range(count):
            w32[j] = values[j]
    else:
        w64 = _from(_doubles(stored), start)
        for j in range(count):
            w64[j] = np.float64(values[j])


@_compiled
def _product(up, tile, rank, first, last, one):  # type: ignore[no-untyped-def]
    """Two rows of up @ down in one tile of columns, ranks `first` to `last` in order."""
    two = _from(one, TILE)
    for j in range(TILE):
        one[j] = np.float32(0)
        two[j] = np.float32(0)
    other = _from(up, rank)
    for k in range(first, last, 4):
        a0, a1, a2, a3 = up[k], up[k + 1], up[k + 2], up[k + 3]
        b0, b1, b2, b3 = other[k], other[k + 1], other[k + 2], other[k + 3]
        d0, d1 = _from(tile, k * TILE), _from(tile, (k + 1) * TILE)
        d2, d3 = _from(tile, (k + 2) * TILE), _from(tile, (k + 3) * TILE)
        for j in range(TILE):
            one[j] = _fma(a3, d3[j], _fma(a2, d2[j], _fma(a1, d1[j], _fma(a0, d0[j], one[j]))))
            two[j] = _fma(b3, d3[j], _fma(b2, d2[j], _fma(b1, d1[j], _fma(b0, d0[j], two[j]))))


@_compiled
def _delta(up, tile, rank, ends, scales, parts, total, part):  # type: ignore[no-untyped-def]
    """Two rows of Σ s · (up @ down) in one tile of columns; each adapter's product is scaled by itself."""
    first = 0
    for i in range(parts):
        scale = scales[i]
        if i == 0:
            _product(up, tile, rank, first, ends[i], total)
            for j in range(2 * TILE):
                total[j] *= scale
        else:
            _product(up, tile, rank, first, ends[i], part)
            for j in range(2 * TILE):
                total[j] += part[j] * scale
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


def merge_rows(  # type: ignore[no-untyped-def]
    source, target, kind, stored, rows, columns, up, tiles, ends, scales, parts, rank, first, every, sums, scratch
):
    """`merge_kernel.merge_rows`; `up` begins at the first of the rows."""
    total, part = scratch, _from(scratch, 2 * TILE)
    weights, kept = _from(scratch, 4 * TILE), _from(scratch, 5 * TILE)
    for t in range((columns + TILE - 1) // TILE):
        count = min(TILE, columns - t * TILE)
        tile = _from(tiles, t * rank * TILE)
        for row in range(0, rows, 2):
            _delta(_from(up, row * rank), tile, rank, ends, scales, parts, total, part)
            for side in range(min(2, rows - row)):
                start = (row + side) * columns + t * TILE
                delta, sum_ = _from(total, side * TILE), _from(part, side * TILE)
                _load(source, kind, start, count, weights)
                for j in range(count):
                    sum_[j] = weights[j] + delta[j]
                _store(sum_, target, stored, start, count)
                if (first + row + side) % every == 0:
                    _load(target, stored, start, count, kept)
                    _tally(weights, delta, kept, count, sums)


def delta_rows(target, rows, columns, up, tiles, ends, scales, parts, rank, scratch):  # type: ignore[no-untyped-def]
    """`merge_kernel.delta_rows`; `up` begins at the first of the rows."""
    total, part = scratch, _from(scratch, 2 * TILE)
    for t in range((columns + TILE - 1) // TILE):
        count = min(TILE, columns - t * TILE)
        tile = _from(tiles, t * rank * TILE)
        for row in range(0, rows, 2):
            _delta(_from(up, row * rank), tile, rank, ends, scales, parts, total, part)
            for side in range(min(2, rows - row)):
                delta, start = _from(total, side * TILE), (row + side) * columns + t * TILE
                for j in range(count):
                    target[start + j] = delta[j]


def convert(source, kind, target, stored, count, scratch):  # type: ignore[no-untyped-def]
    """`merge_kernel.convert`."""
    for start in range(0, count, TILE):
        some = min(TILE, count - start)
        _load(source, kind, start, some, scratch)
        _store(scratch, target, stored, start, some)


FACTORS = (FLOATS, FLOATS, LONGS, FLOATS, COUNT, COUNT)
SIGNATURES: dict[Callable[..., None], tuple[Any, ...]] = {
    merge_rows: (BYTES, BYTES, *[COUNT] * 4, *FACTORS, COUNT, COUNT, DOUBLES, FLOATS),
    delta_rows: (FLOATS, COUNT, COUNT, *FACTORS, FLOATS),
    convert: (BYTES, COUNT, BYTES, COUNT, COUNT, FLOATS),
}


def assembly() -> list[str]:
    """LLVM assembly of each loop under its own name, without the wrappers that Python would call it by."""
    return [_bare(loop, arguments) for loop, arguments in SIGNATURES.items()]


def _bare(loop: Callable[..., None], arguments: Iterable[Any]) -> str:
    compiled = cfunc(types.void(*arguments), boundscheck=False, error_model="numpy", _nrt=False)(loop)
    text = _WRAPPER.sub("", compiled.inspect_llvm())
    symbol = compiled.native_name.removeprefix("cfunc.")
    # What several loops are made of is in the module of each of them.
    return text.replace("define linkonce_odr ", "define internal ").replace(f"@{symbol}(", f"@{loop.__name__}(")
