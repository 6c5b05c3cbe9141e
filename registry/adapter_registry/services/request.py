"""Requests for a promotion: look at them, approve, decline, cancel; and move on those that time lets through."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, RegistryError
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.request import Approval, Objection, Request, Step, request_id
from adapter_registry.services.access import require_still
from adapter_registry.services.auto import ACTOR
from adapter_registry.services.judgement import Judged, Moved, People, Weighed, judged, settled, weighing
from adapter_registry.services.pointer import LONGEST_WAIT_SECONDS, POLL_SECONDS
from adapter_registry.services.progress import advance, close, failed, note, overdue
from adapter_registry.services.recorded import of_request, recorded

LOG = logging.getLogger("adapters.requests")
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
    given = Approving(adapter, stage, request_id(request), seen, comment.strip()[:LONGEST_COMMENT])
    with recorded(backend, "request.approve", lambda tx: of_request(tx, given.request, adapter, stage=stage)):
        return settled(lambda: _weighing(backend, given.request), lambda before: _approved(backend, given, before))


@dataclass(frozen=True, slots=True)
class Approving:
    """An approval under way; arguments as of `approve`."""

    adapter: str
    stage: str
    request: int
    seen: Digest | None
    comment: str


def _approved(backend: Backend, given: Approving, before: Weighed | None) -> Judged:
    with backend.catalog.writing() as tx:
        require_still(backend, tx, f"approve:{given.stage}", given.adapter)
        found = _judged(backend, tx, given.adapter, given.stage, given.request, before)
        if not found.consents:
            raise InvalidInput(f"the policy of {given.stage} asks for no approvals; nothing was changed.")
        if given.seen is not None and given.seen != found.seen:
            raise Conflict(f"{found.request.name} is no longer what you saw; nothing was approved. Look at it again.")
        if unfit := _unfit(backend, tx, found):
            raise Forbidden(
                f"{backend.actor} cannot approve {found.request.name}, {unfit}; nothing was approved. Somebody else "
                f"has to: `adapters requests show {found.request.name}` says what is missing."
            )
        approval = Approval(backend.actor, backend.clock(), found.binding, given.comment)
        noted = note(tx, found.request.said(approval))
        detail = {"comment": given.comment, "seen": found.seen, "at": approval.at, "binding": asdict(found.binding)}
        _recorded(backend, tx, noted, "request.approve", detail)
        return advance(backend, tx, judged(backend, tx, found.version, noted, before=before))


def _unfit(backend: Backend, tx: Transaction, found: Judged) -> str:
    """Why nothing that whoever asks says of a request counts; empty where it does, or nobody is asked."""
    asked = [People(tx, found.version, found.request, each).named(backend.actor) for each in found.consents]
    return asked[0].unfit if asked and all(each.unfit for each in asked) else ""


def decline(backend: Backend, *, adapter: str, stage: str, request: str, reason: str) -> Request:
    """Decline a request: it ends, or goes on without theirs where the policy says that declining does not block.

    Raises:
        InvalidInput: no reason.
        Forbidden: somebody whose approval would not count.
        Conflict: it is over.
    """
    if not reason.strip():
        raise InvalidInput("declining needs a reason that the requester can act on: --reason TEXT.")
    with recorded(backend, "request.decline", lambda tx: of_request(tx, request_id(request), adapter, stage=stage)):
        given = Approving(adapter, stage, request_id(request), None, reason.strip()[:LONGEST_COMMENT])
        return settled(
            lambda: _weighing(backend, given.request),
            lambda before: _declined(backend, given, before),
        )


def _declined(backend: Backend, given: Approving, before: Weighed | None) -> Request:
    with backend.catalog.writing() as tx:
        require_still(backend, tx, f"approve:{given.stage}", given.adapter)
        found = _judged(backend, tx, given.adapter, given.stage, given.request, before)
        if unfit := _unfit(backend, tx, found):
            raise Forbidden(f"{backend.actor} cannot decline {found.request.name}, {unfit}; it stays open.")
        reason, request = given.comment, found.request
        blocks = not found.consents or all(each.decline_blocks for each in found.consents)
        objection = Objection(backend.actor, backend.clock(), reason)
        _recorded(backend, tx, request, "request.decline", {"reason": reason, "at": objection.at, "ends": blocks})
        if blocks:
            return close(backend, tx, request, Step.DECLINE, f"{backend.actor}: {reason}"[:LONGEST_COMMENT])
        return note(tx, request.said(objection))


def cancel(backend: Backend, *, adapter: str, stage: str, request: str) -> Request:
    """Take a request back: whoever may promote there may; raises Conflict when it is over."""
    number = request_id(request)
    with (
        recorded(backend, "request.cancel", lambda tx: of_request(tx, number, adapter, stage=stage)),
        backend.catalog.writing() as tx,
    ):
        found = _open(tx, adapter, stage, number)
        return close(backend, tx, found, Step.CANCEL, f"taken back by {backend.actor}.")


def sweep(backend: Backend) -> tuple[Request, ...]:
    """Move every open request on as far as it can; those that changed."""
    return tuple(after for each in _waiting(backend) if (after := _moved_on(backend, each)))


def stirred(backend: Backend) -> tuple[Request, ...]:
    """As `sweep`, after something else that is done: what fails here is left for the next look, and logged."""
    try:
        return sweep(backend)
    except RegistryError as error:
        LOG.warning("open requests cannot be looked at: %s", error.text)
        return ()


def _waiting(backend: Backend) -> Iterator[Request]:
    """Every open request, newest first, a page in memory at a time."""
    before: int | None = None
    while True:
        with backend.catalog.reading() as tx:
            page = tx.requests.listed(still_open=True, before=before, limit=MOST)
        yield from page
        if len(page) < MOST:
            return
        before = page[-1].id


def _moved_on(backend: Backend, request: Request) -> Request | None:
    """The request after it moved on; None when nothing changed, which takes no write.

    Whoever happens to look moves it on, so what that writes is the registry's doing and not theirs.
    """
    backend = replace(backend, actor=ACTOR)
    before = _weighing(backend, request.id)
    try:
        with backend.catalog.reading() as tx:
            looked = _of(backend, tx, request, before)
    except Moved:
        looked = None
    if looked is not None and not _would_change(backend, looked):
        return None
    return settled(lambda: _weighing(backend, request.id), lambda before: _advanced(backend, request, before))


def _advanced(backend: Backend, request: Request, before: Weighed | None) -> Request | None:
    with backend.catalog.writing() as tx:
        fresh = tx.requests.get(request.id)
        if fresh is None or not fresh.state.is_open:
            return fresh
        tx.stages.hold(request.adapter, request.stage)
        looked = _of(backend, tx, fresh, before)
        if looked is None:
            return failed(backend, tx, fresh, f"{fresh.reference} was removed or revoked.")
        return advance(backend, tx, looked).request


def _would_change(backend: Backend, looked: Judged) -> bool:
    """Whether it may end, or other rules stand in the way than before; how far soak time is changes nothing."""
    before = [line.partition(":")[0] for line in looked.request.blockers]
    now = [str(finding).partition(":")[0] for finding in looked.decision.blockers]
    return looked.decision.promotes or looked.already or before != now or bool(overdue(looked.request, backend.clock()))


def _weighing(backend: Backend, request: int) -> Weighed | None:
    """What the gates say of the version of a request now; None when there is none to judge."""
    with backend.catalog.reading() as tx:
        found = tx.requests.get(request)
    if found is None:
        return None
    return weighing(backend, found.stage, lambda tx: tx.versions.numbered(found.adapter, found.number))


def _of(backend: Backend, tx: Transaction, request: Request, before: Weighed | None) -> Judged | None:
    version = tx.versions.numbered(request.adapter, request.number)
    if version is None or version.revoked_because is not None:
        return None
    return judged(backend, tx, version, request, before=before)


def _judged(
    backend: Backend, tx: Transaction, adapter: str, stage: str, request: int, before: Weighed | None
) -> Judged:
    found = _open(tx, adapter, stage, request)
    tx.stages.hold(adapter, stage)
    looked = _of(backend, tx, found, before)
    if looked is None:
        raise Conflict(f"{found.reference} was removed or revoked; {found.name} cannot go on. Cancel it.")
    return looked


def _open(tx: Transaction, adapter: str, stage: str, request: int) -> Request:
    found = tx.requests.get(request)
    if found is None or (found.adapter, found.stage) != (adapter, stage):
        raise NotFound(f"there is no request P-{request} for {stage} of {adapter}; `adapters requests ls` lists them.")
    if not found.state.is_open:
        why = f" ({found.ended.rstrip('.')})" if found.ended else ""
        raise Conflict(f"{found.name} is {found.state}{why}; nothing was changed.")
    return found


def _found(backend: Backend, request: str) -> Request:
    with backend.catalog.reading() as tx:
        found = tx.requests.get(request_id(request))
    if found is None or not backend.asks.sees(found.adapter):
        raise NotFound(f"there is no request {request}; `adapters requests ls` lists them.")
    return found


def _recorded(backend: Backend, tx: Transaction, request: Request, action: str, detail: Mapping[str, object]) -> None:
    told = {"request": request.name, "stage": request.stage, "digest": request.version, **detail}
    tx.events.append(Entry(action, request.reference, Outcome.DONE, backend.actor, backend.clock(), told))
