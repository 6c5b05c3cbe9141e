"""Look: adapters, versions, what a reference means, what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import Kind, parse
from adapter_registry.domain.views import selection
from adapter_registry.domain.views.listing import AdapterLine, AdapterPage, EventPage, Order, VersionPage, Wanted
from adapter_registry.domain.views.selection_tree import asked_of, asks
from adapter_registry.services import overview
from adapter_registry.services.references import base_of, no_adapter, version_of

PAGE = 1_000
"""Items of a page at most."""
LONGEST_SEARCH, BATCH = 300, 150
"""What a page with a filter looks at: so much in all, so much at once. What lies beyond is the page after."""


def adapters(  # noqa: PLR0913  every way to narrow and order it
    backend: Backend,
    *,
    stage: str | None = None,
    base: str | None = None,
    search: str | None = None,
    where: str | None = None,
    order: Order = Order.NAME,
    trends: bool = False,
    after: str = "",
    limit: int = PAGE,
) -> AdapterPage:
    """Adapters that whoever asks may read, a page at a time.

    Args:
        backend: the registry.
        stage: only adapters with a version in this stage.
        base: only adapters whose newest version is locked to this Base.
        search: only names that contain this, in any case.
        where: only adapters whose newest version matches this filter, see `selection`: `rank<=16 and score.acc>0.5`.
        order: by name, or those that got a version last first.
        trends: whether each line says how the newest versions did.
        after: where the page begins: `next` of the page before.
        limit: at most this many, and at most 1,000. A page with `where` looks at 300 adapters at most, and may hold
            fewer of them, or none, while there is a `next`.

    Raises:
        InvalidInput: `where` is not a filter; the text says where it stops being one.
    """
    chosen = selection.parse(where) if where else None
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:
        _check_stages(tx, chosen, *([stage] if stage else []))
        digest = base_of(tx, base).base.digest if base else None
        wanted = Wanted(backend.asks.scopes, stage, digest, search, order)
        found: list[AdapterLine] = []
        looked, further = 0, True
        while further and len(found) <= most and looked < LONGEST_SEARCH:
            asked = most + 1 if chosen is None else BATCH
            batch = tx.versions.adapters(wanted, after=after, limit=asked)
            found += batch if chosen is None else _matching(tx, chosen, batch)
            looked, further = looked + len(batch), len(batch) == asked
            after = _place(batch[-1], order) if batch else ""
        items = tuple(found[:most])
        if trends:
            known = overview.trends(tx, items)
            items = tuple(replace(line, trend=known.get(line.adapter)) for line in items)
    if len(found) > most:
        return AdapterPage(items, _place(items[-1], order))
    return AdapterPage(items, after if further and chosen is not None else None)


def _place(line: AdapterLine, order: Order) -> str:
    """Where a line stands in its list."""
    return line.adapter if order is Order.NAME else str(line.arrival)


def _check_stages(tx: Transaction, chosen: selection.Filter | None, *others: str) -> None:
    """Refuse what is asked of a stage that there is not."""
    named = [str(value) for value in asked_of(chosen, "stage")] if chosen is not None else []
    if named or others:
        ladder = tx.stages.ladder()
        for each in (*others, *named):
            ladder.check(each)


def _matching(tx: Transaction, chosen: selection.Filter, batch: Sequence[AdapterLine]) -> list[AdapterLine]:
    """Those of the lines whose newest version matches."""
    newest = tx.versions.arrived([line.arrival for line in batch])
    kept = {version.adapter for version in _held(tx, chosen, tuple(newest.values()))}
    return [line for line in batch if line.adapter in kept]


def _held(tx: Transaction, chosen: selection.Filter, found: Sequence[Version]) -> list[Version]:
    """Those of the versions that match."""
    values = tx.scores.values([version.digest for version in found]) if asks(chosen, "score") else {}
    return [
        version
        for version in found
        if selection.holds(chosen, {**selection.subject_of(version, ()), "score": values.get(version.digest, {})})
    ]


def versions(
    backend: Backend, *, adapter: str, where: str | None = None, before: int | None = None, limit: int = PAGE
) -> VersionPage:
    """Versions of an adapter, newest first, a page at a time; arguments, and pages with `where`, as of `adapters`.

    Raises:
        NotFound: there is no such adapter.
    """
    chosen = selection.parse(where) if where else None
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:
        _check_stages(tx, chosen)
        if tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        found: list[Version] = []
        looked, further = 0, True
        while further and len(found) <= most and looked < LONGEST_SEARCH:
            wanted = most + 1 if chosen is None else BATCH
            batch = tx.versions.all_of(adapter, before=before, limit=wanted)
            found += batch if chosen is None else _held(tx, chosen, batch)
            looked, further = looked + len(batch), len(batch) == wanted
            before = batch[-1].number if batch else before
    items = tuple(found[:most])
    if len(found) > most:
        return VersionPage(items, items[-1].number)
    return VersionPage(items, before if further and chosen is not None else None)


def resolve(backend: Backend, *, reference: str) -> Version:
    """The Version a reference selects now; see `references.version_of` for its errors."""
    with backend.catalog.reading() as tx:
        return version_of(tx, parse(reference, namespace=backend.namespace))


def derived(backend: Backend, *, reference: str) -> tuple[Version, ...]:
    """What was made of a Version, directly or not, as far as whoever asks may see it; by adapter and number."""
    with backend.catalog.reading() as tx:
        found = tx.ancestry.descendants(version_of(tx, parse(reference, namespace=backend.namespace)))
    return tuple(each for each in found if backend.asks.sees(each.adapter))[:PAGE]


def scores(backend: Backend, *, reference: str) -> tuple[RecordedScore, ...]:
    """The scores of a Version, in the order they were recorded."""
    with backend.catalog.reading() as tx:
        return tx.scores.of(version_of(tx, parse(reference, namespace=backend.namespace)).digest)


def base_scores(backend: Backend, *, base: str) -> tuple[RecordedScore, ...]:
    """The scores of a Base, in the order they were recorded."""
    with backend.catalog.reading() as tx:
        return tx.scores.of(base_of(tx, base).base.digest)


def events(backend: Backend, *, reference: str | None = None, after: int = 0, limit: int = PAGE) -> EventPage:
    """The audit log in order, a page at a time: all of it, or what is about an adapter or one version of it."""
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:
        subject = _subject(tx, backend, reference) if reference else None
        found = tx.events.all(subject=subject, after=after, limit=most + 1)
    items = found[:most]
    return EventPage(items, items[-1].sequence if len(found) > most else None)


def _subject(tx: Transaction, backend: Backend, reference: str) -> str:
    parsed = parse(reference, namespace=backend.namespace)
    if parsed.kind is None:
        return parsed.adapter
    return str(parsed) if parsed.kind is Kind.NUMBER else version_of(tx, parsed).reference
