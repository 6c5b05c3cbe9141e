"""Try a policy on the past: what it would have said of the last promotions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Process
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotions.finding import Finding
from adapter_registry.domain.promotions.gate import judge
from adapter_registry.domain.promotions.passage import Situation, passing
from adapter_registry.domain.promotions.promotion import Promotion, Result, decide, inputs_digest
from adapter_registry.domain.promotions.request import Reckoning, Request, State, reckoned
from adapter_registry.services.judgement import People
from adapter_registry.services.subject import gathered

MOST = 200
"""Promotions that are judged again at once."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy says of a promotion that happened.

    Attributes:
        reference: `namespace/name@v3`.
        at: when it was promoted.
        outcome: what the policy would have answered; None when the version was removed since.
        blockers: the findings that would have stood in the way.
    """

    reference: str
    at: str
    outcome: Result | None
    blockers: tuple[Finding, ...] = ()


def replay(backend: Backend, *, stage: str, policy: Policy, last: int = 20) -> tuple[Replayed, ...]:
    """Judge the last promotions into a stage by another policy, newest first; nothing is written.

    Scores count as they stood at that moment, the incumbent and the lower stages are those of then; labels, suites,
    accounts and groups are those of now, because only those are kept. Approvals that were given then count whatever
    policy they were given under; where nobody had to approve they are not judged. Freeze windows and holds are not.

    Raises:
        InvalidInput: the document is for another stage, or too many are asked for.
    """
    if policy.stage != stage:
        raise InvalidInput(f"the document is a policy for {policy.stage!r}, not for {stage!r}.")
    if not 0 < last <= MOST:
        raise InvalidInput(f"the last 1 to {MOST} promotions can be judged again, not {last}.")
    with backend.catalog.reading() as tx:
        tx.stages.ladder().whole(stage)
        return tuple(_replayed(backend, tx, each, policy) for each in tx.stages.newest(stage, limit=last))


def _replayed(backend: Backend, tx: Transaction, promotion: Promotion, policy: Policy) -> Replayed:
    reference = f"{promotion.adapter}@v{promotion.number}"
    version = tx.versions.numbered(promotion.adapter, promotion.number)
    if version is None:
        return Replayed(reference, promotion.at, None)
    incumbent = tx.versions.numbered(promotion.adapter, promotion.previous) if promotion.previous else None
    subject = gathered(backend, tx, version, incumbent, policy=policy, at=promotion.at)
    findings = (*judge(policy, subject), *passing(policy, _situation(tx, promotion, version, policy)))
    decision = decide(findings, digest=inputs_digest(policy, subject))
    return Replayed(reference, promotion.at, decision.outcome, decision.blockers)


def _situation(tx: Transaction, promotion: Promotion, version: Version, policy: Policy) -> Situation:
    """What the process looks at, as the history has it."""
    asked = _request(tx, promotion)
    request = asked or Request(
        *(0, promotion.adapter, promotion.stage, promotion.number, promotion.version, promotion.actor),
        machine=False,
        hotfix=False,
        reason=promotion.reason,
        opened_at=promotion.at,
    )
    process = policy.process
    lower = [*(process.sources.stages if process.sources else ()), *(process.sources.hotfix if process.sources else ())]
    lower += [process.soak.stage] if process.soak else []
    return Situation(
        replace(request, override=None),
        promotion.at,
        moves={stage: _until(tx.stages.history(promotion.adapter, stage), promotion.at) for stage in lower},
        reckoning=_reckoned(tx, promotion, version, asked, process) if asked else None,
        able=None,
    )


def _until(moves: Sequence[Promotion], at: str) -> list[Promotion]:
    return [move for move in moves if move.at <= at]


def _request(tx: Transaction, promotion: Promotion) -> Request | None:
    """The request that a promotion was, with the approvals that moved it; None when nobody had to approve."""
    for each in tx.requests.asked(promotion.adapter, promotion.stage, number=promotion.number):
        bound = {given.binding.generation for given in each.approvals}
        if each.version == promotion.version and each.state is State.APPLIED and promotion.sequence - 1 in bound:
            return each
    return None


def _reckoned(
    tx: Transaction, promotion: Promotion, version: Version, request: Request, process: Process
) -> Reckoning | None:
    """The approvals given then, held against those that the policy asks for: of whom does not matter to the digests."""
    asked = process.consent(hotfix=request.hotfix)
    if asked is None:
        return None
    given = [each for each in request.approvals if each.binding.generation == promotion.sequence - 1]
    people = People(tx, version, request, asked)
    binding = given[0].binding
    return reckoned(
        asked,
        [replace(each, binding=binding) for each in given],
        binding=binding,
        now=promotion.at,
        people={each.by: people.named(each.by) for each in given},
    )
