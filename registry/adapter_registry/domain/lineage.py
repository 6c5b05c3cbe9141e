"""Lineage: what a Version was made of and how, with what that cost; part of its Manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.digest import parse as parse_digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.reference import split_adapter

MOST_PARENTS = 1_000
MOST_MODULES = 100_000
LONGEST = 500
"""Characters of a text in a lineage."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A Version that went in.

    Attributes:
        adapter: `namespace/name`.
        number: of the version.
        digest: of the version.
        weight: unitless.
    """

    adapter: str
    number: int
    digest: Digest
    weight: float

    @property
    def reference(self) -> str:
        """`namespace/name@v3`."""
        return f"{self.adapter}@v{self.number}"


@dataclass(frozen=True, slots=True)
class ModuleFit:
    """How well one module's factors are what was composed.

    Attributes:
        name: live path of the module or parameter.
        rank: of the factors; 0 where there are none (IA3).
        norm: Frobenius norm of the exact delta.
        error: Frobenius norm of the difference, as a share of `norm`; 0 where that is 0.
    """

    name: str
    rank: int
    norm: float
    error: float


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a Version was made of and how.

    Attributes:
        kind: `compose`, `extract` or `flatten`.
        method: of composing, `ties`; of extracting; or `flatten`.
        dialect: whose function of that name.
        parents: in the order they were given; none for what was extracted from a checkpoint.
        options: density, λ, rank, tolerance and so on, as text by name.
        seed: of everything random.
        libraries: versions of what computed it, by name.
        device: what it was computed on, `cpu`.
        error: relative Frobenius error over all modules together.
        modules: by name.
        notes: what became of parameters that are no deltas.
    """

    kind: str
    method: str
    dialect: str
    parents: tuple[Parent, ...]
    options: dict[str, str]
    seed: int
    libraries: dict[str, str]
    device: str
    error: float
    modules: tuple[ModuleFit, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def recipe(self) -> str:
        """One line for people: `ties:peft of team/a@v1 x 0.7 + team/b@v4 x 0.3`."""
        said = " ".join(f"{name}={value}" for name, value in sorted(self.options.items()))
        of = " + ".join(f"{parent.reference} x {parent.weight:g}" for parent in self.parents)
        return f"{self.method}:{self.dialect}" + (f" of {of}" if of else "") + (f"  ({said})" if said else "")

    def worst(self, count: int) -> tuple[ModuleFit, ...]:
        """The modules with the largest error."""
        return tuple(sorted(self.modules, key=lambda fit: (-fit.error, fit.name))[:count])

    def document(self) -> dict[str, Any]:
        """What the Manifest says of it: JSON types only."""
        return asdict(self)


def total_error(fits: Sequence[ModuleFit]) -> float:
    """The relative error of all modules together."""
    whole = sum(fit.norm**2 for fit in fits)
    return float((sum((fit.error * fit.norm) ** 2 for fit in fits) / whole) ** 0.5) if whole else 0.0


def check_lineage(lineage: Lineage) -> None:
    """Refuse a lineage out of bounds.

    Raises:
        InvalidInput: too long, or a number in it that is none.
        InvalidReference: a parent that is no version.
    """
    if len(lineage.parents) > MOST_PARENTS or len(lineage.modules) > MOST_MODULES:
        raise InvalidInput(f"a lineage has at most {MOST_PARENTS:,} parents and {MOST_MODULES:,} modules.")
    texts = [lineage.kind, lineage.method, lineage.dialect, lineage.device, *(fit.name for fit in lineage.modules)]
    pairs = (*lineage.options.items(), *lineage.libraries.items())
    texts += [*lineage.notes, *(text for pair in pairs for text in pair)]
    if max(map(len, texts)) > LONGEST:
        raise InvalidInput(f"a text in a lineage has at most {LONGEST} characters.")
    numbers = [lineage.error, *(n for fit in lineage.modules for n in (fit.norm, fit.error))]
    numbers += [parent.weight for parent in lineage.parents]
    if not all(abs(number) < float("inf") for number in numbers):
        raise InvalidInput("a lineage holds finite numbers only.")
    for parent in lineage.parents:
        split_adapter(parent.adapter)
        parse_digest(parent.digest)
