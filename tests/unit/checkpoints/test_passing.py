"""Weights that pass in pieces of any length are seen as they are when they lie still."""

from __future__ import annotations

import io
import json
import random
import struct

import numpy as np
import pytest

from adapter_registry.checkpoints import passing, values
from adapter_registry.checkpoints.header import read
from adapter_registry.checkpoints.passing import Passing, Weights
from adapter_registry.domain.digest import Digest

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E5M2": 1, "F8_E4M3": 1, "I64": 8, "U8": 1}


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    table, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in tensors.values())


@pytest.fixture(scope="module")
def mixed() -> bytes:
    """Tensors of every kind: numbers, NaN, infinity, zeros, ones, none at all, longer and shorter than a block."""
    chance = np.random.default_rng(3)
    long = chance.standard_normal(3 * values.CACHED // 4 + 5).astype(np.float32)
    long[-1] = np.nan
    tensors = {
        "long": ("F32", [long.size], long.tobytes()),
        "none": ("F32", [0, 4], b""),
        "ones": ("F16", [3], np.ones(3, dtype=np.float16).tobytes()),
        "zeros": ("F64", [2, 2], np.zeros(4).tobytes()),
        "endless": ("F32", [2], np.array([1, np.inf], dtype=np.float32).tobytes()),
    }
    tensors |= {f"of {dtype}": (dtype, [13], chance.bytes(13 * width)) for dtype, width in WIDTHS.items()}
    return safetensors({**tensors, "last": ("F32", [0], b"")})


def passed(data: bytes, lengths, *, size: int | None = None) -> Weights | None:
    """`data` in pieces of these lengths, over and over."""
    seen, at, turn = Passing(len(data) if size is None else size), 0, 0
    while at < len(data):
        seen.update(memoryview(data)[at : at + lengths[turn % len(lengths)]])
        at += lengths[turn % len(lengths)]
        turn += 1
    return seen.weights()


@pytest.mark.parametrize(
    "lengths", [[1 << 30], [values.CACHED], [values.CACHED + 1], [7, 65_537], [100, 1, 3, 99_999], [4093]], ids=str
)
def test_what_is_seen_is_what_reading_finds(mixed, lengths):
    header = read(io.BytesIO(mixed), size=len(mixed), file="x")
    found = {e.name: values.examine(io.BytesIO(mixed), e) for e in header.tensors if e.dtype in values.FLOATS}
    assert passed(mixed, lengths) == Weights(header, found)
    assert found["long"].not_finite == found["endless"].not_finite == 1
    assert [found[name].all_zero for name in ("ones", "zeros", "none")] == [False, True, True]
    assert "of I64" not in found


def test_byte_by_byte():
    data = safetensors({"a": ("F32", [2], struct.pack("<2f", 1, 0)), "b": ("BF16", [1], b"\x80\x3f")})
    seen = passed(data, [1])
    assert seen is not None
    assert (seen.values["a"].all_one, seen.values["b"].all_one) == (False, True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:20],
        lambda data: b"",
        lambda data: b"\x80\x04" + data,
        lambda data: struct.pack("<Q", 1 << 62) + data[8:],
        lambda data: data.replace(b'"F32"', b'"F99"', 1),
        lambda data: b"<html>" * 1000,
    ],
    ids=["cut", "too long", "header cut", "empty", "pickle", "endless header", "unknown type", "a page"],
)
@pytest.mark.parametrize("lengths", [[1 << 30], [11]], ids=str)
def test_of_what_is_no_sound_file_nothing_is_known(mixed, damage, lengths):
    assert passed(damage(mixed[:3000] if lengths == [11] else mixed), lengths) is None


def test_of_a_file_of_another_size_nothing_is_known(mixed):
    assert passed(mixed, [1 << 20], size=len(mixed) + 1) is None


def test_any_bytes_at_all_do_no_harm():
    chance = random.Random(5)
    for _ in range(200):
        assert passed(chance.randbytes(chance.randrange(200)), [chance.randrange(1, 30)]) is None


def test_what_was_seen_longest_ago_is_forgotten_first(mixed, monkeypatch):
    seen = passed(mixed, [1 << 20])
    assert seen is not None
    monkeypatch.setattr(passing, "REMEMBERED", 2 * len(seen.header.tensors))
    first, second, third = (Digest(f"sha256:{digit * 64}") for digit in "123")
    for digest in (first, second, first, third):
        passing.remember(digest, seen)
    assert passing.remembered(first) == passing.remembered(third) == seen
    assert passing.remembered(second) is None
