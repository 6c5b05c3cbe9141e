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
from adapter_registry.domain.gate import Finding, Outcome, Subject
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.score import Score


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
