"""SHA-256 of two streams at once by one core.

Each of the processor's rounds waits for the one before it. A second stream fits into these gaps, so that two take
little more time than one. Where the processor has no instructions for it, or the code is not right, hashlib computes
one after the other.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.tensors.merging.machine_code import loaded

Bytes = NDArray[np.uint8]
BLOCK = 64
_START = np.array(
    # As the instructions have them: F, E, B, A, then H, G, D, C.
    [0x9B05688C, 0x510E527F, 0xBB67AE85, 0x6A09E667, 0x5BE0CD19, 0x1F83D9AB, 0xA54FF53A, 0x3C6EF372],
    np.uint32,
)
_ORDER = (3, 2, 7, 6, 1, 0, 5, 4)
"""Where A to H are among those."""

Rounds = Callable[..., None]


class Sha256:
    """The digest of one stream."""

    def __init__(self) -> None:
        self._rounds = _rounds()
        self._plain = None if self._rounds else hashlib.sha256()
        self._state, self._tail, self._size = _START.copy(), b"", 0

    def update(self, data: Bytes) -> None:
        """Add bytes."""
        if self._plain is not None:
            self._plain.update(data.data)
        else:
            self._ended(self._begun(data))

    def hexdigest(self) -> str:
        """Of everything so far, as 64 hex digits; nothing may be added after."""
        if self._plain is not None:
            return self._plain.hexdigest()
        size, padding = self._size, b"\x80" + bytes((55 - self._size) % BLOCK)
        self.update(np.frombuffer(padding + struct.pack(">Q", 8 * size), np.uint8))
        return struct.pack(">8I", *(int(self._state[each]) for each in _ORDER)).hex()

    def _begun(self, data: Bytes) -> Bytes:
        """Fill up the block that was begun before; what is left then begins a block."""
        self._size += len(data)
        if self._tail:
            missing = BLOCK - len(self._tail)
            self._tail, data = self._tail + data[:missing].tobytes(), data[missing:]
            if len(self._tail) == BLOCK:
                block, self._tail = np.frombuffer(self._tail, np.uint8), b""
                self._blocks(block, 1)
        return data

    def _ended(self, data: Bytes) -> None:
        """Whole blocks, and the beginning of the next."""
        count = len(data) // BLOCK
        self._blocks(data, count)
        self._tail += data[count * BLOCK :].tobytes()

    def _blocks(self, data: Bytes, count: int) -> None:
        if count and self._rounds:
            self._rounds(1, count, self._state, data)


def update_both(one: Sha256, first: Bytes, other: Sha256, second: Bytes) -> int:
    """Add as many bytes to both as the shorter has; how many."""
    count = min(len(first), len(second))
    first, second = first[:count], second[:count]
    if one._rounds is None:
        one.update(first)
        other.update(second)
        return count
    first, second = one._begun(first), other._begun(second)
    blocks = min(len(first), len(second)) // BLOCK
    if blocks:
        one._rounds(2, blocks, one._state, other._state, first, second)
    one._ended(first[blocks * BLOCK :])
    other._ended(second[blocks * BLOCK :])
    return count


@cache
def _rounds() -> Rounds | None:
    """Takes (streams, blocks, a state for each, bytes of each); None where this processor cannot, or gets it wrong."""
    import llvmlite.binding as llvm  # noqa: PLC0415  absent without the extra

    if not llvm.get_host_cpu_features().get("sha"):
        return None
    address = loaded("sha256", Path(__file__).with_name("sha256_rounds.py").read_bytes(), _assembly)
    functions = {
        streams: ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (2 * streams), ctypes.c_int64)(address(f"rounds{streams}"))
        for streams in (1, 2)
    }

    def rounds(streams: int, blocks: int, *arrays: NDArray[Any]) -> None:
        functions[streams](*(each.ctypes.data for each in arrays), blocks)

    return rounds if _right(rounds) else None


def _assembly() -> list[str]:
    from adapter_registry.tensors.merging.sha256_rounds import assembly  # noqa: PLC0415  where it is not compiled yet

    return assembly()


def _right(rounds: Rounds) -> bool:
    """Whether two blocks of two streams, and one of one, give what hashlib gives."""
    data = [np.frombuffer(bytes(range(each, each + BLOCK - 9)) + bytes(9), np.uint8).copy() for each in (0, 100)]
    for each in data:
        each[-9:] = np.frombuffer(b"\x80" + struct.pack(">Q", 8 * (BLOCK - 9)), np.uint8)
    states = [_START.copy(), _START.copy(), _START.copy()]
    rounds(2, 1, states[0], states[1], *data)
    rounds(1, 1, states[2], data[0])
    found = [struct.pack(">8I", *(int(state[each]) for each in _ORDER)) for state in states]
    wanted = [hashlib.sha256(each[:-9].tobytes()).digest() for each in data]
    return found == [*wanted, wanted[0]]
