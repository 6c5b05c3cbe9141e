"""Sketches tell files apart: never two that are equal, and most that are not."""

import hashlib

import pytest

from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.sketch import PIECE, parsed, sketch_of

SIZE = 10 * PIECE + 7
DATA = hashlib.shake_256(b"weights").digest(SIZE)


def sketch(data: bytes) -> str:
    return sketch_of(len(data), lambda size, at: data[at : at + size])


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_equal_files_have_one_sketch_which_is_64_hex_digits():
    assert sketch(DATA) == sketch(bytes(bytearray(DATA))) == parsed(sketch(DATA))


@pytest.mark.parametrize("at", [0, PIECE - 1, (SIZE - PIECE) // 2, SIZE - PIECE, SIZE - 1])
def test_a_change_at_the_beginning_in_the_middle_and_at_the_end_is_seen(at):
    assert sketch(changed(DATA, at)) != sketch(DATA)


def test_a_change_between_the_pieces_is_not():
    assert sketch(changed(DATA, PIECE + 1)) == sketch(DATA)


def test_files_of_different_sizes_differ_even_where_their_pieces_are_equal():
    assert len({sketch(b"\0" * size) for size in (0, 1, PIECE, SIZE, SIZE + 1)}) == 5


@pytest.mark.parametrize("text", ["", "x" * 64, "A" * 64, "0" * 63, "../" * 20])
def test_anything_else_is_no_sketch(text):
    with pytest.raises(InvalidReference):
        parsed(text)
