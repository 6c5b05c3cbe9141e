"""How much of each delta a merged checkpoint keeps: rounding loses what is small beside the weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from adapter_registry.domain.errors import Notice
from adapter_registry.tensors.merging.blocks import Tally

LITTLE = 0.75
"""Below this share of a delta, over all modules, a merge warns."""


@dataclass(frozen=True, slots=True)
class Survived:
    """What became of one module's delta.

    Attributes:
        name: live name of the module or parameter.
        tensor: name in the checkpoint.
        dtype: it is stored in.
        relative: norm of the delta D beside that of the weight W.
        error: norm of (stored - W) - D beside that of D: 0 is all of it, 1 is what storing W itself would have.
        moved: share of the weights that have another value than before.
        sampled: share of the rows that were looked at; 1 for all.
    """

    name: str
    tensor: str
    dtype: str
    relative: float
    error: float
    moved: float
    sampled: float

    @property
    def kept(self) -> float:
        """The share of the delta that the stored type carries: 1 - error, and never below 0."""
        return max(0.0, 1.0 - self.error)


def survived(name: str, tensor: str, dtype: str, tally: Tally) -> Survived | None:
    """The figures of one tensor; None where nothing was added to it."""
    delta, lost, moved, weight = (float(each) for each in tally.sums)
    if not tally.weights or not delta:
        return None
    return Survived(
        name=name,
        tensor=tensor,
        dtype=dtype,
        relative=math.sqrt(delta / weight) if weight else math.inf,
        error=math.sqrt(lost / delta),
        moved=moved / tally.weights,
        sampled=tally.weights / tally.of,
    )


def kept_of(tallies: Iterable[Tally]) -> float:
    """The share of the whole delta that the stored type carries; 1 where there is none."""
    sums = [tally.sums * (tally.of / tally.weights) for tally in tallies if tally.weights]
    delta, lost = sum(float(each[0]) for each in sums), sum(float(each[1]) for each in sums)
    return max(0.0, 1.0 - math.sqrt(lost / delta)) if delta else 1.0


def warnings(tallies: Mapping[str, Tally], dtypes: Iterable[str]) -> list[Notice]:
    """A notice when little of the delta survives."""
    kept, kinds = kept_of(tallies.values()), sorted(set(dtypes))
    if kept >= LITTLE:
        return []
    text = (
        f"only {kept:.0%} of the change is kept: {', '.join(kinds)} rounds it away beside the weights. "
        "--dtype float32 keeps all of it, --dtype float16 more of it where the base is bfloat16."
    )
    return [Notice("little-survived", "", "", text)]
