"""How far apart two measured values are, and how sure one can be of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from adapter_registry.domain.metric import is_rate
from adapter_registry.domain.policy import Test
from adapter_registry.domain.score import Direction, Score

LARGEST_SAMPLE = 10_000_000
"""Beyond this, saying how many samples would decide a comparison helps nobody."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard error of a score, and where it comes from: the file, or n alone."""

    stderr: float
    from_n: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A candidate's value against a baseline's, turned so that positive is better.

    Attributes:
        mean: in the metric's unit.
        stderr: of `mean`; the two values are taken as measured independently, which overstates it when both
            were measured on the same samples.
        low: one-sided lower bound at `confidence`.
        high: one-sided upper bound at `confidence`.
        confidence: of each bound.
        method: in words.
    """

    mean: float
    stderr: float
    low: float
    high: float
    confidence: float
    method: str


def spread(score: Score, *, confidence: float) -> Spread | None:
    """The standard error of a finite score, or None when nothing bounds it.

    Without a stated one, a rate's is bounded by √(p(1-p)/n). A rate of exactly 0 or 1 has none to measure
    (0 of 5 and 0 of 5000 both say 0), so that n is taken as the Agresti-Coull interval takes it.

    Source: Agresti and Coull, The American Statistician 52(2), 1998, for the adjusted proportion.
    """
    stated = score.stderr if score.stderr is not None and math.isfinite(score.stderr) and score.stderr >= 0 else None
    if stated:
        return Spread(stated, from_n=False)
    bounded = is_rate(score.metric) and 0 <= score.value <= 1
    if stated == 0 and not (bounded and score.value in (0, 1)):
        return Spread(0.0, from_n=False)
    if not bounded or score.n is None or score.n < 1:
        return None
    return Spread(_stderr_of_rate(score.value, score.n, confidence=confidence), from_n=True)


def _stderr_of_rate(rate: float, n: int, *, confidence: float) -> float:
    if 0 < rate < 1:
        return math.sqrt(rate * (1 - rate) / n)
    added = NormalDist().inv_cdf(confidence) ** 2
    adjusted = (rate * n + added / 2) / (n + added)
    return math.sqrt(adjusted * (1 - adjusted) / (n + added))


def difference(candidate: Score, baseline: Score, *, direction: Direction, confidence: float) -> Difference | None:
    """How much better the candidate is; None when a side has no standard error and none can be bounded.

    Args:
        candidate: finite.
        baseline: finite, comparable with `candidate`.
        direction: which way is better.
        confidence: one-sided, of each bound; between 0.5 and 1.

    Source: the two-sample z test; bounds as in a non-inferiority test, each at one-sided `confidence`.
    """
    mine, other = spread(candidate, confidence=confidence), spread(baseline, confidence=confidence)
    if mine is None or other is None:
        return None
    gain = candidate.value - baseline.value
    mean = gain if direction is Direction.HIGHER else -gain
    stderr = math.hypot(mine.stderr, other.stderr)
    reach = NormalDist().inv_cdf(confidence) * stderr
    if not math.isfinite(mean) or not math.isfinite(reach):
        return None
    return Difference(mean, stderr, mean - reach, mean + reach, confidence, _method(mine, other))


def _method(mine: Spread, other: Spread) -> str:
    if mine.from_n and other.from_n:
        return "two-sample z, both standard errors bounded by n"
    if mine.from_n or other.from_n:
        side = "the version's" if mine.from_n else "the baseline's"
        return f"two-sample z, {side} standard error bounded by n"
    return "two-sample z from both standard errors"


def shows(found: Difference, test: Test, *, margin: float) -> bool | None:
    """Whether the difference passes the test (True), fails it (False) or cannot tell (None).

    Args:
        found: the difference.
        test: `non-inferior`: better than -margin. `superior`: better than +margin.
        margin: in the metric's unit, never negative.
    """
    if test is Test.SUPERIOR:
        return True if found.low > margin else False if found.high <= margin else None
    return True if found.low >= -margin else False if found.high < -margin else None


def samples_to_decide(found: Difference, test: Test, *, margin: float, candidate: Score, baseline: Score) -> int | None:
    """Samples on each side that would decide, should the difference stay as it is; None when not computable."""
    target = margin if test is Test.SUPERIOR else -margin
    distance = abs(found.mean - target)
    if not candidate.n or not baseline.n or distance == 0:
        return None
    sides = (candidate, baseline)
    spreads = [spread(side, confidence=found.confidence) for side in sides]
    variance = sum(s.stderr**2 * n for s, n in zip(spreads, (candidate.n, baseline.n), strict=True) if s)
    needed = NormalDist().inv_cdf(found.confidence) ** 2 * variance / distance**2
    return math.floor(needed) + 1 if needed < LARGEST_SAMPLE else None
