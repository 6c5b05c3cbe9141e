"""The two questions that are asked most, each the quickest way that the catalog has: who asks, what a name means."""

from __future__ import annotations

from adapter_registry.api.threads import asked
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import Kind, parse
from adapter_registry.services import access


async def authenticated(backend: Backend, secret: str) -> tuple[Principal, bool] | None:
    """See access.authenticate."""
    if backend.lookups is None:
        return await asked(backend, access.authenticate, backend, secret=secret)
    hashed = access.hash_to_look_up(secret)
    return await backend.lookups.principal(hashed, now=backend.clock()) if hashed else None


async def named(backend: Backend, reference: str) -> tuple[Version, str] | None:
    """What a reference to a stage or tag means, and when its adapter was made.

    None where it has to be asked another way, to begin with why not.
    """
    wanted = parse(reference, namespace=backend.namespace)
    if backend.lookups is None or wanted.kind is not Kind.NAME:
        return None
    return await backend.lookups.named(wanted.adapter, wanted.selector)
