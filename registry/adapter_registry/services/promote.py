"""Promote, roll back, and say what each stage pointed to and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adapter_registry.domain.access import EVERYTHING
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, PromotionRefused, Revoked
from adapter_registry.domain.event import Entry, Outcome
from adapter_registry.domain.gate import judge
from adapter_registry.domain.passage import Hold
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.policy_lint import Advice, misplaced, unfed
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotion import Kind, Promotion, Result, decide, refusal, rollback_target
from adapter_registry.domain.reference import parse
from adapter_registry.domain.request import Request
from adapter_registry.domain.satisfiable import unsatisfied
from adapter_registry.services.auto import following
from adapter_registry.services.judgement import Judged, PolicyInForce, frozen, in_force, judged
from adapter_registry.services.progress import advance, attempt, move_detail, moved, opened, taken
from adapter_registry.services.pull import served
from adapter_registry.services.references import no_adapter, version_of
from adapter_registry.services.subject import gathered


def explain(backend: Backend, *, reference: str, stage: str, hotfix: bool = False) -> Judged:
    """What `promote` would say now; nothing is written."""
    with backend.catalog.reading() as tx:
        version = _asked(backend, tx, reference, stage)
        return judged(backend, tx, version, _mine(backend, tx, version, Wish(stage, hotfix)))


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a version: the stage, by which path, and why."""

    stage: str
    hotfix: bool = False
    reason: str = ""


def promote(backend: Backend, *, reference: str, stage: str, reason: str = "", hotfix: bool = False) -> Judged:
    """Move a stage to a Version if every gate of the stage passes; open a request where something can still arrive.

    Version, stage, scores, policy and approvals are read and judged under the same lock under which the stage moves.
    The attempt is recorded either way; the answer says whether it moved, and every blocker if not.

    Args:
        backend: the registry.
        reference: which version.
        stage: where to.
        reason: why.
        hotfix: take the hotfix path: other stages to come from, no soak time, one more approval.

    Raises:
        InvalidInput: a hotfix without a reason, or into a stage whose policy has no hotfix path.
    """
    if hotfix and not reason.strip():
        raise InvalidInput("a hotfix needs a reason; nothing was changed. Give one with --reason.")
    with backend.catalog.writing() as tx:
        version = _asked(backend, tx, reference, stage)
        tx.stages.hold(version.adapter, stage)
        found = judged(backend, tx, version, _mine(backend, tx, version, Wish(stage, hotfix, reason)))
        outcome = Outcome.DONE if found.decision.promotes else Outcome.REFUSED
        if found.request.id:
            found = advance(backend, tx, replace(found, request=taken(backend, tx, found.request)))
        elif found.decision.promotes and not found.already:
            found = moved(backend, tx, found)
        else:
            if found.decision.outcome is Result.WAITING and not found.already:
                found = opened(backend, tx, found)
            tx.events.append(attempt(backend, found, outcome))
    if found.promotion:
        following(backend, adapter=found.version.adapter)
    return found


def _asked(backend: Backend, tx: Transaction, reference: str, stage: str) -> Version:
    """The Version a reference means, of an adapter that has the stage."""
    wanted = parse(reference, namespace=backend.namespace)
    tx.stages.ladder().check(stage, wanted.adapter)
    return served(version_of(tx, wanted))


def _mine(backend: Backend, tx: Transaction, version: Version, wish: Wish) -> Request:
    """The open request for this, or the draft of one."""
    there = tx.requests.open_for(version.adapter, wish.stage)
    who = backend.actor
    if there and there.version == version.digest and there.hotfix == wish.hotfix:
        if there.machine and not backend.asks.machine:
            # A person who asks for what a machine asked for makes it theirs, so that no hold stops it.
            return replace(there, requester=who, machine=False, auto=False, reason=wish.reason)
        # Whoever asks again and says more is taken at the later word.
        return replace(there, reason=wish.reason) if wish.reason and there.requester == who else there
    machine = backend.asks.machine
    if wish.hotfix and not in_force(tx, wish.stage).policy.process.hotfixes:
        raise InvalidInput(f"the policy of {wish.stage} declares no hotfix path; nothing was changed.")
    return Request(
        *(0, version.adapter, wish.stage, version.number, version.digest, who),
        machine=machine,
        hotfix=wish.hotfix,
        reason=wish.reason,
        opened_at=backend.clock(),
    )


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
    try:
        with backend.catalog.writing() as tx:
            tx.stages.ladder().check(stage, adapter)
            sequence = tx.stages.hold(adapter, stage)
            if tx.versions.spelled(adapter) != adapter:
                raise no_adapter(tx, adapter)
            target, version = _target(backend, tx, adapter, stage, to)
            _check_rollback(backend, tx, version, stage, reason)
            before = tx.stages.history(adapter, stage)[0].number
            promotion = replace(
                target,
                sequence=sequence + 1,
                previous=before,
                kind=Kind.ROLLBACK,
                actor=backend.actor,
                reason=reason,
                findings=(),
                at=backend.clock(),
            )
            tx.stages.move(promotion)
            if in_force(tx, stage).policy.process.rollbacks.hold:
                tx.requests.set_hold(Hold(adapter, stage, backend.actor, promotion.at, reason))
            detail = {**move_detail(promotion), "from": f"{adapter}@v{before}", "reason": reason}
            tx.events.append(Entry("rollback", version.reference, Outcome.DONE, backend.actor, promotion.at, detail))
    except (Conflict, InvalidInput, Revoked, PromotionRefused) as refused:
        with backend.catalog.writing() as tx:
            detail = {"stage": stage, "to": to, "reason": reason, "blockers": [refused.text]}
            tx.events.append(Entry("rollback", adapter, Outcome.REFUSED, backend.actor, backend.clock(), detail))
        raise
    return promotion


def _target(backend: Backend, tx: Transaction, adapter: str, stage: str, to: str | None) -> tuple[Promotion, Version]:
    """(the promotion gone back to, its Version)."""
    moves = tx.stages.history(adapter, stage)
    number = version_of(tx, parse(to, namespace=backend.namespace, in_use=adapter)).number if to else None
    target = rollback_target(moves, to=number)
    window = in_force(tx, stage).policy.process.rollbacks.window
    earlier = tuple(dict.fromkeys(move.number for move in moves if move.number != moves[0].number))
    if window is not None and target.number not in earlier[:window]:
        near = ", ".join(f"v{each}" for each in earlier[:window])
        raise Conflict(f"v{target.number} is not among the last {window} incumbents ({near}); {stage} did not move.")
    version = tx.versions.numbered(adapter, target.number)
    if version is None:
        raise NotFound(f"v{target.number}, where {stage} would go back to, was removed; choose another with --to.")
    return target, served(version)


def _check_rollback(backend: Backend, tx: Transaction, version: Version, stage: str, reason: str) -> None:
    """Refuse what the policy's process refuses of a rollback, and a version that fits its base no more."""
    policy = in_force(tx, stage).policy
    if policy.process.rollbacks.reason_required and not reason.strip():
        raise InvalidInput(f"going back in {stage} needs a reason; nothing moved. Give one with --reason.")
    windows = frozen(tx, version.adapter, stage, at=backend.clock())
    if windows and policy.process.freezing.respect and not policy.process.freezing.rollback_exempt:
        raise Conflict(f"{stage} is frozen {windows[0]}, rollbacks too; nothing moved.")
    asked = Policy(stage, policy.verdicts)
    decision = decide(judge(asked, gathered(backend, tx, version, None, policy=asked)), digest=version.digest)
    if refused := refusal(decision, reference=version.reference, stage=stage):
        raise refused


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
    moment = _moment(at) if at else None
    with backend.catalog.reading() as tx:
        if stage is not None:
            tx.stages.ladder().check(stage)
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
        return in_force(tx, tx.stages.ladder().check(stage))


def set_policy(backend: Backend, *, stage: str, policy: Policy) -> PolicyInForce:
    """Give a stage a new revision of its policy; the same rules again change nothing.

    Raises:
        InvalidInput: the document is for another stage, names a stage that is not below it, or asks for approvals
            that nobody could give.
    """
    if policy.stage != stage:
        raise InvalidInput(f"the document is a policy for {policy.stage!r}, not for {stage!r}; nothing was changed.")
    with backend.catalog.writing() as tx:
        tx.stages.ladder().whole(stage)
        before = in_force(tx, stage)
        _require_admin(backend, before.policy, policy)
        impossible = [each for each in _advice(tx, policy) if each.impossible]
        if impossible:
            told = "; ".join(f"{each.rule}: {each.text}" for each in impossible)
            raise InvalidInput(f"nothing could satisfy this policy, so nothing was changed: {told}.")
        if before.policy.digest == policy.digest and before.revision:
            return before
        revision = tx.stages.set_policy(policy, by=backend.actor, at=backend.clock())
        detail = {"stage": stage, "revision": revision, "digest": policy.digest, "before": before.policy.digest}
        tx.events.append(Entry("policy.set", stage, Outcome.DONE, backend.actor, backend.clock(), detail))
    return PolicyInForce(policy, revision)


def _require_admin(backend: Backend, before: Policy, after: Policy) -> None:
    """Refuse who may write policies and is no administrator wherever a stage promotes by itself, before or after.

    A policy that such a stage judges by decides alone what enters it, so whoever may change that could promote.
    """
    if (before.process.auto or after.process.auto) and not backend.asks.may(EVERYTHING):
        verb = "has" if before.process.auto else "would have"
        raise Forbidden(
            f"the policy of {after.stage} {verb} auto_promote, and only an administrator of the registry (role `admin` "
            "on '*') switches it or changes such a policy; nothing was changed."
        )


def lint_policy(backend: Backend, *, stage: str, policy: Policy) -> tuple[Advice, ...]:
    """What of a policy's process nothing could satisfy, as stages, accounts and groups are now."""
    with backend.catalog.reading() as tx:
        tx.stages.ladder().whole(stage)
        return _advice(tx, policy)


def _advice(tx: Transaction, policy: Policy) -> tuple[Advice, ...]:
    ladder = tx.stages.ladder()
    return (*misplaced(policy, ladder), *unfed(policy), *unsatisfied(policy, tx.accounts.all(), tx.requests.groups()))
