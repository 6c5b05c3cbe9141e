"""Recipe: the declared input of a Job, exact enough that the same recipe means the same bytes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from adapter_registry.domain.digest import Digest, canonical_json, of_json
from adapter_registry.domain.digest import parse as parse_digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.reference import parse, split_adapter

MOST_INPUTS = 1_000
LONGEST_OPTIONS = 100_000
"""Bytes of the options as JSON."""


@dataclass(frozen=True, slots=True)
class Ingredient:
    """One Version that goes in, and with which weight.

    Attributes:
        reference: `namespace/name@sha256:...` once the recipe was checked; whatever people write before.
        weight: unitless; kinds that weigh nothing ignore it.
    """

    reference: str
    weight: float = 1.0

    @property
    def adapter(self) -> str:
        """`namespace/name`."""
        return parse(self.reference).adapter


def parse_ingredient(text: str) -> Ingredient:
    """`name@v3=0.5` -> `name@v3`, 0.5; the weight is 1 where none is given.

    Raises:
        InvalidInput: the weight is no finite number.
    """
    reference, equals, weight = text.rpartition("=")
    if not equals:
        return Ingredient(text)
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(f"{text[:200]}: {weight[:40]!r} is no weight; write NAME@VERSION=0.7, a finite number.")
    return Ingredient(reference, value)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a Job works on.

    Attributes:
        kind: `merge`, `compose`, `diff`, `extract`, `flatten`, `evaluate`.
        inputs: in the order they were given.
        base: digest of the Base that it is worked out on; None where the kind has it from its inputs.
        options: of the kind; JSON types only.
        files: digests of files beside the inputs, stored in the namespace of `into`, by the option that names them.
        seed: of everything random.
        into: `namespace/name` that the result belongs to: its right is asked there.
    """

    kind: str
    inputs: tuple[Ingredient, ...] = ()
    base: Digest | None = None
    options: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Digest] = field(default_factory=dict)
    seed: int = 0
    into: str = ""

    @property
    def digest(self) -> Digest:
        """Of its canonical JSON: equal recipes are equal work."""
        return of_json(asdict(self))


def check_recipe(recipe: Recipe) -> Recipe:
    """The recipe, within its bounds and with the adapter that its result belongs to spelled out.

    Raises:
        InvalidInput: no adapter for the result, too many inputs, or options that are too long.
        InvalidReference: what is to be `namespace/name` is not.
    """
    if len(recipe.inputs) > MOST_INPUTS:
        raise InvalidInput(f"a recipe has at most {MOST_INPUTS:,} inputs, not {len(recipe.inputs):,}.")
    try:
        long = len(canonical_json([recipe.options, recipe.files, [each.weight for each in recipe.inputs]]))
    except ValueError as error:
        raise InvalidInput("a weight or an option of the recipe is no finite number.") from error
    if long > LONGEST_OPTIONS:
        raise InvalidInput(f"the options of a recipe have {long:,} bytes; {LONGEST_OPTIONS:,} is the most.")
    if not recipe.into:
        raise InvalidInput("a recipe names the adapter that its result belongs to (`into`).")
    for each in recipe.inputs:
        parse(each.reference)
    files = {name: parse_digest(digest) for name, digest in recipe.files.items()}
    return replace(recipe, into="/".join(split_adapter(recipe.into)), files=files)
