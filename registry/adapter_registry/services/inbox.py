"""The inbox: requests that wait for whoever asks, that are theirs, or all; with approvals that count no more."""

from __future__ import annotations

from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.record import RequestLine, RequestPage, Whose
from adapter_registry.domain.request import Binding, Request
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
            for each in rows:
                if len(found) <= most and _is(backend, tx, each, whose):
                    found.append(RequestLine(each, _stale(backend, tx, each)))
            before = rows[-1].id if len(rows) == BATCH else None
            if before is None or len(found) > most:
                break
    kept = tuple(found[:most])
    return RequestPage(kept, kept[-1].request.id if len(found) > most else before)


def _is(backend: Backend, tx: Transaction, request: Request, whose: Whose) -> bool:
    if not backend.asks.sees(request.adapter):
        return False
    if whose is Whose.MINE:
        return request.requester == backend.asks.name
    return whose is Whose.ALL or _waits(backend, tx, request)


def _waits(backend: Backend, tx: Transaction, request: Request) -> bool:
    """Whether an approval of whoever asks would count, and is not there as things stand now."""
    if not backend.asks.may(f"approve:{request.stage}", request.adapter):
        return False
    version = tx.versions.numbered(request.adapter, request.number)
    asked = consents(in_force(tx, request.stage).policy.process, request)
    if version is None or all(People(tx, version, request, each).named(backend.actor).unfit for each in asked):
        return False
    return backend.actor not in {each.by for each in request.approvals} - set(_stale(backend, tx, request))


def _stale(backend: Backend, tx: Transaction, request: Request) -> dict[str, tuple[str, ...]]:
    if not request.state.is_open or not request.approvals:
        return {}
    now = _now(backend, tx, request)
    moved = {each.by: each.binding.moved(now) for each in request.approvals} if now else {}
    return {by: changed for by, changed in moved.items() if changed}


def _now(backend: Backend, tx: Transaction, request: Request) -> Binding | None:
    version = tx.versions.numbered(request.adapter, request.number)
    return binding(backend, tx, version, request.stage) if version else None
