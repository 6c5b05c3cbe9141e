"""A recipe held against its kind before it is queued."""

from __future__ import annotations

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Forbidden, InvalidInput
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.recipe import Recipe
from adapter_registry.jobs.kind import Kind, Kinds, names_of
from adapter_registry.jobs.kinds import KINDS
from adapter_registry.settings import Settings


def checked(settings: Settings, backend: Backend, recipe: Recipe, *, kinds: Kinds = KINDS) -> Recipe:
    """The recipe as its kind makes it exact.

    Raises:
        InvalidInput: there is no such kind.
        Forbidden: whoever asks may not store what it makes.
        RegistryError: what the kind refuses.
    """
    kind = kind_of(recipe, kinds)
    if not backend.asks.may(kind.verb, recipe.into):
        raise Forbidden(
            f"{backend.asks.name} may not do this: what {kind.name} makes takes the verb {kind.verb!r} on "
            f"{recipe.into}. Nothing was queued."
        )
    return kind.check(Registry(settings, backend), recipe)


def kind_of(recipe: Recipe, kinds: Kinds) -> Kind:
    """The kind that a recipe names; raises InvalidInput."""
    if recipe.kind not in kinds:
        raise InvalidInput(f"there is no kind of job {recipe.kind[:40]!r}; there are {', '.join(names_of(kinds))}.")
    return kinds[recipe.kind]
