"""Versions of a registry merged into the Base they are locked to: resolved, brought here, checked, computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_registry.client import KnownBase, Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput, Unsupported
from adapter_registry.domain.recipe import Ingredient
from adapter_registry.tensors.merging.methods import no_change_of_weights

if TYPE_CHECKING:
    from adapter_registry.tensors.merging.merge import Ingredient as Part

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


def resolve(registry: Registry, wanted: Sequence[Ingredient]) -> Wanted:
    """The exact Versions that references mean now, and their weights.

    Raises:
        InvalidInput: there are none, or too many.
        IncompatibleBase: they are locked to several Bases.
        Unsupported: one of them changes no weights, so that there is nothing to merge.
    """
    if not 1 <= len(wanted) <= MOST:
        raise InvalidInput(f"a merge takes 1 to {MOST} versions, NAME@VERSION=WEIGHT each, not {len(wanted)}.")
    versions = tuple(registry.resolve(each.reference) for each in wanted)
    bases = {version.base: version for version in versions}
    if len(bases) > 1:
        told = "; ".join(f"{v.adapter}@v{v.number} is locked to {v.base_name}@{short(v.base)}" for v in bases.values())
        raise IncompatibleBase(f"adapters of several bases cannot be merged: {told}. Nothing was written.")
    for version in versions:
        description = version.description
        for reason in no_change_of_weights(description.peft_type, description.variant):
            raise Unsupported(
                f"{version.reference} is {description.method} and cannot be merged: {reason}. Nothing was written. "
                "Load it beside its base."
            )
    return Wanted(versions, tuple(each.weight for each in wanted), registry.base(versions[0].base))


def bring(
    registry: Registry, wanted: Wanted, *, base_path: Path | None, progress: Callable[[int], None] | None = None
) -> tuple[Path, list[Part]]:
    """A folder with the Base's bytes, compared with its record, and the adapters' folders, verified.

    Raises:
        IncompatibleBase: the folder holds other weights than the Base has.
    """
    from adapter_registry.tensors.merging.merge import Ingredient as Part  # noqa: PLC0415  slow to import

    source = registry.checkpoint(wanted.base.base.digest, base_path, progress=progress)
    parts = zip(wanted.versions, wanted.weights, wanted.references, strict=True)
    found = [
        Part(registry.pull(f"{version.adapter}@{version.digest}").folder, weight, name, version.digest)
        for version, weight, name in parts
    ]
    return source, found
