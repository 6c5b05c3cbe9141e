"""Tensors of a safetensors file as arrays, and float32 back into a stored type with one rounding."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.checkpoints.header import Header, TensorEntry
from adapter_registry.domain.errors import Unsupported

Float32 = NDArray[np.float32]

_STORED: Mapping[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
FLOATS = frozenset(_STORED)
"""Types that arithmetic is defined for here."""
COUNT = "I64"
"""Type of counts, as batch normalisation keeps one: whole numbers, which are kept and never added up."""


class WeightFile:
    """A safetensors file mapped into memory: pages are read as they are needed and can be dropped again."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.entries: Mapping[str, TensorEntry] = {entry.name: entry for entry in header.tensors}
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the map; arrays that are views of it keep it alive until they are gone."""
        try:
            self._map.close()
        except BufferError:
            return

    def raw(self, name: str) -> NDArray[np.uint8]:
        """A view of a tensor's bytes, whatever its type."""
        entry = self.entries[name]
        return np.frombuffer(self._map, dtype=np.uint8, count=entry.end - entry.start, offset=entry.start)

    def stored(self, name: str) -> NDArray[Any]:
        """A view of a tensor in its stored type; bfloat16 shows as the uint16 of its bits.

        Raises:
            Unsupported: it is of no float type that arithmetic is defined for here.
        """
        entry = self.entries[name]
        kind = _STORED.get(entry.dtype)
        if kind is None:
            raise Unsupported(
                f"{self.path.name}: {name} is {entry.dtype}; arithmetic takes {', '.join(_STORED)}. Nothing was "
                "written. Use an unquantised copy of these weights."
            )
        count = (entry.end - entry.start) // np.dtype(kind).itemsize
        flat = np.frombuffer(self._map, dtype=kind, count=count, offset=entry.start)
        return flat.reshape(entry.shape)

    def count(self, name: str) -> NDArray[np.int64]:
        """A tensor of type COUNT."""
        return self.raw(name).view(np.int64).reshape(self.entries[name].shape)

    def array(self, name: str) -> Float32:
        """A tensor as float32: a view where it is stored so, else a copy."""
        return as_float32(self.stored(name), self.entries[name].dtype)


def as_float32(stored: NDArray[Any], dtype: str) -> Float32:
    """What `stored` returns, as float32; exact but for float64."""
    if dtype == "BF16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32, copy=False)


def as_stored(values: Float32, dtype: str) -> NDArray[Any]:
    """float32 rounded once, to nearest with ties to even, into a stored type; bfloat16 as the uint16 of its bits.

    A count is stored as it is.

    NaN stays NaN; what is too large for float16 becomes infinite, as IEEE 754 has it.
    """
    if dtype == COUNT:
        return values
    if dtype != "BF16":
        with np.errstate(over="ignore"):
            return values.astype(_STORED[dtype], copy=False)
    bits = np.ascontiguousarray(values).view(np.uint32)
    # Adding half a step, or one less where the last kept bit is 0, carries exactly when rounding goes up.
    rounded = (bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))) >> np.uint32(16)
    nan = np.isnan(values)
    if nan.any():
        rounded[nan] = (bits[nan] >> np.uint32(16)) | np.uint32(0x40)
    return rounded.astype(np.uint16)
