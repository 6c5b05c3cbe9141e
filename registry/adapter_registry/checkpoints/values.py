"""Values of tensors without torch: finite, zero, one; equality with a tensor of another float type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from blake3 import blake3

from adapter_registry.checkpoints.header import TensorEntry

BLOCK = 4 << 20
CACHED = 256 << 10
"""Bytes that are looked at at a time, so that looking twice finds them in the processor's cache."""

# dtype -> (unsigned integer of its width, mask of all exponent bits, mask of all bits but the sign).
_FLOATS: dict[str, tuple[Any, int, int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
    "F32": (np.uint32, 0x7F80_0000, 0x7FFF_FFFF),
    "F16": (np.uint16, 0x7C00, 0x7FFF),
    "BF16": (np.uint16, 0x7F80, 0x7FFF),
    "F8_E5M2": (np.uint8, 0x7C, 0x7F),
    "F8_E4M3": (np.uint8, 0x7F, 0x7F),
}
_ONES = {
    "F64": 0x3FF0_0000_0000_0000,
    "F32": 0x3F80_0000,
    "F16": 0x3C00,
    "BF16": 0x3F80,
    "F8_E5M2": 0x3C,
    "F8_E4M3": 0x38,
}

_NUMPY: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
_WIDE = frozenset({*_NUMPY, "BF16"})

FLOATS = frozenset(_FLOATS)
"""Float dtypes whose values are checked."""


@dataclass(frozen=True, slots=True)
class Values:
    """What a tensor holds: how many values are NaN or infinite, and whether all are zero, or all are one."""

    not_finite: int
    all_zero: bool
    all_one: bool


class Look:
    """One look at a float tensor, block by block; bit patterns decide, so no type needs to be converted.

    E4M3 has no infinity: its all-ones pattern is NaN. E5M2 follows IEEE 754.
    """

    def __init__(self, dtype: str) -> None:
        kind, exponent, magnitude = _FLOATS[dtype]
        self._kind, self._exponent, self._magnitude, self._one = kind, exponent, kind(magnitude), _ONES[dtype]
        self._not_finite, self._all_zero, self._all_one = 0, True, True

    def at(self, block: memoryview, *, room: Any) -> None:
        """The next values, at least one of them; `room` is an array of as many bytes, used anew each time."""
        bits = np.frombuffer(block, dtype=self._kind)
        found = np.bitwise_and(bits, self._magnitude, out=room[: bits.nbytes].view(self._kind))
        most = found.max()
        # Patterns with all exponent bits are the largest there are: most blocks need no second look.
        if most >= self._exponent:
            exponent = self._kind(self._exponent)
            self._not_finite += int(np.count_nonzero((found & exponent) == exponent))
        self._all_zero = self._all_zero and not most
        self._all_one = self._all_one and bool(bits[0] == self._one) and bool((bits == self._kind(self._one)).all())

    def values(self) -> Values:
        """What was seen."""
        return Values(self._not_finite, self._all_zero, self._all_one)


def examine(stream: BinaryIO, entry: TensorEntry) -> Values:
    """Read a float tensor in blocks."""
    look = Look(entry.dtype)
    stream.seek(entry.start)
    left = entry.end - entry.start
    buffer, room = memoryview(bytearray(min(CACHED, left))), np.empty(min(CACHED, left), dtype=np.uint8)
    while left:
        read = _filled(stream, buffer[: min(CACHED, left)], entry)
        left -= read
        look.at(buffer[:read], room=room)
    return look.values()


def _filled(stream: BinaryIO, view: memoryview, entry: TensorEntry) -> int:
    """Fill `view`; its length."""
    done = 0
    while done < len(view):
        read = stream.readinto(view[done:])  # type: ignore[attr-defined]  # every stream of ours has it
        if not read:
            raise EOFError(entry.name)
        done += read
    return done


def digest_as(stream: BinaryIO, entry: TensorEntry, dtype: str) -> str | None:
    """BLAKE3-256 of a tensor's bytes as they would be in `dtype`; None when that would round them.

    F64, F32, F16 and BF16 are converted into each other; of any other dtype only its own bytes are known.
    """
    same = dtype == entry.dtype
    if not same and not {dtype, entry.dtype} <= _WIDE:
        return None
    digest = blake3()
    stream.seek(entry.start)
    left = entry.end - entry.start
    while left:
        block = stream.read(min(BLOCK, left))
        if not block:
            raise EOFError(entry.name)
        left -= len(block)
        converted = block if same else _exactly(block, entry.dtype, dtype)
        if converted is None:
            return None
        digest.update(converted)
    return str(digest.hexdigest())


def _exactly(block: bytes, source: str, target: str) -> bytes | None:
    wide = _as_float64(block, source)
    with np.errstate(over="ignore"):
        if target == "BF16":
            bits = wide.astype(np.float32).view(np.uint32)
            narrow = (bits >> np.uint32(16)).astype(np.uint16).tobytes()
        else:
            narrow = wide.astype(_NUMPY[target]).tobytes()
    return narrow if np.array_equal(_as_float64(narrow, target), wide) else None


def _as_float64(block: bytes, dtype: str) -> Any:
    if dtype == "BF16":
        bits = np.frombuffer(block, dtype=np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).astype(np.float64)
    return np.frombuffer(block, dtype=_NUMPY[dtype]).astype(np.float64)
