"""What a tensor holds is found wherever in it, and however large, in every float type."""

from __future__ import annotations

import io

import numpy as np
import pytest

from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.values import CACHED, Values, examine

# dtype -> (its bits as integers, patterns of infinity and NaN, the largest finite one, one, minus zero).
PATTERNS = {
    "F64": (np.uint64, (0x7FF0 << 48, 0xFFF0 << 48, (0x7FF8 << 48) + 1), (0x7FF0 << 48) - 1, 0x3FF0 << 48, 1 << 63),
    "F32": (np.uint32, (0x7F800000, 0xFF800000, 0x7FC00001), 0x7F7FFFFF, 0x3F800000, 1 << 31),
    "F16": (np.uint16, (0x7C00, 0xFC00, 0x7E01), 0x7BFF, 0x3C00, 1 << 15),
    "BF16": (np.uint16, (0x7F80, 0xFF80, 0x7FC1), 0x7F7F, 0x3F80, 1 << 15),
    "F8_E5M2": (np.uint8, (0x7C, 0xFC, 0x7F), 0x7B, 0x3C, 1 << 7),
    "F8_E4M3": (np.uint8, (0x7F, 0xFF), 0x7E, 0x38, 1 << 7),
}


def examined(dtype: str, bits: np.ndarray) -> Values:
    before = b"other tensors"
    data = bits.astype(PATTERNS[dtype][0]).tobytes()
    entry = TensorEntry(name="t", dtype=dtype, shape=(bits.size,), start=len(before), end=len(before) + len(data))
    return examine(io.BytesIO(before + data + b"and more"), entry)


@pytest.fixture(params=sorted(PATTERNS))
def dtype(request) -> str:
    return request.param


def lengths(dtype: str) -> tuple[int, ...]:
    block = CACHED // np.dtype(PATTERNS[dtype][0]).itemsize
    return (1, 7, block - 1, block, block + 1, 3 * block + 5)


def test_values_that_are_not_finite_are_counted_wherever_they_are(dtype):
    kind, wrong, largest, *_ = PATTERNS[dtype]
    for length in lengths(dtype):
        for place in {0, length // 2, length - 1}:
            bits = np.full(length, largest, dtype=kind)
            for pattern in wrong:
                bits[place] = pattern
                assert examined(dtype, bits) == Values(1, all_zero=False, all_one=False)
        assert examined(dtype, np.full(length, wrong[-1], dtype=kind)).not_finite == length


def test_the_largest_finite_value_is_finite(dtype):
    kind, _, largest, *_ = PATTERNS[dtype]
    assert examined(dtype, np.full(9, largest, dtype=kind)).not_finite == 0


def test_zeros_of_either_sign_are_zero_until_one_value_is_not(dtype):
    kind, _, _, one, minus = PATTERNS[dtype]
    for length in lengths(dtype):
        bits = np.zeros(length, dtype=kind)
        bits[:: 2 if length > 1 else 1] = minus
        assert examined(dtype, bits) == Values(0, all_zero=True, all_one=False)
        bits[-1] = one
        assert examined(dtype, bits) == Values(0, all_zero=False, all_one=length == 1)


def test_ones_are_one_until_one_value_is_not(dtype):
    kind, _, largest, one, _ = PATTERNS[dtype]
    for length in lengths(dtype):
        bits = np.full(length, one, dtype=kind)
        assert examined(dtype, bits) == Values(0, all_zero=False, all_one=True)
        bits[-1] = largest
        assert examined(dtype, bits) == Values(0, all_zero=False, all_one=False)


def test_a_tensor_of_no_values_is_zero_and_one(dtype):
    assert examined(dtype, np.zeros(0)) == Values(0, all_zero=True, all_one=True)


def test_a_tensor_that_is_cut_short_is_an_error():
    entry = TensorEntry(name="t", dtype="F32", shape=(4,), start=0, end=16)
    with pytest.raises(EOFError):
        examine(io.BytesIO(b"\0" * 15), entry)
