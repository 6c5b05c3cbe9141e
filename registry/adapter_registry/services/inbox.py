"""The inbox: requests that wait for whoever asks, that are theirs, or all; with approvals that count no more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.request import Binding, Request
from adapter_registry.domain.views.record import RequestLine, RequestPage, Whose
from adapter_registry.services.judgement import People, binding, consents, in_force

MOST = 200
BATCH = 500
LONGEST_SEARCH = 5_000
"""Requests that one question looks at; what lies beyond is the page after."""


def inbox(
    backend: Backend,
    *,
    whose: Whose = Whose.WAITING,
    still_open: bool = True,
    adapter: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> RequestPage:
    """Requests of adapters that the caller sees, newest first, a page at a time.

    Args:
        backend: the registry.
        whose: which.
        still_open: whether those that ended are left out; what waits for somebody is open anyway.
        adapter: only for this one.
        before: the page after this request: `next` of the page before.
        limit: at most this many, and at most 200.
    """
    most, open_only = min(max(limit, 1), MOST), still_open or whose is Whose.WAITING
    found: list[RequestLine] = []
    with backend.catalog.reading() as tx:
        for _ in range(LONGEST_SEARCH // BATCH):
            rows = tx.requests.listed(adapter=adapter, still_open=open_only, before=before, limit=BATCH)
            for each in _those(backend, tx, rows, whose):
                found.append(RequestLine(each, _stale(backend, tx, each)))
                if len(found) > most:
                    break
            before = rows[-1].id if len(rows) == BATCH else None
            if before is None or len(found) > most:
                break
    kept = tuple(found[:most])
    return RequestPage(kept, kept[-1].request.id if len(found) > most else before)


def _those(backend: Backend, tx: Transaction, rows: Sequence[Request], whose: Whose) -> Iterator[Request]:
    seen = [each for each in rows if backend.asks.sees(each.adapter)]
    if whose is Whose.WAITING:
        return _waiting(backend, tx, seen)
    return (each for each in seen if whose is Whose.ALL or each.requester == backend.asks.name)


def _waiting(backend: Backend, tx: Transaction, rows: Sequence[Request]) -> Iterator[Request]:
    """Those of which an approval of whoever asks would count, and is not there as things stand now."""
    mine = [each for each in rows if backend.asks.may(f"approve:{each.stage}", each.adapter)]
    policies = {stage: in_force(tx, stage).policy.process for stage in {each.stage for each in mine}}
    asked = {each.id: needed for each in mine if (needed := consents(policies[each.stage], each))}
    versions = tx.versions.with_digests([each.version for each in mine if each.id in asked])
    known = {(version.adapter, version.number): version for version in versions}
    for request in mine:
        version = known.get((request.adapter, request.number))
        if version is None or request.id not in asked:
            continue
        people = (People(tx, version, request, each) for each in asked[request.id])
        approved = {each.by for each in request.approvals} - set(_stale(backend, tx, request))
        if backend.actor not in approved and not all(each.named(backend.actor).unfit for each in people):
            yield request


def _stale(backend: Backend, tx: Transaction, request: Request) -> dict[str, tuple[str, ...]]:
    if not request.state.is_open or not request.approvals:
        return {}
    now = _now(backend, tx, request)
    moved = {each.by: each.binding.moved(now) for each in request.approvals} if now else {}
    return {by: changed for by, changed in moved.items() if changed}


def _now(backend: Backend, tx: Transaction, request: Request) -> Binding | None:
    version = tx.versions.numbered(request.adapter, request.number)
    return binding(backend, tx, version, request.stage) if version else None
