"""Look: adapters, versions, what a reference means, what happened."""

from __future__ import annotations

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.event import Event
from adapter_registry.domain.listing import AdapterLine
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import Kind, parse
from adapter_registry.domain.score import RecordedScore
from adapter_registry.services.references import base_of, no_adapter, version_of


def adapters(
    backend: Backend, *, stage: str | None = None, base: str | None = None, search: str | None = None
) -> tuple[AdapterLine, ...]:
    """One line per adapter that whoever asks may read, by name.

    Args:
        backend: the registry.
        stage: only adapters with a version in this stage.
        base: only adapters whose newest version is locked to this Base.
        search: only names that contain this, in any case.
    """
    with backend.catalog.reading() as tx:
        wanted = base_of(tx, base).base.digest if base else None
        return tuple(
            line
            for line in tx.versions.adapters()
            if backend.asks.sees(line.adapter)
            and (stage is None or stage in line.stages)
            and (wanted is None or line.base == wanted)
            and (search is None or search.casefold() in line.adapter.casefold())
        )


def versions(backend: Backend, *, adapter: str) -> tuple[Version, ...]:
    """The versions of an adapter, newest first; raises NotFound when there is no such adapter."""
    with backend.catalog.reading() as tx:
        found = tx.versions.all_of(adapter)
        if not found and tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        return found


def resolve(backend: Backend, *, reference: str) -> Version:
    """The Version a reference selects now; see `references.version_of` for its errors."""
    with backend.catalog.reading() as tx:
        return version_of(tx, parse(reference, namespace=backend.namespace))


def scores(backend: Backend, *, reference: str) -> tuple[RecordedScore, ...]:
    """The scores of a Version, in the order they were recorded."""
    with backend.catalog.reading() as tx:
        return tx.scores.of(version_of(tx, parse(reference, namespace=backend.namespace)).digest)


def base_scores(backend: Backend, *, base: str) -> tuple[RecordedScore, ...]:
    """The scores of a Base, in the order they were recorded."""
    with backend.catalog.reading() as tx:
        return tx.scores.of(base_of(tx, base).base.digest)


def events(backend: Backend, *, reference: str | None = None) -> tuple[Event, ...]:
    """The audit log in order: all of it, or what is about an adapter or one version of it."""
    with backend.catalog.reading() as tx:
        if reference is None:
            return tx.events.all()
        parsed = parse(reference, namespace=backend.namespace)
        if parsed.kind is None:
            return tx.events.all(subject=parsed.adapter)
        known = version_of(tx, parsed) if parsed.kind is not Kind.NUMBER else None
        return tx.events.all(subject=known.reference if known else str(parsed))
