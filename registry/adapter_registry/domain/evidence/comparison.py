"""How far apart two measured values are, how sure one can be of it, and what that answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapter_registry.domain.evidence.intervals import (
    Estimate,
    from_errors,
    normal,
    paired_rates,
    paired_values,
    two_rates,
)
from adapter_registry.domain.evidence.metric import is_rate
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.policies.evals import Test

LARGEST_SAMPLE = 10_000_000
"""Beyond this, saying how many samples would decide a comparison helps nobody."""

_SAME_SPREAD = 0.01
"""How far a stated standard error may be from that of a share of n, being rounded, and still be it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A candidate's value against a baseline's, turned so that positive is better.

    Attributes:
        mean: in the metric's unit.
        low: one-sided lower bound at `confidence`.
        high: one-sided upper bound at `confidence`.
        confidence: of each bound.
        method: in words.
    """

    mean: float
    low: float
    high: float
    confidence: float
    method: str


def spread(score: Score) -> float | None:
    """The standard error of a finite score: as stated, or bounded by n for a rate; None when nothing bounds it.

    A rate of exactly 0 or 1 has none to measure (0 of 5 and 0 of 5000 both say 0), so that n is taken as the
    Agresti-Coull interval takes it at 95 %. An error of 0 of any rate, or over one sample or nobody knows how many, is
    none either.

    Source: Agresti and Coull, The American Statistician 52(2), 1998, for the adjusted proportion.
    """
    stated = score.stderr if score.stderr is not None and math.isfinite(score.stderr) and score.stderr >= 0 else None
    if stated or (stated == 0 and (score.n or 0) > 1 and not _is_share(score)):
        return stated
    if not _is_share(score) or score.n is None or score.n < 1:
        return None
    added = normal(0.95) ** 2 if score.value in (0, 1) else 0.0
    rate, n = (score.value * score.n + added / 2) / (score.n + added), score.n + added
    return math.sqrt(rate * (1 - rate) / n)


def _is_share(score: Score) -> bool:
    return is_rate(score.metric) and 0 <= score.value <= 1


def _counted(score: Score) -> bool:
    """Whether a score is a count of successes among n samples.

    A stated standard error that is that of a share says so; another one (clusters, repeats, parts of points) says that
    samples were not plain successes.
    """
    if not _is_share(score) or not score.n:
        return False
    if not score.stderr or not math.isfinite(score.stderr):
        return True
    variance = score.value * (1 - score.value)
    shares = [math.sqrt(variance / size) for size in (score.n, score.n - 1) if size]
    return any(math.isclose(score.stderr, share, rel_tol=_SAME_SPREAD) for share in shares)


def estimate(
    candidate: Score,
    baseline: Score,
    *,
    direction: Direction,
    pairs: Sequence[tuple[float, float]] = (),
    seed: int = 0,
) -> Estimate | None:
    """How much better the candidate is; None where that cannot be told.

    That is: a side has no standard error and none can be bounded, or the difference is too large for a number.

    Args:
        candidate: finite.
        baseline: finite, comparable with `candidate`.
        direction: which way is better.
        pairs: (candidate, baseline) on each common sample, when both sides have outcomes per sample.
        seed: of resampling.
    """
    sign = 1 if direction is Direction.HIGHER else -1
    if pairs:
        differences = [sign * (mine - other) for mine, other in pairs]
        return _paired(differences, pairs, seed) if all(map(math.isfinite, differences)) else None
    if _counted(candidate) and _counted(baseline) and candidate.n and baseline.n:
        best, worst = (candidate, baseline) if sign > 0 else (baseline, candidate)
        return two_rates(best.value, best.n or 1, worst.value, worst.n or 1)
    errors = spread(candidate), spread(baseline)
    mean = sign * (candidate.value - baseline.value)
    if errors[0] is None or errors[1] is None or not math.isfinite(mean):
        return None
    return from_errors(mean, (errors[0], errors[1]), (candidate.n, baseline.n))


def _paired(differences: list[float], pairs: Sequence[tuple[float, float]], seed: int) -> Estimate:
    if all(value in (0, 1) for pair in pairs for value in pair):
        return paired_rates(differences.count(1), differences.count(-1), len(differences))
    return paired_values(differences, seed=seed)


def bounded(found: Estimate, *, confidence: float) -> Difference | None:
    """The difference with both bounds; None when they are no numbers."""
    low, high = found.bounds(confidence)
    if not math.isfinite(low) or not math.isfinite(high):
        return None
    return Difference(found.mean, low, high, confidence, found.method)


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


def chance(found: Estimate, *, margin: float) -> float:
    """The p value of `better than margin`: the smallest error at which the lower bound lies above it; 1 at worst."""
    low, high = 1e-12, 0.5
    if found.bounds(1 - 1e-9)[0] > margin:
        return 1e-9
    if not found.bounds(1 - high + 1e-12)[0] > margin:
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if found.bounds(1 - middle)[0] > margin else (middle, high)
    return high


def holm(chances: Sequence[float], allowed: Sequence[float]) -> list[int]:
    """By what each claim's allowed error is divided, so that no claim of several passes wrongly more often.

    Claims are taken by their chances, the clearest first: the first is held against an error divided by their number,
    each further one by one less, until one does not pass; it and the rest stay at that divisor.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    divisors = [1] * len(chances)
    left = len(chances)
    for index in sorted(range(len(chances)), key=lambda index: chances[index] / allowed[index]):
        divisors[index] = left
        if chances[index] <= allowed[index] / left:
            left = max(left - 1, 1)
    return divisors


def samples_to_decide(found: Estimate, test: Test, *, margin: float, confidence: float) -> int | None:
    """Samples of each side that would decide, should everything stay as observed; None when none is known."""
    with_samples, n = found.with_samples, found.n
    if with_samples is None or not n or found.mean == (margin if test is Test.SUPERIOR else -margin):
        return None

    def decides(samples: int) -> bool:
        more = bounded(with_samples(samples), confidence=confidence)
        return more is not None and shows(more, test, margin=margin) is not None

    low, high = n, n
    while not decides(high):
        low, high = high, high * 2
        if high > LARGEST_SAMPLE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high
