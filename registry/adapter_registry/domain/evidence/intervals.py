"""How large a difference between two measured values may really be: one method for each kind of evidence.

Every method answers an Estimate with one-sided bounds: of equal candidates, at most 1 - confidence have a lower bound
above zero. `benchmarks/gate_error_rates.py` measures that, and chose the methods. SciPy and numpy are imported
where they are used, because they take longer to import than most commands run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

MOST_RESAMPLED = 5_000
"""Paired samples that are still resampled; with more, the t interval is the same to three digits."""

RESAMPLES = 999

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference, turned so that positive is better, and what is known of its error.

    Attributes:
        mean: in the metric's unit.
        bounds: (lower, upper) at a one-sided confidence each.
        method: in words, for people.
        n: samples on which the smaller side rests; None when unknown.
        with_samples: the same if each side rested on at least so many samples, and everything else were as observed;
            None when n is unknown.
    """

    mean: float
    bounds: Callable[[float], Bounds]
    method: str
    n: int | None = None
    with_samples: Callable[[float], Estimate] | None = None


def normal(confidence: float) -> float:
    """The standard normal quantile."""
    return NormalDist().inv_cdf(confidence)


def student(confidence: float, freedom: float) -> float:
    """Student's quantile; the normal one where there are so many degrees of freedom that they are equal."""
    if freedom > 1e6:
        return normal(confidence)
    from scipy.special import stdtrit  # noqa: PLC0415  see the module

    return float(stdtrit(freedom, confidence))


def from_errors(mean: float, errors: Bounds, sizes: tuple[int | None, int | None]) -> Estimate:
    """From two standard errors, measured independently: Welch's t, or z when a number of samples is unknown.

    Source: Welch, Biometrika 34, 1947, with Satterthwaite's degrees of freedom.
    """
    stderr = math.hypot(*errors)
    n, m = sizes
    if n is None or m is None:
        return Estimate(mean, _symmetric(mean, stderr, normal), "two-sample z from both standard errors")
    return _welch(mean, errors, float(n), float(m))


def _welch(mean: float, errors: Bounds, n: float, m: float) -> Estimate:
    stderr = math.hypot(*errors)
    # Relative to their sum: squares of tiny standard errors would vanish.
    shares = [(error / stderr) ** 2 if stderr else 0.5 for error in errors]
    freedom = 1 / sum(share**2 / max(size - 1, 1e-9) for share, size in zip(shares, (n, m), strict=True))

    def with_samples(fewest: float) -> Estimate:
        sizes = max(n, fewest), max(m, fewest)
        smaller = errors[0] * math.sqrt(n / sizes[0]), errors[1] * math.sqrt(m / sizes[1])
        return _welch(mean, smaller, *sizes)

    def quantile(confidence: float) -> float:
        return student(confidence, max(freedom, 1.0))

    return Estimate(
        mean, _symmetric(mean, stderr, quantile), "Welch's t from both standard errors", int(min(n, m)), with_samples
    )


def _symmetric(mean: float, stderr: float, quantile: Callable[[float], float]) -> Callable[[float], Bounds]:
    def bounds(confidence: float) -> Bounds:
        reach = quantile(confidence) * stderr if stderr else 0.0
        return mean - reach, mean + reach

    return bounds


def two_rates(rate: float, n: float, other: float, m: float) -> Estimate:
    """Of two shares of independent samples: rate - other.

    Wald's interval has errors up to seven times the stated ones near 0 and 1; this one keeps them everywhere.

    Source: Newcombe, Statistics in Medicine 17, 1998, 873-890, method 11 (Wilson intervals with continuity correction).
    """

    def bounds(confidence: float) -> Bounds:
        z = normal(confidence)
        low, high = _wilson(rate, n, z), 1 - _wilson(1 - rate, n, z)
        other_low, other_high = _wilson(other, m, z), 1 - _wilson(1 - other, m, z)
        mean = rate - other
        return mean - math.hypot(rate - low, other_high - other), mean + math.hypot(high - rate, other - other_low)

    def with_samples(fewest: float) -> Estimate:
        return two_rates(rate, max(n, fewest), other, max(m, fewest))

    return Estimate(rate - other, bounds, "two rates, Newcombe's interval", int(min(n, m)), with_samples)


def _wilson(rate: float, n: float, z: float) -> float:
    """The lower Wilson bound with continuity correction."""
    if rate * n < 1e-9:
        return 0.0
    root = math.sqrt(max(z * z - 2 - 1 / n + 4 * rate * (n * (1 - rate) + 1), 0.0))
    return max((2 * n * rate + z * z - 1 - z * root) / (2 * (n + z * z)), 0.0)


def paired_rates(wins: float, losses: float, n: float) -> Estimate:
    """Of two shares of the same samples, from those on which the two sides differ: (wins - losses) / n.

    At a margin of zero it is McNemar's test with continuity correction; it serves other margins too, and
    keeps the stated error where only few samples differ.

    Source: Tango, Statistics in Medicine 17, 1998, 891-908 (score interval); the correction is half the step in which
    wins - losses moves.
    """
    mean = (wins - losses) / n

    def bounds(confidence: float) -> Bounds:
        z = normal(confidence)
        return _tango(wins, losses, n, z), -_tango(losses, wins, n, z)

    def with_samples(fewest: float) -> Estimate:
        times = max(fewest / n, 1)
        return paired_rates(wins * times, losses * times, n * times)

    return Estimate(mean, bounds, "paired, Tango's score interval", int(n), with_samples)


def _tango(wins: float, losses: float, n: float, z: float) -> float:
    """The lower bound: the difference that is just rejected, by bisection."""
    low, high = -1.0, (wins - losses) / n
    for _ in range(60):
        middle = (low + high) / 2
        b = (2 * n - wins + losses) * middle - wins - losses
        lost = (math.sqrt(max(b * b + 8 * n * losses * middle * (1 - middle), 0.0)) - b) / (4 * n)
        variance = max(n * (2 * lost + middle * (1 - middle)), 0.0)
        rejected = wins - losses - 1 - n * middle >= z * math.sqrt(variance)
        low, high = (middle, high) if rejected else (low, middle)
    return low


def paired_values(differences: Sequence[float], *, seed: int) -> Estimate:
    """Of the same samples, from the difference on each: paired t and studentised bootstrap, the wider bound of the two.

    Neither keeps the stated error alone: t fails when the differences are skewed, the bootstrap when few differ.

    Args:
        differences: one per sample, finite, positive is better; at least two.
        seed: of the resampling; equal seeds give equal bounds.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5.
    """
    # In units of a power of two, which is exact, so that no square of large or tiny values is lost.
    unit = math.ldexp(1.0, math.frexp(max(map(abs, differences)))[1] - 1)
    values = [value / unit for value in differences]
    if values[0] and min(values) == max(values):
        values.append(0.0)  # All the same says nothing of what the next sample may do.
    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    if n > MOST_RESAMPLED or not error:
        return _paired_t(mean * unit, error * unit, float(n), "paired t")
    resampled = _studentised(values, mean, error, seed)
    mean, error = mean * unit, error * unit

    def bounds(confidence: float) -> Bounds:
        reach = student(confidence, n - 1) * error
        upper, lower = _quantile(resampled, confidence), _quantile(resampled, 1 - confidence)
        return min(mean - reach, mean - upper * error), max(mean + reach, mean - lower * error)

    def with_samples(fewest: float) -> Estimate:
        return _paired_t(mean, error * math.sqrt(n / max(n, fewest)), max(n, fewest), "")

    return Estimate(mean, bounds, "paired bootstrap", n, with_samples)


def _paired_t(mean: float, error: float, n: float, method: str) -> Estimate:
    def with_samples(fewest: float) -> Estimate:
        return _paired_t(mean, error * math.sqrt(n / max(n, fewest)), max(n, fewest), method)

    return Estimate(mean, _symmetric(mean, error, lambda c: student(c, max(n - 1, 1.0))), method, int(n), with_samples)


def _studentised(values: list[float], mean: float, error: float, seed: int) -> list[float]:
    """How far resampled means lie from the observed one, in their own standard errors; sorted."""
    import numpy as np  # noqa: PLC0415  see the module

    # RandomState and not a Generator: its stream never changes, so an old decision can be computed again.
    random = np.random.RandomState(seed % 2**32)
    data = np.asarray(values) - mean
    n = len(values)
    ratios: list[float] = []
    batch = max(1, 2_000_000 // n)
    for start in range(0, RESAMPLES, batch):
        drawn = data[random.randint(0, n, (min(batch, RESAMPLES - start), n))]
        means = drawn.mean(axis=1)
        apart = drawn - means[:, np.newaxis]
        errors = np.sqrt(np.einsum("ij,ij->i", apart, apart) / n / (n - 1))
        # A resample without any spread has no ratio of its own, only rounding; it is held against the observed error.
        spread = drawn.max(axis=1) > drawn.min(axis=1)
        ratios += (means / np.where(spread & (errors > 0), errors, error)).tolist()
    return sorted(ratios)


def _quantile(ordered: list[float], share: float) -> float:
    """The order statistic that at most `share` of a further draw lies below; the extreme where there are too few."""
    place = math.ceil((len(ordered) + 1) * share) - 1 if share > 0.5 else math.floor((len(ordered) + 1) * share) - 1
    return ordered[min(max(place, 0), len(ordered) - 1)]
