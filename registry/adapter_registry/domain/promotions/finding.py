"""Finding: what one rule said of one Version; and Subject, everything that rules look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from adapter_registry.domain.adapter import Description
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.evidence.suite import Suite
from adapter_registry.domain.integrity.key import Signed
from adapter_registry.domain.integrity.scan import Scan
from adapter_registry.domain.lock import Verdict
from adapter_registry.domain.servable_facts import Facts


class Outcome(StrEnum):
    """What one rule says.

    `pending`: something is missing that can still arrive. `inconclusive`: there is evidence and it cannot decide.
    `incomparable`: the two sides were measured differently. `error`: the rule cannot be applied as it stands.
    `overridden`: it said one of the others, and people took it upon them.
    """

    PASS = "pass"  # noqa: S105
    WAIVED = "waived"
    OVERRIDDEN = "overridden"
    FAIL = "fail"
    PENDING = "pending"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule said of one Version. Numbers are finite; what is not a number is None and told in `reason`.

    Attributes:
        rule: `compatibility`, `health`, `metadata owner`, `any score`, `gsm8k/exact_match >= 0.42`, ...
        outcome: what it said.
        reason: with the values, one line, readable without the other fields.
        fix: what to do next; empty when it passes.
        metric: the metric judged; empty when the rule is about none.
        value: what the Version scored.
        bound: the absolute limit.
        baseline: what the other side of a comparison scored.
        difference: value against baseline, turned so that positive is better.
        margin: of a comparison, in the metric's unit.
        interval: bounds of `difference`, each one-sided at `confidence`.
        confidence: of each bound.
        n: samples behind `value`.
        method: how a comparison was made.
        correction: how several comparisons at once were allowed for.
        needed: how many more samples of the smaller side would decide an inconclusive comparison, the other side having
            at least as many, should everything stay as observed.
        shadow: shown, and never in the way.
    """

    rule: str
    outcome: Outcome
    reason: str
    fix: str = ""
    metric: str = ""
    value: float | None = None
    bound: float | None = None
    baseline: float | None = None
    difference: float | None = None
    margin: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    n: int | None = None
    method: str = ""
    correction: str = ""
    needed: int | None = None
    shadow: bool = False

    @property
    def passes(self) -> bool:
        """Whether its rule is satisfied, not asked for, or passed over."""
        return self.outcome in (Outcome.PASS, Outcome.WAIVED, Outcome.OVERRIDDEN)

    @property
    def blocks(self) -> bool:
        """Whether it stands in the way of a promotion."""
        return not self.passes and not self.shadow

    @property
    def would_block(self) -> bool:
        """Whether it would stand in the way if its rule were no shadow."""
        return not self.passes and self.shadow

    def __str__(self) -> str:
        way_out = f" -> {self.fix}" if self.fix else ""
        said = f"shadow {self.outcome}" if self.shadow else str(self.outcome)
        return f"{said.upper():<12} {self.rule}: {self.reason}{way_out}"


def _none_kept(_digest: Digest) -> Outcomes | None:
    return None


@dataclass(frozen=True, slots=True)
class Incumbent:
    """A Version that another is compared with, and its scores in the order they were recorded."""

    reference: str
    digest: Digest
    scores: tuple[RecordedScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """A Version on its way into a stage, with everything the rules look at.

    Attributes:
        reference: `namespace/name@v3`.
        digest: of the Version.
        base: digest of the Base it is locked to.
        base_reference: `name@<12 hex>`, for people.
        verdict: what checking its Lock against the registered Base says; None when that Base is not registered.
        description: what it is.
        labels: its facts.
        message: what its pusher said about it.
        scores: its own, in the order they were recorded.
        incumbent: who holds the stage; None when nobody does.
        base_scores: of its Base without any adapter, in the order they were recorded.
        at: the moment of judgement, ISO 8601 in UTC.
        suites: name -> its newest version, of the suites that the policy names without one; `name@version` -> that one.
        parents: the Versions it was made of, where the policy compares with them.
        revoked_ancestors: references of withdrawn versions that it was made of, directly or not.
        files: paths of its files.
        outcomes: reads stored Outcomes by their digest; None when they are not there.
        serving: what decides which stacks load it; None when no rule asks, or its config is not there.
        signatures: of it, as they stand at that moment; none when no rule asks.
        scans: of it; none when no rule asks.
    """

    reference: str
    digest: Digest
    base: Digest
    base_reference: str
    verdict: Verdict | None
    description: Description
    labels: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    scores: tuple[RecordedScore, ...] = ()
    incumbent: Incumbent | None = None
    base_scores: tuple[RecordedScore, ...] = ()
    at: str = ""
    suites: Mapping[str, Suite] = field(default_factory=dict)
    parents: tuple[Incumbent, ...] = ()
    revoked_ancestors: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    outcomes: Callable[[Digest], Outcomes | None] = _none_kept
    serving: Facts | None = None
    signatures: tuple[Signed, ...] = ()
    scans: tuple[Scan, ...] = ()
