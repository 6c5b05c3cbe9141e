"""A recipe held against its kind before it is queued."""

from __future__ import annotations

from dataclasses import replace

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Forbidden, InvalidInput
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.recipe import Recipe
from adapter_registry.jobs.kind import Kind, Kinds, OpensBases, names_of
from adapter_registry.jobs.kinds import KINDS
from adapter_registry.services import running
from adapter_registry.settings import Settings


def checked(settings: Settings, backend: Backend, recipe: Recipe, *, kinds: Kinds = KINDS) -> Recipe:
    """The recipe as its kind makes it exact.

    Raises:
        InvalidInput: there is no such kind.
        Forbidden: whoever asks may not store what it makes.
        InvalidInput: a base whose bytes it takes can be opened by no worker, as far as that is known here.
        RegistryError: what the kind refuses.
    """
    kind = kind_of(recipe, kinds)
    if not backend.asks.may(kind.verb, recipe.into):
        raise Forbidden(
            f"{backend.asks.name} may not do this: what {kind.name} makes takes the verb {kind.verb!r} on "
            f"{recipe.into}. Nothing was queued."
        )
    exact = kind.check(Registry(settings, backend), recipe)
    if isinstance(kind, OpensBases):
        registry = Registry(guarded(settings, backend), backend)
        for base in kind.opens(exact):
            registry.require_bytes(base)
    return exact


def guarded(settings: Settings, backend: Backend) -> Settings:
    """The settings that jobs are worked on with.

    A path that somebody wrote into the catalog is opened only where this machine's owner says so.
    """
    if settings.base_sources is None and running.others_write(backend):
        return replace(settings, base_sources=())
    return settings


def kind_of(recipe: Recipe, kinds: Kinds) -> Kind:
    """The kind that a recipe names; raises InvalidInput."""
    if recipe.kind not in kinds:
        raise InvalidInput(f"there is no kind of job {recipe.kind[:40]!r}; there are {', '.join(names_of(kinds))}.")
    return kinds[recipe.kind]
