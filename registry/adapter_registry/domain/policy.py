"""Policy: what a Stage asks of a Version before it may enter. Owned by the stage, never by the adapter it judges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from adapter_registry.domain.digest import Digest, canonical_json, of_json
from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.lock import Level
from adapter_registry.domain.stage import check_stage

API_VERSION = "adapters/v1"
KIND = "StagePolicy"
EVERY_METRIC = "*"


class Matched(StrEnum):
    """How many of the base's modules of the targeted kinds an adapter must change."""

    ALL = "all"
    SOME = "some"


class Test(StrEnum):
    """What a comparison has to show.

    `non-inferior`: not worse than the other by more than the margin. `superior`: better by more than the margin.
    """

    __test__ = False  # pytest would otherwise collect a class of this name

    NON_INFERIOR = "non-inferior"
    SUPERIOR = "superior"


class WaiveIf(StrEnum):
    """When a comparison is not asked for."""

    NO_INCUMBENT = "no-incumbent"


@dataclass(frozen=True, slots=True)
class Margin:
    """How large a difference still counts as none.

    Attributes:
        amount: in the metric's own unit, or a fraction of the other side's value if `relative`; never negative.
        relative: written with `%` in a policy: `2%` is amount 0.02.
    """

    amount: float
    relative: bool = False

    def of(self, value: float) -> float:
        """The margin in the metric's unit, against a baseline of `value`."""
        return self.amount * abs(value) if self.relative else self.amount

    def __str__(self) -> str:
        return f"{self.amount * 100:.12g}%" if self.relative else f"{self.amount:.12g}"

    @property
    def written(self) -> str | float:
        """As a policy document writes it."""
        return str(self) if self.relative else self.amount


@dataclass(frozen=True, slots=True)
class Health:
    """What must be true of the adapter itself.

    Attributes:
        matched_modules: `all`: it changes every module of the base that bears a targeted name; `some`: at least one.
            Methods that adapt no module (prompts, prefixes) satisfy both.
        finite: it holds no NaN or infinity.
        nonzero: it changes something.
    """

    matched_modules: Matched | None = None
    finite: bool = False
    nonzero: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """An absolute limit on one metric; the limit itself still passes.

    Attributes:
        metric: exact name, `gsm8k/exact_match`.
        min: lowest value allowed; None for no floor.
        max: highest value allowed; None for no ceiling.
    """

    metric: str
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test against the version that holds the stage now; against the base's scores while nobody holds it.

    Attributes:
        metric: a name; each `*` in it stands for any text. A name with `*` covers every such metric that the other
            side was scored on and whose direction is known, except those another comparison names exactly.
        test: what has to be shown.
        margin: see `Test`.
        confidence: one-sided, of each bound of the interval; between 0.5 and 1.
        waive_if: `no-incumbent`: while nobody holds the stage, waive it even where the base has scores.
    """

    metric: str
    test: Test
    margin: Margin
    confidence: float = 0.95
    waive_if: WaiveIf | None = None

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for several metrics."""
        return "*" in self.metric


@dataclass(frozen=True, slots=True)
class Evals:
    """What must have been measured, and how it must have come out.

    Attributes:
        any: at least one score, whatever it says.
        bounds: absolute limits.
        comparisons: tests against the incumbent.
    """

    any: bool = False
    bounds: tuple[Bound, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything one stage asks.

    Attributes:
        stage: the stage it is for.
        verdicts: acceptable answers of the Lock's check against the Base; empty asks nothing.
        health: of the adapter itself; None asks nothing.
        metadata: labels that must be set; `description` is also satisfied by the version's message.
        evals: scores.
    """

    stage: str
    verdicts: tuple[Level, ...] = ()
    health: Health | None = None
    metadata: tuple[str, ...] = ()
    evals: Evals = field(default_factory=Evals)

    @property
    def digest(self) -> Digest:
        """Over the document: equal rules give equal digests, however they were written."""
        return of_json(document(self))


def document(policy: Policy) -> dict[str, Any]:
    """The policy as `policy_file.read_policy` reads it: JSON types only, what is not asked left out."""
    require: dict[str, Any] = {}
    if policy.verdicts:
        require["compatibility"] = {"verdict": [str(level) for level in policy.verdicts]}
    if policy.health is not None:
        require["health"] = _health(policy.health)
    if policy.metadata:
        require["metadata"] = list(policy.metadata)
    if evals := _evals(policy.evals):
        require["evals"] = evals
    return {"apiVersion": API_VERSION, "kind": KIND, "stage": policy.stage, "require": require}


def to_json(policy: Policy) -> bytes:
    """Canonical JSON of the document; its sha256 is the policy's digest."""
    return canonical_json(document(policy))


def _health(health: Health) -> dict[str, Any]:
    asked: dict[str, Any] = {"finite": health.finite, "nonzero": health.nonzero}
    if health.matched_modules is None:
        return asked
    return {"matched_modules": str(health.matched_modules), **asked}


def _evals(evals: Evals) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = [{"any": True}] if evals.any else []
    asked += [_bound(bound) for bound in evals.bounds]
    asked += [_comparison(comparison) for comparison in evals.comparisons]
    return asked


def _bound(bound: Bound) -> dict[str, Any]:
    limits = {"min": bound.min, "max": bound.max}
    return {"metric": bound.metric, **{name: limit for name, limit in limits.items() if limit is not None}}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "metric": comparison.metric,
        "test": str(comparison.test),
        "margin": comparison.margin.written,
        "confidence": comparison.confidence,
        "against": "incumbent",
    }
    return asked | ({"waive_if": str(comparison.waive_if)} if comparison.waive_if else {})


DEFAULT_PRESET = "solo"

NOT_WORSE = Comparison(EVERY_METRIC, Test.NON_INFERIOR, Margin(0.02, relative=True))
"""What `solo` asks before prod.

With 95 % confidence on each side, a clearly better version passes, one that is worse by clearly more than 2 % of the
incumbent's value is refused, and what lies within the noise of the two measurements is inconclusive. A margin of 0
would let only significant improvements pass: an adapter that helps its own task and leaves the others alone would never
get in. Several metrics need no correction here: all of them must pass, so the chance of a wrong pass is at most that
of one.
"""

SOUND = Health(Matched.SOME, finite=True, nonzero=True)
"""`some`, because an adapter on a few layers only is as legitimate as one on all."""


def solo(stage: str) -> Policy:
    """One person, productive at once: dev is free, staging and prod want a sound adapter that was measured."""
    check_stage(stage)
    verdicts = (Level.EXACT, Level.EQUIVALENT)
    if stage == "dev":
        return Policy(stage, verdicts)
    return Policy(stage, verdicts, SOUND, evals=Evals(any=True, comparisons=(NOT_WORSE,) if stage == "prod" else ()))


PRESETS: dict[str, Callable[[str], Policy]] = {"solo": solo}


def preset(name: str, *, stage: str) -> Policy:
    """The policy that a named preset has for a stage.

    Raises:
        InvalidReference: there is no such preset or stage.
    """
    if name not in PRESETS:
        raise InvalidReference(f"{name!r} is not a policy preset; there is {', '.join(sorted(PRESETS))}.")
    return PRESETS[name](stage)


def is_amount(value: float) -> bool:
    """Whether a number can be a margin: finite and not negative."""
    return math.isfinite(value) and value >= 0
