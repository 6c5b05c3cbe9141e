"""What merging does to each tensor of a base: where its values start, and what happens to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.domain.errors import Notice, Problem
from adapter_registry.tensors.merging.edits import Edit

Decode = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values of a tensor are; `decode` computes them, as `entry` describes them, where they are packed."""

    path: Path
    entry: TensorEntry
    decode: Decode | None = None


@dataclass(slots=True)
class Plan:
    """What merging does.

    Attributes:
        origins: tensor of the result -> where its values start; the base's tensors and new ones.
        edits: tensor of the result -> what happens to it.
        replaced: tensor of the result -> which adapter replaces it.
        untied: whether the output head gets a tensor of its own.
        resized: rows of the embeddings where an adapter brings other than the base's.
        heads: rows of new task heads, by name.
        tasks: task types of the adapters with new heads.
        notices: what is worth knowing.
    """

    origins: dict[str, Origin]
    edits: dict[str, Edit] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    untied: bool = False
    resized: int | None = None
    heads: dict[str, int] = field(default_factory=dict)
    tasks: set[str] = field(default_factory=set)
    notices: list[Notice] = field(default_factory=list)


def cannot(name: str, field_: str, expected: str, found: str, fix: str = "") -> Problem:
    """Why something of an adapter cannot be merged."""
    return Problem("cannot-merge", name, field_, expected, found, fix or "Load it beside its base instead.")
