"""What a LoRA adds to each weight of its base, as pairs of factors in the shape of that weight.

Whatever kind of layer it is (linear, (in, out)-stored, embedding, convolution, a stack of experts), its delta is
brought into one form: for each matrix of the weight as the base stores it, `delta = scale · up @ down`. Everything that
is linear in the delta, or commutes with changes of basis, then has one implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import numpy as np

from adapter_registry.checkpoints.lora import Place
from adapter_registry.domain.base import Tensor, size_of
from adapter_registry.tensors.arrays import Float32

REMEMBERED = 8
"""Factors of experts that are stored one by one are asked for once for each expert."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One low-rank delta: `scale · up @ down`.

    Attributes:
        up: (rows, r) float32.
        down: (r, columns) float32.
        scale: alpha / r, or alpha / √r when rank-stabilised.
    """

    up: Float32
    down: Float32
    scale: float

    @property
    def rank(self) -> int:
        """r: how many columns `up` has."""
        return int(self.up.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the delta."""
        return int(self.up.shape[0]), int(self.down.shape[1])

    def rows(self, first: int, last: int) -> Pair:
        """Some rows of the delta."""
        return Pair(self.up[first:last], self.down, self.scale)


@dataclass(frozen=True)
class Layer:
    """One adapted weight.

    Attributes:
        name: live path of the module, or live name of the parameter; what patterns of ranks match.
        place: where it sits in the base.
        tensor: the base's tensor that it changes, with the name it has in the checkpoint; None where the live model
            makes the parameter of several tensors (experts stored one by one).
        scale: of its delta.
        kind: `linear`, `transposed` (the weight is stored (in, out)), `embedding`, `convolution`, `experts` or
            `experts-transposed` (stored (experts, in, out)).
        experts: how many matrices the weight is; 1 unless it is a stack of experts.
        read: reads one of its tensors by part: `lora_A`, `lora_B`, `lora_magnitude_vector`, `lora_B.bias`.
    """

    name: str
    place: Place
    tensor: Tensor | None
    scale: float
    kind: str
    experts: int
    read: Callable[[str], Float32 | None]

    @property
    def rank(self) -> int:
        """R of one matrix."""
        down = self.place.layer.down
        return down.entry.shape[0] // self.experts if down else 0

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of each of its matrices, as `pair` gives them."""
        down, up = self.place.layer.down, self.place.layer.up
        if down is None or up is None:
            return 0, 0
        reads, writes = size_of(down.entry.shape[1:]), up.entry.shape[0]
        swapped = self.kind in ("transposed", "embedding", "experts-transposed")
        return (reads, writes) if swapped else (writes, reads)

    def pair(self, expert: int = 0) -> Pair:
        """The factors of one matrix, oriented as the base stores it.

        PEFT stacks experts slowest in `lora_A` (experts · r, in) and fastest in `lora_B` (out, r · experts).
        """
        down, up = self.required("lora_A"), self.required("lora_B")
        if self.experts > 1:
            down = down.reshape(self.experts, -1, down.shape[-1])[expert]
            up = up.reshape(up.shape[0], -1, self.experts)[:, :, expert]
        down, up = down.reshape(down.shape[0], -1), up.reshape(up.shape[0], -1)
        if self.kind in ("transposed", "embedding", "experts-transposed"):
            return Pair(np.ascontiguousarray(down.T), np.ascontiguousarray(up.T), self.scale)
        return Pair(np.ascontiguousarray(up), np.ascontiguousarray(down), self.scale)

    def required(self, part: str) -> Float32:
        """One of its tensors that intake has seen to be there."""
        found = self.read(part)
        if found is None:
            raise ValueError(f"{self.name} has no {part}; intake refuses that")
        return found

    def remembering(self) -> Layer:
        """The layer, reading its factors once for all of its experts."""
        return self if self.experts == 1 else replace(self, read=partial(_remembered, self.read))


@lru_cache(maxsize=REMEMBERED)
def _remembered(read: Callable[[str], Float32 | None], part: str) -> Float32 | None:
    """Of the stacks that are worked on now: the factors of all layers would not fit in bounded memory."""
    return read(part)
