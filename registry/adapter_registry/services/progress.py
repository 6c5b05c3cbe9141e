"""Progress: how requests open, move on and end, one event for each edge; and how a stage moves."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.finding import Outcome as Said
from adapter_registry.domain.promotions.override import Override
from adapter_registry.domain.promotions.promotion import Kind, Promotion, Result
from adapter_registry.domain.promotions.request import Request, State, Step, after
from adapter_registry.services.judgement import Judged, Weighed, judged

REQUEST_DAYS = 30
"""How long a request may stay open."""


def opened(backend: Backend, tx: Transaction, draft: Judged, *, before: Weighed | None) -> Judged:
    """Store the draft that a judgement was made of as a request that waits; one for another version makes way.

    It is judged again as what it now is, `before` as for `judged`, so that what it waits for names it.
    """
    there = tx.requests.open_for(draft.version.adapter, draft.stage)
    if there:
        close(backend, tx, there, Step.SUPERSEDE, f"{draft.version.reference} was asked for in its place.")
    request = tx.requests.add(draft.request)
    _told(backend, tx, request, None)
    request = _step(backend, tx, request, Step.EVALUATE)
    found = judged(backend, tx, draft.version, request, before=before)
    request = replace(request, blockers=_blockers(found))
    if found.decision.outcome is Result.REFUSED:
        request = close(backend, tx, request, Step.REFUSE, _refused_because(found))
    else:
        request = _step(backend, tx, request, Step.BLOCK)
    return replace(found, request=request, instead_of=there)


def advance(backend: Backend, tx: Transaction, found: Judged) -> Judged:
    """Move an open request on as far as a fresh judgement lets it; nothing is written while nothing changed."""
    request, decision = found.request, found.decision
    if found.already:
        ended = close(backend, tx, request, Step.SUPERSEDE, f"{found.stage} points to v{request.number} already.")
        return replace(found, request=ended)
    if why := overdue(request, backend.clock()):
        return replace(found, request=close(backend, tx, request, Step.EXPIRE, why))
    goes_on = decision.promotes or decision.outcome is Result.REFUSED
    if request.state is State.WAITING and request.blockers == _blockers(found) and not goes_on:
        return found
    request = _step(backend, tx, request, Step.EVALUATE)
    if decision.promotes:
        for step in (Step.CLEAR, Step.APPLY):
            request = _step(backend, tx, request, step)
        found = moved(backend, tx, replace(found, request=request))
        return replace(found, request=_step(backend, tx, replace(request, blockers=()), Step.FINISH))
    request = replace(request, blockers=_blockers(found))
    if decision.outcome is Result.REFUSED:
        tx.events.append(attempt(backend, found, Outcome.REFUSED))
        return replace(found, request=close(backend, tx, request, Step.REFUSE, _refused_because(found)))
    return replace(found, request=_step(backend, tx, request, Step.BLOCK))


def close(backend: Backend, tx: Transaction, request: Request, step: Step, why: str) -> Request:
    """End a request."""
    return _step(backend, tx, replace(request, ended=why), step)


def failed(backend: Backend, tx: Transaction, request: Request, why: str) -> Request:
    """End a request that cannot be judged any more."""
    return close(backend, tx, _step(backend, tx, request, Step.EVALUATE), Step.FAIL, why)


def overdue(request: Request, now: str) -> str:
    """Why a request was open for too long; empty when it was not."""
    if request.override and now > request.override.expires_at:
        return f"its override was good until {request.override.expires_at[:16].replace('T', ' ')} UTC."
    age = datetime.fromisoformat(now) - datetime.fromisoformat(request.opened_at)
    return f"it was open for {REQUEST_DAYS} days." if age > timedelta(days=REQUEST_DAYS) else ""


def moved(backend: Backend, tx: Transaction, found: Judged) -> Judged:
    """Move the stage to what was judged, in the transaction that judged it; a person's move lifts a hold.

    An open request for something else makes way: applied later, it would take this back.
    """
    request = found.request
    promotion = Promotion(
        adapter=found.version.adapter,
        stage=found.stage,
        sequence=found.binding.generation + 1,
        number=found.version.number,
        version=found.version.digest,
        previous=found.incumbent.number if found.incumbent else None,
        kind=Kind.PROMOTE,
        actor=request.requester,
        reason=request.reason,
        findings=found.decision.findings,
        policy=found.in_force.policy.digest,
        policy_revision=found.in_force.revision,
        decision=found.decision.digest,
        at=backend.clock(),
        override=_used(found),
    )
    tx.stages.move(promotion)
    if not request.machine:
        tx.requests.lift_hold(promotion.adapter, promotion.stage)
    other = tx.requests.open_for(promotion.adapter, promotion.stage)
    if other and other.id != request.id:
        close(backend, tx, other, Step.SUPERSEDE, f"{found.version.reference} was promoted in its place.")
        found = replace(found, instead_of=other)
    found = replace(found, promotion=promotion)
    event = attempt(backend, found, Outcome.DONE)
    tx.events.append(replace(event, detail={**event.detail, "lifts_hold": not request.machine}))
    if promotion.override:
        tx.events.append(_overridden(backend, found, promotion.override))
    return found


def _used(found: Judged) -> Override | None:
    """The override that a promotion rests on, with the rules that it did pass over; None when it needed none."""
    passed = tuple(each.rule for each in found.decision.findings if each.outcome is Said.OVERRIDDEN)
    override = found.request.override
    return replace(override, rules=tuple(dict.fromkeys(passed))) if override and passed else None


def _overridden(backend: Backend, found: Judged, override: Override) -> Entry:
    """The event that rules were passed over, beside that of the promotion: of high severity."""
    detail = {
        "severity": "high",
        "stage": found.stage,
        "digest": found.version.digest,
        "rules": list(override.rules),
        "by": override.by,
        "reason": override.reason,
        "ticket": override.ticket,
        "approved_by": [each.by for each in found.request.approvals],
        **({"request": found.request.name} if found.request.id else {}),
    }
    return Entry("override", found.version.reference, Outcome.DONE, backend.actor, backend.clock(), detail)


def attempt(backend: Backend, found: Judged, outcome: Outcome) -> Entry:
    """The event of an attempt to promote."""
    detail = {
        "stage": found.stage,
        "digest": found.version.digest,
        "from": found.incumbent.reference if found.incumbent else None,
        "decision": found.decision.digest,
        "result": str(found.decision.outcome),
        "blockers": _blockers(found),
        "reason": found.request.reason,
        "policy_revision": found.in_force.revision,
        **_override_detail(found.request),
        **({"request": found.request.name} if found.request.id else {}),
        **(move_detail(found.promotion) if found.promotion else {}),
    }
    return Entry("promote", found.version.reference, outcome, backend.actor, backend.clock(), detail)


def _override_detail(request: Request) -> dict[str, Any]:
    return {"override": asdict(request.override)} if request.override else {}


def move_detail(promotion: Promotion) -> dict[str, Any]:
    """What of a move its event holds, so that the pointers can be made again from the audit log."""
    return {
        "stage": promotion.stage,
        "sequence": promotion.sequence,
        "digest": promotion.version,
        "previous": promotion.previous,
        "at": promotion.at,
        "by": promotion.actor,
    }


def taken(backend: Backend, tx: Transaction, request: Request) -> Request:
    """The request as stored, once a person has made a machine's theirs by asking for the same."""
    before = tx.requests.get(request.id)
    if before is None or before.requester == request.requester:
        return request
    told = {
        "request": request.name,
        "stage": request.stage,
        "digest": request.version,
        "taken_from": before.requester,
        "requester": request.requester,
        "reason": request.reason,
    }
    tx.events.append(Entry("request.take", request.reference, Outcome.DONE, backend.actor, backend.clock(), told))
    return note(tx, request)


def reworded(backend: Backend, tx: Transaction, request: Request, reason: str) -> Request:
    """The request with another reason, by whoever asked for it."""
    told = {"request": request.name, "stage": request.stage, "digest": request.version, "reason": reason}
    noted = note(tx, replace(request, reason=reason))
    tx.events.append(Entry("request.reason", request.reference, Outcome.DONE, backend.actor, backend.clock(), told))
    return noted


def note(tx: Transaction, request: Request) -> Request:
    """Store a request that changed without a step, so that who waits hears of it."""
    noted = replace(request, changed=request.changed + 1)
    tx.requests.put(noted)
    return noted


def _step(backend: Backend, tx: Transaction, request: Request, step: Step) -> Request:
    stepped = replace(request, state=after(request.state, step), changed=request.changed + 1)
    tx.requests.put(stepped)
    _told(backend, tx, stepped, request.state)
    return stepped


def _told(backend: Backend, tx: Transaction, request: Request, before: State | None) -> None:
    detail = {
        "request": request.name,
        "stage": request.stage,
        "digest": request.version,
        "before": before and str(before),
        "state": str(request.state),
        "requester": request.requester,
        "machine": request.machine,
        "hotfix": request.hotfix,
        "auto": request.auto,
        "opened_at": request.opened_at,
        "blockers": list(request.blockers),
        "reason": request.ended or request.reason,
        "ended": request.ended,
        **_override_detail(request),
    }
    refused = request.state in (State.REFUSED, State.DECLINED, State.EXPIRED, State.FAILED)
    outcome = Outcome.REFUSED if refused else Outcome.DONE
    tx.events.append(
        Entry(f"request.{request.state}", request.reference, outcome, backend.actor, backend.clock(), detail)
    )


def _refused_because(found: Judged) -> str:
    """What failed; what else stood in the way would only have had to be waited for."""
    failed = [each for each in found.decision.blockers if each.outcome in (Said.FAIL, Said.ERROR)]
    return "; ".join(f"{each.rule}: {each.reason}" for each in failed)


def _blockers(found: Judged) -> tuple[str, ...]:
    return tuple(str(finding) for finding in found.decision.blockers)
