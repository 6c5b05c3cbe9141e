"""The rounds of SHA-256 for several streams at once, as LLVM assembly with x86's instructions for them.

FIPS 180-4, §6.2.2; what `sha256rnds2`, `sha256msg1` and `sha256msg2` compute is in Intel's Software Developer's Manual,
volume 2B. A state is two vectors: (F, E, B, A) and (H, G, D, C), lowest lane first.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

I32, I64 = ir.IntType(32), ir.IntType(64)
WORDS, BYTES = ir.VectorType(I32, 4), ir.VectorType(ir.IntType(8), 16)
BIG_ENDIAN = (3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12)


def _constants() -> list[int]:
    """The first 32 bits of the fractional parts of the cube roots of the first 64 primes."""
    primes = [n for n in range(2, 312) if all(n % p for p in range(2, int(n**0.5) + 1))]
    return [_cube_root(p << 96) & 0xFFFFFFFF for p in primes]


def _cube_root(number: int) -> int:
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle)
    return low


def assembly() -> list[str]:
    """Modules with `rounds1` and `rounds2`: states, bytes, and how many blocks of them, at least one."""
    return [str(_Rounds(streams).module) for streams in (1, 2)]


class _Rounds:
    """One function: a loop over blocks, each with all rounds of every stream."""

    def __init__(self, streams: int) -> None:
        self.module, self._constants = ir.Module(name=f"rounds{streams}"), _constants()
        self._two, self._first, self._second = (
            ir.Function(self.module, ir.FunctionType(WORDS, [WORDS] * count), f"llvm.x86.sha256{name}")
            for name, count in (("rnds2", 3), ("msg1", 2), ("msg2", 2))
        )
        arguments = [WORDS.as_pointer()] * streams + [BYTES.as_pointer()] * streams + [I64]
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), f"rounds{streams}")
        states, data, count = function.args[:streams], function.args[streams:-1], function.args[-1]
        entry, loop, done = (function.append_basic_block(name) for name in ("entry", "loop", "done"))
        self._build = ir.IRBuilder(entry)
        begun = [[self._loaded(state, I64(half), 4) for half in (0, 1)] for state in states]
        self._build.branch(loop)
        self._build.position_at_end(loop)
        block = self._build.phi(I64)
        before = [[self._build.phi(WORDS) for _ in (0, 1)] for _ in states]
        start = self._build.mul(block, I64(4))
        rounded = self._rounded(before, [self._message(each, start) for each in data])
        after = [
            [self._build.add(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(before, rounded, strict=True)
        ]
        following = self._build.add(block, I64(1))
        self._joined(block, (I64(0), entry), (following, loop))
        for phis, firsts, nexts in zip(before, begun, after, strict=True):
            for phi, first, following_state in zip(phis, firsts, nexts, strict=True):
                self._joined(phi, (first, entry), (following_state, loop))
        self._build.cbranch(self._build.icmp_unsigned("<", following, count), loop, done)
        self._build.position_at_end(done)
        for state, halves in zip(states, after, strict=True):
            for half, value in enumerate(halves):
                self._build.store(value, self._build.gep(state, [I64(half)])).align = 4
        self._build.ret_void()

    @staticmethod
    def _joined(phi: Any, *sides: tuple[Any, Any]) -> None:
        for value, block in sides:
            phi.add_incoming(value, block)

    def _loaded(self, pointer: Any, index: Any, align: int) -> Any:
        found = self._build.load(self._build.gep(pointer, [index]))
        found.align = align
        return found

    def _shuffled(self, one: Any, other: Any, order: tuple[int, ...]) -> Any:
        return self._build.shuffle_vector(one, other, ir.Constant(ir.VectorType(I32, len(order)), list(order)))

    def _message(self, data: Any, start: Any) -> list[Any]:
        """The sixteen words of a block."""
        words = []
        for quarter in range(4):
            found = self._loaded(data, self._build.add(start, I64(quarter)), 1)
            words.append(self._build.bitcast(self._shuffled(found, found, BIG_ENDIAN), WORDS))
        return words

    def _extended(self, words: list[Any]) -> Any:
        """The next four words of the schedule."""
        partly = self._build.call(self._first, [words[-4], words[-3]])
        partly = self._build.add(partly, self._shuffled(words[-2], words[-1], (1, 2, 3, 4)))
        return self._build.call(self._second, [partly, words[-1]])

    def _rounded(self, states: list[list[Any]], messages: list[list[Any]]) -> list[list[Any]]:
        """All rounds: four of each stream by turns, so that none waits for another of its own."""
        states = [list(state) for state in states]
        for group in range(16):
            constants = ir.Constant(WORDS, self._constants[4 * group : 4 * group + 4])
            for words in messages:
                if group >= len(words):
                    words.append(self._extended(words))
            added = [self._build.add(words[group], constants) for words in messages]
            for order in ((0, 1, 2, 3), (2, 3, 2, 3)):
                for state, summed in zip(states, added, strict=True):
                    two = self._shuffled(summed, summed, order)
                    state[:] = self._build.call(self._two, [state[1], state[0], two]), state[0]
        return states
