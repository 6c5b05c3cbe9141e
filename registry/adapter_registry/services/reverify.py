"""Verify again what a stage points to: the gates are asked anew, and the pointer stays where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.gate import judge
from adapter_registry.domain.promotions.promotion import Decision, decide, inputs_digest
from adapter_registry.domain.promotions.verification import Due, Verified, due
from adapter_registry.services.auto import ACTOR
from adapter_registry.services.judgement import Moved, in_force, settled
from adapter_registry.services.references import no_adapter, nothing_there
from adapter_registry.services.subject import gathered


@dataclass(frozen=True, slots=True)
class Reverified:
    """What the gates say now of a version that is in a stage.

    Attributes:
        adapter: `namespace/name`.
        stage: or a lane of one.
        number: of the Version.
        decision: with every finding; it stays verified when that promotes.
        at: when.
    """

    adapter: str
    stage: str
    number: int
    decision: Decision
    at: str


def reverify(backend: Backend, *, adapter: str, stage: str) -> Reverified:
    """Ask the gates of a stage about the version that is in it; where all pass, it counts as verified from now on.

    How it got there is not asked again: neither where from, nor who agreed. With no incumbent beside itself it is
    compared with the base. The attempt is recorded either way.

    Raises:
        NotFound: the stage points to nothing.
    """
    return settled(
        lambda: _weighed(backend, adapter, stage),
        lambda before: _reverified(backend, adapter, stage, before),
    )


def _weighed(backend: Backend, adapter: str, stage: str) -> Decision | None:
    """What the gates say, before anybody waits for the stage; None when it points to nothing."""
    with backend.catalog.reading() as tx:
        current = tx.stages.current(adapter, stage)
        return _judged(backend, tx, adapter, stage, current.number) if current else None


def _reverified(backend: Backend, adapter: str, stage: str, before: Decision | None) -> Reverified:
    with backend.catalog.writing() as tx:
        tx.stages.ladder().check(stage, adapter)
        current = tx.stages.current(adapter, stage)
        if current is None:
            if tx.versions.spelled(adapter) != adapter:
                raise no_adapter(tx, adapter)
            raise nothing_there(adapter, stage)
        decision = _judged(backend, tx, adapter, stage, current.number, before)
        now = backend.clock()
        if decision.promotes:
            tx.stages.verify(Verified(adapter, stage, current.sequence, current.number, now))
        detail = {
            "stage": stage,
            "digest": current.version,
            "sequence_verified": current.sequence,
            "result": str(decision.outcome),
            "blockers": [str(finding) for finding in decision.blockers],
            "decision": decision.digest,
        }
        outcome = Outcome.DONE if decision.promotes else Outcome.REFUSED
        tx.events.append(Entry("reverify", f"{adapter}@v{current.number}", outcome, backend.actor, now, detail))
    return Reverified(adapter, stage, current.number, decision, now)


def upcoming(backend: Backend, *, adapter: str | None = None) -> tuple[Due, ...]:
    """What of the adapters that the caller sees has to be verified again soon, or should have been; by when.

    Args:
        backend: the registry.
        adapter: only this one.
    """
    with backend.catalog.reading() as tx:
        found = [each for each in _due(backend, tx, adapter) if backend.asks.sees(each.adapter)]
        told = [replace(each, blockers=_blockers(backend, tx, each)) for each in found]
    return tuple(sorted(told, key=lambda each: each.due_at))


def sweep(backend: Backend) -> tuple[Reverified, ...]:
    """Verify what is due and passes as things are; what does not pass is left for people, and nothing is recorded."""
    mine = replace(backend, actor=ACTOR)
    passing = [each for each in upcoming(mine) if not each.blockers]
    return tuple(reverify(mine, adapter=each.adapter, stage=each.stage) for each in passing)


def _due(backend: Backend, tx: Transaction, adapter: str | None) -> Iterator[Due]:
    now = backend.clock()
    for stage in tx.stages.ladder().stages:
        every = in_force(tx, stage.name).policy.process.reverify_seconds
        for place in stage.places if every else ():
            for known in tx.stages.verified(place, adapter):
                if every and (found := due(known, every, now=now)):
                    yield found


def _blockers(backend: Backend, tx: Transaction, found: Due) -> tuple[str, ...]:
    decision = _judged(backend, tx, found.adapter, found.stage, found.number)
    return tuple(f"{finding.rule}: {finding.reason}" for finding in decision.blockers)


def _judged(
    backend: Backend, tx: Transaction, adapter: str, stage: str, number: int, before: Decision | None = None
) -> Decision:
    """What the gates say of a version in a stage; `before` is what they said of the same inputs, else Moved."""
    policy = in_force(tx, stage).policy
    version = tx.versions.numbered(adapter, number)
    if version is None:
        raise nothing_there(adapter, stage)
    subject = gathered(backend, tx, version, None, policy=policy)
    inputs = inputs_digest(policy, subject)
    if before is not None and before.digest != inputs:
        raise Moved
    return before or decide(judge(policy, subject), digest=inputs)
