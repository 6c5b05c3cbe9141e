"""Values of tensors without torch: finite, zero, one; equality with a tensor of another float type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from blake3 import blake3

from adapter_registry.checkpoints.header import TensorEntry

BLOCK = 4 << 20

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

FLOATS = frozenset(_FLOATS)
"""Float dtypes whose values are checked."""


@dataclass(frozen=True, slots=True)
class Values:
    """What a tensor holds: how many values are NaN or infinite, and whether all are zero, or all are one."""

    not_finite: int
    all_zero: bool
    all_one: bool


def examine(stream: BinaryIO, entry: TensorEntry) -> Values:
    """Read a float tensor in blocks; bit patterns decide, so no type needs to be converted.

    E4M3 has no infinity: its all-ones pattern is NaN. E5M2 follows IEEE 754.
    """
    kind, exponent, magnitude = _FLOATS[entry.dtype]
    not_finite, zero, one = 0, True, True
    stream.seek(entry.start)
    left = entry.end - entry.start
    while left:
        block = stream.read(min(BLOCK, left))
        if not block:
            raise EOFError(entry.name)
        left -= len(block)
        bits = np.frombuffer(block, dtype=kind)
        largest = bits & kind(magnitude)
        not_finite += int(np.count_nonzero((largest & kind(exponent)) == kind(exponent)))
        zero = zero and not largest.any()
        one = one and bool((bits == kind(_ONES[entry.dtype])).all())
    return Values(not_finite, zero, one)


def digest_as(stream: BinaryIO, entry: TensorEntry, dtype: str) -> str | None:
    """BLAKE3-256 of a tensor's bytes as they would be in `dtype`; None when that would lose something.

    Only F32 -> BF16, F32 -> F16 and the tensor's own dtype are known.
    """
    stream.seek(entry.start)
    data = stream.read(entry.end - entry.start)
    if dtype == entry.dtype:
        return str(blake3(data).hexdigest())
    if entry.dtype != "F32" or dtype not in ("BF16", "F16"):
        return None
    if dtype == "BF16":
        bits = np.frombuffer(data, dtype=np.uint32)
        if (bits & np.uint32(0xFFFF)).any():
            return None
        return str(blake3((bits >> np.uint32(16)).astype(np.uint16).tobytes()).hexdigest())
    wide = np.frombuffer(data, dtype=np.float32)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float16)
    if not np.array_equal(narrow.astype(np.float32), wide):
        return None
    return str(blake3(narrow.tobytes()).hexdigest())
