"""What happens to one tensor of a base when adapters are merged into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from adapter_registry.domain.base import size_of
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.merging.kernel import STEP, TILE, Factors


@dataclass(frozen=True, slots=True)
class Part:
    """What one adapter adds to one matrix: `weight · (up @ down)`, or with a magnitude what DoRA makes of it.

    Attributes:
        weight: of the adapter.
        pair: reads the factors.
        magnitude: reads DoRA's magnitudes, one for each output; None for plain LoRA.
        across: whether an output is a column of the stored matrix rather than a row.
    """

    weight: float
    pair: Callable[[], Pair]
    magnitude: Callable[[], Float32] | None = None
    across: bool = False


@dataclass(frozen=True, slots=True)
class Scaling:
    """IA3: rows or columns multiplied by a vector that broadcasts over the stored matrix."""

    weight: float
    vector: Callable[[], Float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows with new values: trained tokens."""

    ids: tuple[int, ...]
    values: Callable[[], Float32]


@dataclass(slots=True)
class Edit:
    """Everything that happens to one tensor; applied in the order of the attributes.

    Attributes:
        name: live name of the module or parameter, for people.
        parts: what is added, by number of the matrix.
        scalings: what multiplies it.
        added: vectors to add, with the adapter's weight: to biases.
        rows: rows set last.
        stacked: whether it is a stack of matrices (experts).
    """

    name: str
    parts: dict[int, list[Part]] = field(default_factory=dict)
    scalings: list[Scaling] = field(default_factory=list)
    added: list[tuple[float, Callable[[], Float32]]] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    stacked: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing but low-rank products is added to the base's own values."""
        dora = any(part.magnitude for parts in self.parts.values() for part in parts)
        return bool(self.parts) and not (dora or self.scalings or self.added or self.rows)

    def matrices(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """(how many matrices, rows, columns) a tensor of this shape is worked on as."""
        if self.stacked:
            return shape[0], shape[1], size_of(shape[2:])
        if len(shape) < 2:
            return 1, 1, size_of(shape)
        return 1, shape[0], size_of(shape[1:])


def packed(parts: list[Part], rows: int, columns: int) -> Factors:
    """The factors of some parts as the kernel takes them.

    Raises:
        ValueError: a product has other sizes than the matrix; the plan refuses that before.
    """
    pairs = [part.pair() for part in parts]
    if any(pair.shape != (rows, columns) for pair in pairs):
        raise ValueError(f"a delta of {[pair.shape for pair in pairs]} for a matrix of {(rows, columns)}")
    ranks = [-(-pair.rank // STEP) * STEP for pair in pairs]
    ends = np.cumsum(ranks)
    tiles = -(-columns // TILE)
    up = np.zeros((rows + 1, int(ends[-1])), np.float32)
    down = np.zeros((int(ends[-1]), tiles * TILE), np.float32)
    for pair, rank, end in zip(pairs, ranks, ends, strict=True):
        first = int(end) - rank
        up[:rows, first : first + pair.rank] = pair.up
        down[first : first + pair.rank, :columns] = pair.down
    scales = [part.weight * pair.scale for part, pair in zip(parts, pairs, strict=True)]
    by_tile = np.ascontiguousarray(down.reshape(-1, tiles, TILE).transpose(1, 0, 2))
    return up, by_tile, ends.astype(np.int64), np.array(scales, np.float32)
