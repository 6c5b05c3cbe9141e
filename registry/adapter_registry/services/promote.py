"""Promote, roll back, and say what each stage pointed to and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.event import Entry, Outcome
from adapter_registry.domain.gate import judge
from adapter_registry.domain.policy import DEFAULT_PRESET, Policy, preset
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotion import Decision, Kind, Promotion, decide, inputs_digest, rollback_target
from adapter_registry.domain.reference import parse
from adapter_registry.domain.stage import check_stage
from adapter_registry.services.pull import served
from adapter_registry.services.references import no_adapter, version_of
from adapter_registry.services.subject import gathered


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A stage's policy and its revision; revision 0 is the built-in preset that nobody changed yet."""

    policy: Policy
    revision: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer to `promote`, moved or not.

    Attributes:
        version: what was judged.
        stage: what it was to enter.
        incumbent: the Version that held the stage; None when nobody did.
        in_force: the policy that judged.
        decision: with every finding.
        promotion: the record of the move; None when nothing moved.
        already: whether the stage pointed to this Version before.
    """

    version: Version
    stage: str
    incumbent: Version | None
    in_force: PolicyInForce
    decision: Decision
    promotion: Promotion | None
    already: bool


def explain(backend: Backend, *, reference: str, stage: str) -> Judged:
    """What `promote` would say now; nothing is written."""
    with backend.catalog.reading() as tx:
        return _judged(backend, tx, reference, check_stage(stage))


def promote(backend: Backend, *, reference: str, stage: str, reason: str = "") -> Judged:
    """Move a stage to a Version if every gate of the stage passes.

    Version, stage, scores and policy are read and judged under the same lock under which the stage moves. The
    attempt is recorded either way; the answer says whether it moved, and every blocker if not.
    """
    check_stage(stage)
    with backend.catalog.writing() as tx:
        judged = _judged(backend, tx, reference, stage)
        if judged.decision.promotes and not judged.already:
            promotion = _promotion(backend, judged, tx.stages.hold(judged.version.adapter, stage) + 1, reason)
            tx.stages.move(promotion)
            judged = replace(judged, promotion=promotion)
        outcome = Outcome.DONE if judged.decision.promotes else Outcome.REFUSED
        tx.events.append(_entry(backend, "promote", judged, outcome, reason))
    return judged


def _judged(backend: Backend, tx: Transaction, reference: str, stage: str) -> Judged:
    version = served(version_of(tx, parse(reference, namespace=backend.namespace)))
    tx.stages.hold(version.adapter, stage)
    incumbent = tx.versions.staged(version.adapter, stage)
    in_force = _in_force(tx, stage)
    subject = gathered(backend, tx, version, incumbent, policy=in_force.policy)
    decision = decide(judge(in_force.policy, subject), digest=inputs_digest(in_force.policy, subject))
    already = incumbent is not None and incumbent.number == version.number
    return Judged(version, stage, incumbent, in_force, decision, None, already)


def _promotion(backend: Backend, judged: Judged, sequence: int, reason: str) -> Promotion:
    return Promotion(
        adapter=judged.version.adapter,
        stage=judged.stage,
        sequence=sequence,
        number=judged.version.number,
        version=judged.version.digest,
        previous=judged.incumbent.number if judged.incumbent else None,
        kind=Kind.PROMOTE,
        actor=backend.actor,
        reason=reason,
        findings=judged.decision.findings,
        policy=judged.in_force.policy.digest,
        policy_revision=judged.in_force.revision,
        decision=judged.decision.digest,
        at=backend.clock(),
    )


def _entry(backend: Backend, action: str, judged: Judged, outcome: Outcome, reason: str) -> Entry:
    detail = {
        "stage": judged.stage,
        "digest": judged.version.digest,
        "from": judged.incumbent.reference if judged.incumbent else None,
        "decision": judged.decision.digest,
        "result": str(judged.decision.outcome),
        "blockers": [str(finding) for finding in judged.decision.blockers],
        "reason": reason,
        "policy_revision": judged.in_force.revision,
    }
    return Entry(action, judged.version.reference, outcome, backend.actor, backend.clock(), detail)


def rollback(backend: Backend, *, adapter: str, stage: str, to: str | None = None, reason: str = "") -> Promotion:
    """Move a stage back to an earlier incumbent: no scores are asked, compatibility still is.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        stage: the stage to move.
        to: a reference to an earlier incumbent; default: the one before, see `promotion.rollback_target`.
        reason: why.

    Raises:
        NotFound: the stage never moved, `to` never held it, or the target was removed.
        Conflict: `to` holds it now, or nothing came before.
    """
    check_stage(stage)
    with backend.catalog.writing() as tx:
        sequence = tx.stages.hold(adapter, stage)
        if tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
        moves = tx.stages.history(adapter, stage)
        number = version_of(tx, parse(to, namespace=backend.namespace, in_use=adapter)).number if to else None
        target = rollback_target(moves, to=number)
        version = tx.versions.numbered(adapter, target.number)
        if version is None:
            raise NotFound(f"v{target.number}, where {stage} would go back to, was removed; choose another with --to.")
        served(version)
        promotion = replace(
            target,
            sequence=sequence + 1,
            previous=moves[0].number,
            kind=Kind.ROLLBACK,
            actor=backend.actor,
            reason=reason,
            findings=(),
            at=backend.clock(),
        )
        tx.stages.move(promotion)
        detail = {"stage": stage, "digest": version.digest, "from": f"{adapter}@v{moves[0].number}", "reason": reason}
        tx.events.append(Entry("rollback", version.reference, Outcome.DONE, backend.actor, promotion.at, detail))
    return promotion


@dataclass(frozen=True, slots=True)
class History:
    """Moves of an adapter's stages.

    Attributes:
        moves: newest first; up to `at` when that was asked.
        at: the moment asked about, ISO 8601 in UTC; None for now.
        pointing: stage -> version number it pointed to at that moment.
    """

    moves: tuple[Promotion, ...]
    at: str | None
    pointing: dict[str, int]


def history(backend: Backend, *, adapter: str, stage: str | None = None, at: str | None = None) -> History:
    """Which version each stage pointed to and when.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        stage: only this stage.
        at: a moment; a date alone means the end of that day, in UTC.
    """
    if stage is not None:
        check_stage(stage)
    moment = _moment(at) if at else None
    with backend.catalog.reading() as tx:
        moves = tx.stages.history(adapter, stage)
        if not moves and tx.versions.spelled(adapter) != adapter:
            raise no_adapter(tx, adapter)
    kept = tuple(move for move in moves if moment is None or move.at <= moment)
    pointing = {move.stage: move.number for move in reversed(kept)}
    return History(kept, moment, pointing)


def _moment(text: str) -> str:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text!r} is not a time; write 2026-03-01, 2026-03-01T14:30 or 2026-03-01T14:30+02:00."
        ) from error
    if len(text) <= len("2026-03-01"):
        parsed = parsed.replace(hour=23, minute=59, second=59, microsecond=999_999)
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def policy(backend: Backend, *, stage: str) -> PolicyInForce:
    """The policy a stage judges by."""
    with backend.catalog.reading() as tx:
        return _in_force(tx, check_stage(stage))


def _in_force(tx: Transaction, stage: str) -> PolicyInForce:
    stored = tx.stages.policy(stage)
    if stored is None:
        return PolicyInForce(preset(DEFAULT_PRESET, stage=stage), 0)
    revision, document = stored
    return PolicyInForce(document, revision)


def set_policy(backend: Backend, *, stage: str, policy: Policy) -> PolicyInForce:
    """Give a stage a new revision of its policy; the same rules again change nothing.

    Raises:
        InvalidInput: the document is for another stage.
    """
    check_stage(stage)
    if policy.stage != stage:
        raise InvalidInput(f"the document is a policy for {policy.stage!r}, not for {stage!r}; nothing was changed.")
    with backend.catalog.writing() as tx:
        before = _in_force(tx, stage)
        if before.policy.digest == policy.digest and before.revision:
            return before
        revision = tx.stages.set_policy(policy, by=backend.actor, at=backend.clock())
        detail = {"stage": stage, "revision": revision, "digest": policy.digest, "before": before.policy.digest}
        tx.events.append(Entry("policy.set", stage, Outcome.DONE, backend.actor, backend.clock(), detail))
    return PolicyInForce(policy, revision)
