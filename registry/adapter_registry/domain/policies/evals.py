"""Evals: the part of a Policy that asks for measurements, and what evidence must be like to count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

EVERY_METRIC = "*"
EVERY_TASK = "*"
DAY = 86_400
HOUR = 3_600


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


class Against(StrEnum):
    """Whom a comparison is with.

    `incumbent`: the version that holds the stage now; the base's scores while nobody holds it. `base`: always the base.
    `parents`: each version that it was made of.
    """

    INCUMBENT = "incumbent"
    BASE = "base"
    PARENTS = "parents"


@dataclass(frozen=True, slots=True)
class Bound:
    """An absolute limit on one metric; the limit itself still passes.

    Attributes:
        metric: exact name, `gsm8k/exact_match`.
        min: lowest value allowed; None for no floor.
        max: highest value allowed; None for no ceiling.
        shadow: shown, and never in the way.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """A test against another version's scores, or the base's.

    Attributes:
        metric: a name; each `*` in it stands for any text. A name with `*` covers every such metric that the other
            side was scored on and whose direction is known, except those another comparison names exactly.
        test: what has to be shown.
        margin: see `Test`.
        confidence: one-sided, of each bound of the interval; between 0.5 and 1.
        waive_if: `no-incumbent`: while nobody holds the stage, waive it even where the base has scores.
        against: see Against.
        shadow: shown, and never in the way.
    """

    metric: str
    test: Test
    margin: Margin
    confidence: float = 0.95
    waive_if: WaiveIf | None = None
    against: Against = Against.INCUMBENT
    shadow: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether the name stands for several metrics."""
        return "*" in self.metric


@dataclass(frozen=True, slots=True)
class Demands:
    """What evidence must be like to count; the defaults ask nothing.

    Attributes:
        suite: `core@3`: measured by this version of a suite; `core`: by its newest. Every metric of it is asked for.
        verified: measured by a job of this registry, not brought by somebody.
        max_age: seconds since it was measured; asked of the version that is judged, not of whom it is compared with.
        min_samples: task or metric -> fewest samples; EVERY_TASK for all others.
        full_run: measured on every sample of the task, without a limit.
    """

    suite: str = ""
    verified: bool = False
    max_age: int | None = None
    min_samples: Mapping[str, int] = field(default_factory=dict)
    full_run: bool = False

    @property
    def suite_name(self) -> str:
        """`core` of `core@3`."""
        return self.suite.partition("@")[0]

    def samples_of(self, metric: str) -> int | None:
        """Fewest samples of a metric, by its own name or its task's."""
        names = (metric, metric.partition("@")[0], metric.rpartition("/")[0], EVERY_TASK)
        return next((self.min_samples[name] for name in names if name in self.min_samples), None)


@dataclass(frozen=True, slots=True)
class EvalGroup:
    """Rules that are judged by the same kind of evidence.

    Attributes:
        demands: what evidence must be like.
        any: at least one score, whatever it says.
        bounds: absolute limits.
        comparisons: tests.
    """

    demands: Demands = field(default_factory=Demands)
    any: bool = False
    bounds: tuple[Bound, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    @property
    def rules(self) -> tuple[Bound | Comparison, ...]:
        """Its bounds and its comparisons."""
        return (*self.bounds, *self.comparisons)


@dataclass(frozen=True, slots=True)
class Evals:
    """What must have been measured, and how it must have come out.

    Attributes:
        any: at least one score, whatever it says.
        bounds: absolute limits.
        comparisons: tests against the incumbent.
        groups: more of the same, with demands on the evidence.
    """

    any: bool = False
    bounds: tuple[Bound, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    groups: tuple[EvalGroup, ...] = ()

    @property
    def against_parents(self) -> bool:
        """Whether anything is compared with the versions that a version was made of."""
        return any(rule.against is Against.PARENTS for group in self.all_groups for rule in group.comparisons)

    @property
    def all_groups(self) -> tuple[EvalGroup, ...]:
        """Every rule, those without demands first."""
        return (EvalGroup(Demands(), self.any, self.bounds, self.comparisons), *self.groups)


def documents(evals: Evals) -> list[dict[str, Any]]:
    """The rules as a policy document writes them."""
    asked: list[dict[str, Any]] = [{"any": True}] if evals.any else []
    asked += [_rule(each) for each in _rules(evals.bounds, evals.comparisons)]
    return asked + [_group(group) for group in evals.groups]


def _rules(bounds: Iterable[Bound], comparisons: Iterable[Comparison]) -> list[Bound | Comparison]:
    return [*bounds, *comparisons]


def _rule(rule: Bound | Comparison) -> dict[str, Any]:
    return (_bound(rule) if isinstance(rule, Bound) else _comparison(rule)) | ({"shadow": True} if rule.shadow else {})


def _bound(bound: Bound) -> dict[str, Any]:
    limits = {"min": bound.min, "max": bound.max}
    return {"metric": bound.metric, **{name: limit for name, limit in limits.items() if limit is not None}}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "metric": comparison.metric,
        "test": str(comparison.test),
        "margin": comparison.margin.written,
        "confidence": comparison.confidence,
        "against": str(comparison.against),
    }
    return asked | ({"waive_if": str(comparison.waive_if)} if comparison.waive_if else {})


def _group(group: EvalGroup) -> dict[str, Any]:
    demands = group.demands
    age = demands.max_age
    parts: dict[str, Any] = {
        "suite": demands.suite,
        "verified": demands.verified,
        "max_age": "" if age is None else f"{age // DAY}d" if age % DAY == 0 else f"{age // HOUR}h",
        "min_samples": dict(sorted(demands.min_samples.items())),
        "full_run": demands.full_run,
        "any": group.any,
        "absolute": [_bound(bound) for bound in group.bounds if not bound.shadow],
        "relative": [_comparison(each) for each in group.comparisons if not each.shadow],
        "shadow": [
            _rule(replace(each, shadow=False)) for each in _rules(group.bounds, group.comparisons) if each.shadow
        ],
    }
    return {name: value for name, value in parts.items() if value}


def is_amount(value: float) -> bool:
    """Whether a number can be a margin: finite and not negative."""
    return math.isfinite(value) and value >= 0
