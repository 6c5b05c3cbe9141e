"""Versions of a registry merged into the Base they are locked to: resolved, brought here, checked, computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_registry.client import KnownBase, Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput

if TYPE_CHECKING:
    from adapter_registry.tensors.merge import Ingredient

MOST = 64
"""Adapters in one merge."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Exact Versions with their weights, and the one Base that all of them are locked to."""

    versions: tuple[Version, ...]
    weights: tuple[float, ...]
    base: KnownBase

    @property
    def references(self) -> tuple[str, ...]:
        """`namespace/name@v3` of each."""
        return tuple(f"{version.adapter}@v{version.number}" for version in self.versions)


def parse(texts: Sequence[str]) -> list[tuple[str, float]]:
    """`name@v3=0.5` -> (`name@v3`, 0.5); the weight is 1 where none is given.

    Raises:
        InvalidInput: a weight is no finite number, or there are too many adapters.
    """
    if not 1 <= len(texts) <= MOST:
        raise InvalidInput(f"a merge takes 1 to {MOST} adapters, not {len(texts)}.")
    return [_parsed(text) for text in texts]


def _parsed(text: str) -> tuple[str, float]:
    reference, equals, weight = text.partition("=")
    if not equals:
        return text, 1.0
    try:
        value = float(weight)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise InvalidInput(f"{text}: expected REF or REF=WEIGHT with a finite number, found {weight!r}.")
    return reference, value


def resolve(registry: Registry, wanted: Sequence[tuple[str, float]]) -> Wanted:
    """The exact Versions that references mean now.

    Raises:
        IncompatibleBase: they are locked to several Bases.
    """
    versions = tuple(registry.resolve(reference) for reference, _ in wanted)
    bases = {version.base: version for version in versions}
    if len(bases) > 1:
        told = "; ".join(f"{v.adapter}@v{v.number} is locked to {v.base_name}@{short(v.base)}" for v in bases.values())
        raise IncompatibleBase(f"adapters of several bases cannot be merged: {told}. Nothing was written.")
    return Wanted(versions, tuple(weight for _, weight in wanted), registry.base(versions[0].base))


def bring(
    registry: Registry, wanted: Wanted, *, base_path: Path | None, progress: Callable[[int], None] | None = None
) -> tuple[Path, list[Ingredient]]:
    """A folder with the Base's bytes, compared with its record, and the adapters' folders, verified.

    Raises:
        IncompatibleBase: the folder holds other weights than the Base has.
    """
    from adapter_registry.tensors.merge import Ingredient  # noqa: PLC0415  numba is slow to import

    source = registry.checkpoint(wanted.base.base.digest, base_path, progress=progress)
    parts = zip(wanted.versions, wanted.weights, wanted.references, strict=True)
    found = [
        Ingredient(registry.pull(f"{version.adapter}@{version.digest}").folder, weight, name, version.digest)
        for version, weight, name in parts
    ]
    return source, found
