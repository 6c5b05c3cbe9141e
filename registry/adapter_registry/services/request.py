"""Requests for a promotion: look at them, approve, decline, cancel; and move on those that time lets through."""

from __future__ import annotations

import time
from dataclasses import replace

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from adapter_registry.domain.event import Entry, Outcome
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.request import Approval, Request, Step, request_id
from adapter_registry.services.judgement import Judged, People, judged
from adapter_registry.services.pointer import LONGEST_WAIT_SECONDS, POLL_SECONDS
from adapter_registry.services.progress import advance, close, failed, note, overdue

MOST = 200
LONGEST_COMMENT = 1000


def requests(backend: Backend, *, adapter: str | None = None, still_open: bool = True) -> tuple[Request, ...]:
    """The newest requests of adapters that the caller sees, newest first; the open ones, or all."""
    with backend.catalog.reading() as tx:
        found = tx.requests.listed(adapter=adapter, still_open=still_open, limit=MOST)
    return tuple(each for each in found if backend.asks.sees(each.adapter))


def show(backend: Backend, *, request: str, after: int | None = None, wait_seconds: float = 0.0) -> Request:
    """A request as it is now, moved on as far as it can; or as soon as it changed.

    Args:
        backend: the registry.
        request: `P-214`.
        after: wait for a change beyond this one (`Request.changed`).
        wait_seconds: how long, up to 60; what is true then is answered, changed or not.

    Raises:
        NotFound: there is no such request, or not for the caller to see.
    """
    deadline = time.monotonic() + min(wait_seconds, LONGEST_WAIT_SECONDS)
    while not changed(backend, request=request, after=after) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return _found(backend, request)


def changed(backend: Backend, *, request: str, after: int | None) -> bool:
    """Whether a request changed beyond `after`, once it was moved on as far as it can."""
    found = _found(backend, request)
    if found.state.is_open:
        found = _moved_on(backend, found) or found
    return after is None or found.changed > after


def approve(
    backend: Backend, *, adapter: str, stage: str, request: str, seen: Digest | None = None, comment: str = ""
) -> Judged:
    """Approve a request exactly as it stands now; it is applied at once when nothing else stands in the way.

    Args:
        backend: the registry.
        adapter: `namespace/name` that the request is for.
        stage: that it is for.
        request: `P-214`.
        seen: `Judged.seen` of what the approver looked at; None for whatever is there.
        comment: for the record.

    Raises:
        Forbidden: the caller may not approve this one; says why.
        Conflict: it is over, or no more what was `seen`.
        InvalidInput: the policy asks for no approvals.
    """
    comment = comment.strip()[:LONGEST_COMMENT]
    with backend.catalog.writing() as tx:
        found = _judged(backend, tx, adapter, stage, request)
        asked = found.consent
        if asked is None:
            raise InvalidInput(f"the policy of {stage} asks for no approvals; nothing was changed.")
        if seen is not None and seen != found.seen:
            raise Conflict(f"{found.request.name} is no longer what you saw; nothing was approved. Look at it again.")
        unfit = People(tx, found.version, found.request, asked).named(backend.actor).unfit
        if not unfit:
            approval = Approval(backend.actor, backend.clock(), found.binding, comment)
            others = tuple(each for each in found.request.approvals if each.by != backend.actor)
            noted = note(tx, replace(found.request, approvals=(*others, approval)))
            _recorded(backend, tx, noted, "request.approve", Outcome.DONE, {"comment": comment, "seen": found.seen})
            return advance(backend, tx, judged(backend, tx, found.version, noted))
        _recorded(backend, tx, found.request, "request.approve", Outcome.REFUSED, {"because": unfit})
    raise Forbidden(f"{backend.actor} cannot approve {found.request.name}, {unfit}; nothing was approved.")


def decline(backend: Backend, *, adapter: str, stage: str, request: str, reason: str) -> Request:
    """Decline a request: it ends, or, where the policy says that declining does not block, goes on.

    Raises:
        InvalidInput: no reason.
        Forbidden: somebody whose approval would not count.
        Conflict: it is over.
    """
    if not reason.strip():
        raise InvalidInput("declining needs a reason that the requester can act on: --reason TEXT.")
    with backend.catalog.writing() as tx:
        found = _judged(backend, tx, adapter, stage, request)
        asked = found.consent
        unfit = People(tx, found.version, found.request, asked).named(backend.actor).unfit if asked else ""
        if not unfit:
            _recorded(backend, tx, found.request, "request.decline", Outcome.DONE, {"reason": reason.strip()})
            if asked is not None and not asked.decline_blocks:
                return found.request
            why = f"{backend.actor}: {reason.strip()}"[:LONGEST_COMMENT]
            return close(backend, tx, found.request, Step.DECLINE, why)
        _recorded(backend, tx, found.request, "request.decline", Outcome.REFUSED, {"because": unfit})
    raise Forbidden(f"{backend.actor} cannot decline {found.request.name}, {unfit}; it stays open.")


def cancel(backend: Backend, *, adapter: str, stage: str, request: str) -> Request:
    """Take a request back: whoever may promote there may; raises Conflict when it is over."""
    with backend.catalog.writing() as tx:
        found = _open(tx, adapter, stage, request)
        return close(backend, tx, found, Step.CANCEL, f"taken back by {backend.actor}.")


def sweep(backend: Backend) -> tuple[Request, ...]:
    """Move every open request on as far as it can; those that changed."""
    with backend.catalog.reading() as tx:
        waiting = tx.requests.listed(still_open=True, limit=MOST)
    return tuple(after for each in waiting if (after := _moved_on(backend, each)))


def _moved_on(backend: Backend, request: Request) -> Request | None:
    """The request after it moved on; None when nothing changed, which takes no write."""
    with backend.catalog.reading() as tx:
        looked = _of(backend, tx, request)
    if looked is not None and not _would_change(backend, looked):
        return None
    with backend.catalog.writing() as tx:
        fresh = tx.requests.get(request.id)
        if fresh is None or not fresh.state.is_open:
            return fresh
        tx.stages.hold(request.adapter, request.stage)
        looked = _of(backend, tx, fresh)
        if looked is None:
            return failed(backend, tx, fresh, f"{fresh.reference} was removed or revoked.")
        return advance(backend, tx, looked).request


def _would_change(backend: Backend, looked: Judged) -> bool:
    """Whether it may end, or other rules stand in the way than before; how far soak time is changes nothing."""
    before = [line.partition(":")[0] for line in looked.request.blockers]
    now = [str(finding).partition(":")[0] for finding in looked.decision.blockers]
    return looked.decision.promotes or looked.already or before != now or overdue(looked.request, backend.clock())


def _of(backend: Backend, tx: Transaction, request: Request) -> Judged | None:
    version = tx.versions.numbered(request.adapter, request.number)
    if version is None or version.revoked_because is not None:
        return None
    return judged(backend, tx, version, request)


def _judged(backend: Backend, tx: Transaction, adapter: str, stage: str, request: str) -> Judged:
    found = _open(tx, adapter, stage, request)
    tx.stages.hold(adapter, stage)
    looked = _of(backend, tx, found)
    if looked is None:
        raise Conflict(f"{found.reference} was removed or revoked; {found.name} cannot go on. Cancel it.")
    return looked


def _open(tx: Transaction, adapter: str, stage: str, request: str) -> Request:
    found = tx.requests.get(request_id(request))
    if found is None or (found.adapter, found.stage) != (adapter, stage):
        raise NotFound(f"there is no request {request} for {stage} of {adapter}; `adapters requests` lists them.")
    if not found.state.is_open:
        raise Conflict(f"{found.name} is {found.state}: {found.ended or 'it is over'} Nothing was changed.")
    return found


def _found(backend: Backend, request: str) -> Request:
    with backend.catalog.reading() as tx:
        found = tx.requests.get(request_id(request))
    if found is None or not backend.asks.sees(found.adapter):
        raise NotFound(f"there is no request {request}; `adapters requests` lists them.")
    return found


def _recorded(
    backend: Backend, tx: Transaction, request: Request, action: str, outcome: Outcome, detail: dict[str, str]
) -> None:
    told = {"request": request.name, "stage": request.stage, "digest": request.version, **detail}
    tx.events.append(Entry(action, request.reference, outcome, backend.actor, backend.clock(), told))
