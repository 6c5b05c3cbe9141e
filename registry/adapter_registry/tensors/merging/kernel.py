"""The loop that a merge spends its time in: weights plus low-rank deltas, rounded once, in tiles that stay in cache.

For each row and column it computes `round(W + Σ s · (up @ down))`. Each product is summed in float32 from the first
rank to the last, by fused multiply-add: the order in which a BLAS sums a small inner dimension, so that the bits are
those of `torch.matmul` (up to rank 192, where it sums in one go). The scale is applied by a rounded multiplication and
the sum is rounded once to the type that is stored, to nearest with ties to even, as PEFT's merge does.

The loops are in `loops`, compiled by numba once on each machine.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.tensors.merging.machine_code import loaded

TILE = 512
"""Columns computed at once: sixteen ranks of them are 32 KiB of `down`."""
STEP = 4
"""Ranks taken in one pass over a tile; factors are padded with zeros to a multiple of it."""
F32, BF16, F16, F64 = 0, 1, 2, 3
"""Types of weights, as the kernel is told them."""
SUMS = 4
"""Figures about what the stored type keeps: Σ D², Σ (kept − D)², weights that moved, Σ W²."""

Bytes = NDArray[np.uint8]
Factors = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]
"""(up, tiles, ends, scales): `up` (rows + 1, R) of the whole matrix, `tiles` (n, R, TILE) of `down`, where the ranks of
each adapter end, and its scale; each contiguous."""

_ITEM = {F32: 4, BF16: 2, F16: 2, F64: 8}
_LOOPS = ("merge_rows", "delta_rows", "convert")
_loading = threading.Lock()
_own = threading.local()


def load() -> None:
    """Have the loops at hand; the first call on a machine compiles them, which takes some seconds.

    Raises:
        Unsupported: what compiles them is not installed.
    """
    with _loading:
        _loops()


@cache
def _loops() -> dict[str, Callable[..., None]]:
    source = Path(__file__).read_bytes() + Path(__file__).with_name("loops.py").read_bytes()
    address = loaded("merge", source, _assembly)
    return {name: _function(address(name)) for name in _LOOPS}


def _assembly() -> list[str]:
    from adapter_registry.tensors.merging.loops import assembly  # noqa: PLC0415  numba takes its time

    return assembly()


def _function(address: int) -> Callable[..., None]:
    """A loop by its address. It is told pointers and numbers, and first where to put a value and an error: nowhere."""
    function, nowhere = ctypes.CFUNCTYPE(ctypes.c_int32)(address), ctypes.create_string_buffer(16)

    def call(*arguments: Any) -> None:
        given = (each if isinstance(each, ctypes.c_void_p) else ctypes.c_int64(each) for each in arguments)
        function(ctypes.byref(nowhere), ctypes.byref(nowhere, 8), *given)

    return call


def _at(array: NDArray[Any], offset: int = 0) -> ctypes.c_void_p:
    """Where an array begins, or its row `offset`."""
    return ctypes.c_void_p(array.ctypes.data + offset * array.strides[0])


def _scratch() -> ctypes.c_void_p:
    """Room for a tile of this thread's: a sum, a product, weights, and what was kept of them."""
    if not hasattr(_own, "scratch"):
        _own.scratch = np.empty((6, TILE), np.float32)
    return _at(_own.scratch)


def _factors(factors: Factors, first: int) -> tuple[Any, ...]:
    up, tiles, ends, scales = factors
    return _at(up, first), _at(tiles), _at(ends), _at(scales), len(ends), up.shape[1]


def merge_rows(
    source: Bytes,
    target: Bytes,
    kinds: tuple[int, int],
    factors: Factors,
    *,
    columns: int,
    place: tuple[int, int],
    sums: NDArray[np.float64],
) -> None:
    """Rows of `round(W + Σ s · (up @ down))`.

    Args:
        source: bytes of the rows of W.
        target: bytes to write the rows to.
        kinds: types of both, `BF16` or another.
        factors: of the whole matrix.
        columns: of a row.
        place: number of the first of these rows in the matrix; each row whose number the second divides is tallied.
        sums: (SUMS,), added to.
    """
    load()
    (kind, stored), (first, every) = kinds, place
    size = len(source) // (columns * _ITEM[kind]), columns
    told = *_factors(factors, first), first, every
    _loops()["merge_rows"](_at(source), _at(target), kind, stored, *size, *told, _at(sums), _scratch())


def delta_rows(target: NDArray[np.float32], factors: Factors, first: int) -> None:
    """Rows of `Σ s · (up @ down)` alone, from row `first` of the matrix on, into a contiguous array."""
    load()
    _loops()["delta_rows"](_at(target), *target.shape, *_factors(factors, first), _scratch())


def convert(source: Bytes, kind: int, target: Bytes, stored: int) -> None:
    """Weights of one type rounded into another."""
    load()
    _loops()["convert"](_at(source), kind, _at(target), stored, len(source) // _ITEM[kind], _scratch())
