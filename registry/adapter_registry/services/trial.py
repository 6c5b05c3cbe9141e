"""Try a policy on the past: what it would have said of the last promotions."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.finding import Finding
from adapter_registry.domain.gate import judge
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.promotion import Promotion, Result, decide, inputs_digest
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

    Scores count as they stood at that moment, the incumbent is the one of then; labels and suites are those of now,
    because only those are kept.

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
    decision = decide(judge(policy, subject), digest=inputs_digest(policy, subject))
    return Replayed(reference, promotion.at, decision.outcome, decision.blockers)
