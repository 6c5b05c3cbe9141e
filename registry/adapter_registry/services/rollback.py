"""Roll a stage back to an earlier incumbent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Conflict, InvalidInput, NotFound, Revoked
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.gate import judge
from adapter_registry.domain.promotions.passage import Hold
from adapter_registry.domain.promotions.promotion import (
    Kind,
    Promotion,
    decide,
    earlier_incumbents,
    refusal,
    rollback_target,
)
from adapter_registry.domain.reference import parse
from adapter_registry.services.access import require_still
from adapter_registry.services.judgement import frozen, in_force
from adapter_registry.services.progress import move_detail
from adapter_registry.services.promote import check_place
from adapter_registry.services.recorded import recorded
from adapter_registry.services.references import no_adapter, version_of
from adapter_registry.services.subject import gathered


def rollback(
    backend: Backend, *, adapter: str, stage: str, to: str | None = None, reason: str = "", seen: int | None = None
) -> Promotion:
    """Move a stage back to an earlier incumbent: no scores are asked, compatibility still is.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        stage: the stage to move.
        to: a reference to an earlier incumbent; default: the one before, see `promotion.rollback_target`.
        reason: why.
        seen: the sequence of the move that the caller saw the stage stand by; None for whatever is there.

    Raises:
        NotFound: the stage never moved, `to` never held it, or the target was removed.
        Conflict: `to` holds it now, nothing came before, or it moved since `seen`.
    """
    check_place(backend, stage, adapter)
    with recorded(backend, "rollback", lambda _: (adapter, {"stage": stage, "to": to, "reason": reason})):
        return _gone_back(backend, Back(adapter, stage, to, reason, seen))


@dataclass(frozen=True, slots=True)
class Back:
    """What somebody wants of a stage, see `rollback`."""

    adapter: str
    stage: str
    to: str | None
    reason: str
    seen: int | None


def _gone_back(backend: Backend, wish: Back) -> Promotion:
    adapter, stage, reason = wish.adapter, wish.stage, wish.reason
    with backend.catalog.writing() as tx:
        require_still(backend, tx, f"rollback:{stage}", adapter)
        sequence = tx.stages.hold(adapter, stage)
        if tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        if wish.seen not in (None, sequence):
            raise _moved_on(tx, wish)
        before, target, version = _target(backend, tx, adapter, stage, wish.to)
        _check_rollback(backend, tx, version, stage, reason)
        promotion = replace(
            target,
            sequence=sequence + 1,
            previous=before,
            kind=Kind.ROLLBACK,
            actor=backend.actor,
            reason=reason,
            findings=(),
            at=backend.clock(),
            override=None,
        )
        tx.stages.move(promotion)
        holds = in_force(tx, stage).policy.process.rollbacks.hold
        if holds:
            tx.requests.set_hold(Hold(adapter, stage, backend.actor, promotion.at, reason))
        detail = {**move_detail(promotion), "from": f"{adapter}@v{before}", "reason": reason, "holds": holds}
        tx.events.append(Entry("rollback", version.reference, Outcome.DONE, backend.actor, promotion.at, detail))
    return promotion


def _moved_on(tx: Transaction, wish: Back) -> Conflict:
    now = tx.stages.current(wish.adapter, wish.stage)
    by = f"{now.actor} put v{now.number} there at {now.at[:19].replace('T', ' ')} UTC" if now else "nothing is there"
    return Conflict(f"{wish.stage} moved since you looked: {by}. It did not go back; look at it again.")


def _target(
    backend: Backend, tx: Transaction, adapter: str, stage: str, to: str | None
) -> tuple[int, Promotion, Version]:
    """(the number of what is there, the promotion gone back to, its Version)."""
    moves = tx.stages.history(adapter, stage)
    number = version_of(tx, parse(to, namespace=backend.namespace, in_use=adapter)).number if to else None
    target = rollback_target(moves, to=number)
    window = in_force(tx, stage).policy.process.rollbacks.window
    earlier = earlier_incumbents(moves)
    if window is not None and target.number not in earlier[:window]:
        near = ", ".join(f"v{each}" for each in earlier[:window])
        raise Conflict(f"v{target.number} is not among the last {window} incumbents ({near}); {stage} did not move.")
    version = tx.versions.numbered(adapter, target.number)
    if version is None:
        raise NotFound(f"v{target.number}, where {stage} would go back to, was removed; choose another with --to.")
    if version.revoked_because is not None:
        raise Revoked(
            f"{version.reference}, where {stage} would go back to, was revoked: {version.revoked_because} {stage} did "
            "not move; choose another with --to, or promote one."
        )
    return moves[0].number, target, version


def _check_rollback(backend: Backend, tx: Transaction, version: Version, stage: str, reason: str) -> None:
    """Refuse what the policy's process refuses of a rollback, and a version that fits its base no more."""
    policy = in_force(tx, stage).policy
    if policy.process.rollbacks.reason_required and not reason.strip():
        raise InvalidInput(f"going back in {stage} needs a reason; nothing moved. Give one with --reason.")
    windows = frozen(tx, version.adapter, stage, at=backend.clock())
    if windows and policy.process.freezing.respect and not policy.process.freezing.rollback_exempt:
        raise Conflict(f"{stage} is frozen {windows[0]}, rollbacks too; nothing moved.")
    integrity = policy.integrity.ageless if policy.integrity else None
    asked = Policy(stage, policy.verdicts, integrity=integrity, revoked_ancestors_pass=True)
    decision = decide(judge(asked, gathered(backend, tx, version, None, policy=asked)), digest=version.digest)
    if refused := refusal(decision, reference=version.reference, stage=stage):
        raise refused
