"""Promotion: the recorded decision that a Version enters a Stage, and how findings add up to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import (
    Conflict,
    NotFound,
    Problem,
    PromotionRefused,
    PromotionUndecided,
    PromotionWaiting,
    RegistryError,
)
from adapter_registry.domain.evidence.own import is_old
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.integrity.judging import swaying
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.promotions.finding import Finding, Outcome, Subject
from adapter_registry.domain.promotions.override import Override


class Result(StrEnum):
    """What a set of findings adds up to."""

    PROMOTE = "promote"
    REFUSED = "refused"
    WAITING = "waiting"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a Version may enter a Stage.

    Attributes:
        outcome: see `decide`.
        findings: one or more per rule, in the policy's order.
        digest: of everything that was judged; equal digests mean equal inputs, so equal decisions.
    """

    outcome: Result
    findings: tuple[Finding, ...]
    digest: Digest

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.blocks)

    @property
    def promotes(self) -> bool:
        """Whether nothing stands in the way."""
        return self.outcome is Result.PROMOTE

    @property
    def exit_code(self) -> int:
        """0 promote, 3 refused, 4 waiting, 5 undecided."""
        return {Result.PROMOTE: 0, Result.REFUSED: 3, Result.WAITING: 4, Result.UNDECIDED: 5}[self.outcome]


class Kind(StrEnum):
    """How a stage came to point where it points."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Promotion:
    """One move of one stage; never changed afterwards.

    Attributes:
        adapter: `namespace/name`.
        stage: the stage that moved.
        sequence: 1, 2, ... per adapter and stage, without gaps.
        number: the Version's number.
        version: the Version's digest.
        previous: number of the Version the stage pointed to before; None for the first.
        kind: promote or rollback.
        actor: who asked.
        reason: why, in their words.
        findings: what every rule said at that moment.
        policy: digest of the policy that judged.
        policy_revision: its revision; 0 for a preset that was never set.
        decision: digest of the Decision.
        at: when, ISO 8601 in UTC.
        override: the rules that were passed over, for good part of the record; None when every rule passed.
    """

    adapter: str
    stage: str
    sequence: int
    number: int
    version: Digest
    previous: int | None
    kind: Kind
    actor: str
    reason: str
    findings: tuple[Finding, ...]
    policy: Digest
    policy_revision: int
    decision: Digest
    at: str
    override: Override | None = None


def doubts(promotion: Promotion, own: Sequence[RecordedScore], others: Sequence[RecordedScore]) -> tuple[str, ...]:
    """What a promotion rested on and somebody declared invalid since: `qa/acc of t/a@v3: old chat template`.

    Args:
        promotion: with what every rule said then.
        own: every score of its Version.
        others: every score of whom it may have been compared with: the Version before it, its Base.
    """
    used = [finding for finding in promotion.findings if finding.outcome is not Outcome.WAIVED]
    judged = {finding.metric for finding in used}
    all_of_it = any(finding.rule.split()[0] in ("any", "suite") for finding in used)
    compared = {finding.metric for finding in used if finding.baseline is not None}
    rested = [each for each in own if all_of_it or each.score.metric in judged]
    rested += [each for each in others if each.score.metric in compared]
    return tuple(
        f"{each.score.metric} of {each.subject_name}: {each.invalid.because}"
        for each in rested
        if each.invalid and each.recorded_at <= promotion.at < each.invalid.at
    )


def decide(findings: Sequence[Finding], *, digest: Digest) -> Decision:
    """What the findings add up to.

    Every rule passes, is waived or passed over: promote. Any fails or cannot be applied: refused. Otherwise evidence is
    missing (waiting) or cannot decide (undecided); with both, waiting, because what is missing has to come first.

    Args:
        findings: what `gate.judge` said.
        digest: what they were about, from `inputs_digest`.
    """
    said = {finding.outcome for finding in findings if not finding.shadow}
    if said & {Outcome.FAIL, Outcome.ERROR}:
        return Decision(Result.REFUSED, tuple(findings), digest)
    if Outcome.PENDING in said:
        return Decision(Result.WAITING, tuple(findings), digest)
    if said & {Outcome.INCONCLUSIVE, Outcome.INCOMPARABLE}:
        return Decision(Result.UNDECIDED, tuple(findings), digest)
    return Decision(Result.PROMOTE, tuple(findings), digest)


def inputs_digest(policy: Policy, subject: Subject) -> Digest:
    """One digest over all that a decision rests on: change any of it, and the decision has to be made anew."""
    incumbent = subject.incumbent
    return of_json(
        {
            "format": "adapters.decision/1",
            "stage": policy.stage,
            "policy": policy.digest,
            "version": subject.digest,
            "base": subject.base,
            "verdict": str(subject.verdict.level) if subject.verdict else None,
            "labels": dict(subject.labels),
            "message": subject.message,
            "scores": _evidence(subject.scores),
            "incumbent": incumbent.digest if incumbent else None,
            "incumbent_scores": _evidence(incumbent.scores if incumbent else ()),
            "base_scores": _evidence(subject.base_scores),
            "suites": {name: suite.digest for name, suite in sorted(subject.suites.items())},
            "old": _old(policy, subject),
            **_ancestry(subject),
            **swaying(policy.integrity, subject),
        }
    )


def _ancestry(subject: Subject) -> dict[str, object]:
    """What derived versions are judged by beside the rest; nothing for all others."""
    parents = [[each.digest, _evidence(each.scores)] for each in subject.parents]
    found = {"parents": parents, "revoked_ancestors": list(subject.revoked_ancestors)}
    return {name: value for name, value in found.items() if value}


def _evidence(scores: Sequence[RecordedScore]) -> list[list[str | int | bool | None]]:
    """What of each score can sway a rule, in order; numbers as text, because canonical JSON has no NaN."""
    return [
        [
            *(each.score.comparability, repr(each.score.value), each.score.direction, repr(each.score.stderr)),
            *(each.score.n, each.score.evidence, each.score.outcomes, each.score.suite),
            *(each.verified, each.invalid is not None),
        ]
        for each in scores
    ]


def _old(policy: Policy, subject: Subject) -> list[list[int]]:
    """Per limit of age, the places of the scores beyond it: the moment sways a rule only through these."""
    ages = [group.demands.max_age for group in policy.evals.groups if group.demands.max_age is not None]
    return [[place for place, each in enumerate(subject.scores) if is_old(each, age, subject.at)] for age in ages]


_MOVES = {
    Result.REFUSED: (PromotionRefused, "is refused"),
    Result.WAITING: (PromotionWaiting, "has to wait"),
    Result.UNDECIDED: (PromotionUndecided, "cannot be decided"),
}


def refusal(decision: Decision, *, reference: str, stage: str) -> RegistryError | None:
    """The error that names every blocker, of the class that matches the outcome; None when it promotes."""
    if decision.promotes:
        return None
    kind, verb = _MOVES[decision.outcome]
    listed = "".join(f"\n  {finding}" for finding in decision.blockers)
    text = f"{reference} to {stage} {verb}; the stage did not move:{listed}"
    return kind(text, problems=[_problem(finding) for finding in decision.blockers])


def _problem(finding: Finding) -> Problem:
    return Problem(
        f"gate-{finding.outcome}", "", finding.rule, "a pass", f"{finding.outcome}: {finding.reason}", finding.fix
    )


def earlier_incumbents(moves: Sequence[Promotion]) -> tuple[int, ...]:
    """The numbers that one stage pointed to before what it points to now, the last first; `moves` newest first."""
    return tuple(dict.fromkeys(move.number for move in moves if move.number != moves[0].number))


def rollback_target(history: Sequence[Promotion], *, to: int | None = None) -> Promotion:
    """The earlier Promotion whose Version a stage goes back to.

    Without `to`, the Version before the one that holds the stage: a rollback takes back the promotions since, so
    rolling back twice goes two versions back and never forward to one that was taken back.

    Args:
        history: of one adapter's stage, newest first.
        to: number of a Version that held the stage before.

    Raises:
        NotFound: the stage never moved, or `to` never held it.
        Conflict: `to` holds it now, or nothing came before.
    """
    if not history:
        raise NotFound(
            "the stage never pointed to a version, so there is nothing to roll back; `adapters promote` moves it."
        )
    current = history[0]
    if to is None:
        return _before(history)
    if to == current.number:
        raise Conflict(f"v{to} holds {current.stage} already; nothing moved.")
    earlier = next((promotion for promotion in history if promotion.number == to), None)
    if earlier is None:
        held = ", ".join(f"v{number}" for number in sorted({p.number for p in history} - {current.number})) or "none"
        raise NotFound(
            f"v{to} never held {current.stage}; a rollback goes to a version that did: {held}. "
            f"Promote v{to} instead: adapters promote {current.adapter}@v{to} {current.stage}"
        )
    return earlier


def _before(history: Sequence[Promotion]) -> Promotion:
    held: list[Promotion] = []
    for promotion in reversed(history):
        numbers = [earlier.number for earlier in held]
        if promotion.kind is Kind.ROLLBACK and promotion.number in numbers:
            del held[len(numbers) - numbers[::-1].index(promotion.number) :]
        else:
            held.append(promotion)
    if len(held) < 2:
        current = history[0]
        others = {promotion.number for promotion in history} - {current.number}
        way_out = (
            "Name one that held it since with --to."
            if others
            else f"`adapters promote` moves {current.stage} to another."
        )
        raise Conflict(f"no version held {current.stage} before v{current.number}; nothing moved. {way_out}")
    return held[-2]
