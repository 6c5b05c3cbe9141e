"""What a kind of work is: it checks, gathers, computes in a process of its own, and publishes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from adapter_registry.client import Registry
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Recipe

Report = Callable[[Progress], None]

INPUTS, OUT, PARTS = "inputs", "out", "parts"
"""Folders of a scratch folder: what goes in, what is made, and what each part of shared out work made."""


class Kind(Protocol):
    """One kind of work. Its class is imported in the child process by name and made without arguments.

    Attributes:
        name: `merge`, `compose`, `diff`, `extract`, `flatten`, `evaluate`.
        verb: what publishing takes on the adapter that the result belongs to: `push`, `score`, `read`.
    """

    name: str
    verb: str

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """The recipe with every reference resolved to an exact digest.

        Raises:
            RegistryError: what is incompatible: locks that disagree, an unknown method, ...
        """

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """Bring the inputs, verified, into `scratch/inputs`."""

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """From `scratch/inputs` to `scratch/out`; in the child process, which has no network and no secrets.

        Returns:
            What came of it, JSON types only.
        """

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        """Store what `compute` made; a second time, the same digests are found and nothing is added.

        Returns:
            What the job made, for its record. `files`, if there, lists digests of blobs that the job is to keep.
        """


@runtime_checkable
class OpensBases(Protocol):
    """A kind that needs the bytes of bases."""

    def opens(self, recipe: Recipe) -> tuple[Digest, ...]:
        """The bases whose bytes an exact recipe takes; those that it can do without are not named."""


@runtime_checkable
class Divisible(Protocol):
    """A kind whose work may be shared out: each part is computed by whichever worker is free, and then joined."""

    def parts(self, recipe: Recipe, scratch: Path) -> list[str]:
        """Names of the parts, the same each time; one or none where sharing out is not worth it. In the child."""

    def compute_part(self, recipe: Recipe, scratch: Path, part: str, report: Report) -> dict[str, Any]:
        """One part, from `scratch/inputs` to `scratch/out`. In the child."""

    def join(
        self, recipe: Recipe, scratch: Path, outcomes: Mapping[str, dict[str, Any]], report: Report
    ) -> dict[str, Any]:
        """From `scratch/parts/NAME`, each what the part's `out` was, to `scratch/out`. In the child."""


Kinds = Mapping[str, Kind]
"""Kinds by name."""


def names_of(kinds: Kinds) -> Sequence[str]:
    """The names, for people."""
    return sorted(kinds)
