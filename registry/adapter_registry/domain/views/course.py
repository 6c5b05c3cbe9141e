"""Course: how a metric went from version to version, beside what the stages were and what their policies ask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from adapter_registry.domain.evidence.comparison import spread
from adapter_registry.domain.evidence.intervals import normal
from adapter_registry.domain.evidence.score import Direction, RecordedScore
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.promotions.promotion import Promotion


@dataclass(frozen=True, slots=True)
class Milestone:
    """What one version scored.

    Attributes:
        number: of the version.
        pushed_at: when it was pushed.
        measured_at: when it was measured.
        value: finite.
        low, high: its 95 % interval; None where no standard error is known.
        n: samples; None when unknown.
        line: which line it belongs to: values of different lines were measured differently, or the measurement changed
            between them and back.
        setting: what a line stands for, where there are several: `shots 5`.
        verified: whether this registry measured it.
        suite: by which suite.
    """

    number: int
    pushed_at: str
    measured_at: str
    value: float
    low: float | None
    high: float | None
    n: int | None
    line: int
    setting: dict[str, str]
    verified: bool
    suite: str


@dataclass(frozen=True, slots=True)
class Reign:
    """A version that a stage pointed to, from when until when; `until` is None while it still does."""

    stage: str
    number: int
    since: str
    until: str | None


@dataclass(frozen=True, slots=True)
class Threshold:
    """A limit that a stage's policy sets; `floor` or ceiling."""

    stage: str
    value: float
    floor: bool
    shadow: bool


@dataclass(frozen=True, slots=True)
class Course:
    """See the module.

    Attributes:
        adapter: `namespace/name`.
        metric: which; empty when nothing was measured yet.
        metrics: every metric of the newest versions, the one recorded last first.
        direction: which way is better; None when nobody said.
        points: oldest version first, one for each version that was measured.
        places: its stages and their lanes, lowest first.
        reigns: of each place, oldest first.
        thresholds: of every stage's policy in force.
        whole: False where older versions were left out.
    """

    adapter: str
    metric: str
    metrics: tuple[str, ...]
    direction: Direction | None
    points: tuple[Milestone, ...]
    places: tuple[str, ...]
    reigns: tuple[Reign, ...]
    thresholds: tuple[Threshold, ...]
    whole: bool


def milestones(scored: Iterable[tuple[int, str, RecordedScore]]) -> tuple[Milestone, ...]:
    """The last score of each version that is a number, in lines that break where the measurement changes."""
    last = {number: (pushed, each) for number, pushed, each in scored if math.isfinite(each.score.value)}
    found: list[Milestone] = []
    line, before = 0, None
    for number, (pushed, each) in sorted(last.items()):
        key = each.score.comparability
        line += before is not None and key != before
        before = key
        error = spread(each.score)
        width = normal(0.975) * error if error is not None else None
        value = each.score.value
        found.append(
            Milestone(
                number=number,
                pushed_at=pushed,
                measured_at=each.measured_at,
                value=value,
                low=None if width is None else value - width,
                high=None if width is None else value + width,
                n=each.score.n,
                line=line,
                setting=dict(each.score.setting),
                verified=each.verified,
                suite=each.score.suite,
            )
        )
    return tuple(found)


def reigns(moves: Sequence[Promotion]) -> tuple[Reign, ...]:
    """Who held each stage and when, of moves newest first."""
    found: list[Reign] = []
    until: dict[str, str] = {}
    for move in moves:
        found.append(Reign(move.stage, move.number, move.at, until.get(move.stage)))
        until[move.stage] = move.at
    return tuple(reversed(found))


def thresholds(policies: Iterable[tuple[str, Policy]], metric: str) -> tuple[Threshold, ...]:
    """The limits on a metric that the policies of places set."""
    return tuple(
        Threshold(place, value, floor, bound.shadow)
        for place, policy in policies
        for group in policy.evals.all_groups
        for bound in group.bounds
        if bound.metric == metric
        for value, floor in ((bound.min, True), (bound.max, False))
        if value is not None
    )
