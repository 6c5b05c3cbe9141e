"""How often a gate says `superior` of two equal versions, and how often it sees a true gain.

Every case draws two sides of one evaluation many times, from equal versions (at most 5 % may pass as superior) and
from a version that is truly better, and asks the gate's own code with confidence 0.95 and no margin. A third column is
non-inferiority of a version that is worse by exactly the margin: it must pass in at most 5 % too.

    python -m benchmarks.gate_error_rates            10,000 draws of each case, all cases
    python -m benchmarks.gate_error_rates --quick    1,000 draws
    python -m benchmarks.gate_error_rates --of "skewed losses, n=200"

Cases that are resampled from many samples are slow: of those only the errors of equal versions are drawn as often, the
rest a tenth as often.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from adapter_registry.domain.evidence.comparison import bounded, estimate, shows
from adapter_registry.domain.evidence.intervals import Estimate
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.policies.policy import Test

ERROR = 0.05
MARGIN = 0.03

Draw = Callable[[Generator, float], Estimate | None]
"""One evaluation of both sides, the candidate better by so much."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: its name, how one evaluation is drawn, a true gain to look for, how much worse is too much.

    Those that are resampled from many samples are slow.
    """

    name: str
    draw: Draw
    gain: float
    margin: float = MARGIN
    slow: bool = False


def cases(sizes: tuple[int, ...] = (50, 200, 1000, 2000)) -> Iterator[Case]:
    """Every kind of evidence at every size; sample counts of benchmarks people use lie between."""
    for n in sizes:
        for rate in (0.02, 0.1, 0.5, 0.9, 0.98):
            yield Case(f"two rates near {rate}, n={n}", _rates(n, rate), _visible(n, rate), min(MARGIN, rate / 2))
        for share in (0.05, 0.2, 0.4):
            yield Case(f"paired 0/1, {share:.0%} differ, n={n}", _paired_rates(n, share), _visible(n, share / 2) / 1.5)
        yield Case(f"two means, normal, n={n}", _means(n), 3.5 / math.sqrt(n))
        yield Case(f"paired, normal, n={n}", _paired(n, _normal), 3.5 / math.sqrt(n), slow=n >= 200)
        yield Case(f"paired, skewed losses, n={n}", _paired(n, _log_normal), 3.0 / math.sqrt(n), slow=n >= 200)
        yield Case(f"paired, few differ, n={n}", _paired(n, _sparse), 0.3 / math.sqrt(n), slow=n >= 200)


def _visible(n: int, rate: float) -> float:
    return min(3.5 * math.sqrt(rate * (1 - rate) / n), (1 - rate) * 0.9)


def _rates(n: int, rate: float) -> Draw:
    def draw(random: Generator, gain: float) -> Estimate | None:
        mine, other = (random.binomial(n, min(max(p, 0), 1)) / n for p in (rate + gain, rate))
        sides = [Score("t/acc", value, Direction.HIGHER, n=n) for value in (mine, other)]
        return estimate(*sides, direction=Direction.HIGHER)

    return draw


def _paired_rates(n: int, share: float) -> Draw:
    def draw(random: Generator, gain: float) -> Estimate | None:
        moved = min(max((share + gain) / 2, 0), 1)
        wins, losses, same = random.multinomial(n, [moved, max(share - moved, 0), 1 - max(share, moved)])
        pairs = [(1.0, 0.0)] * wins + [(0.0, 1.0)] * losses + [(1.0, 1.0)] * same
        return _of_pairs(pairs)

    return draw


def _means(n: int) -> Draw:
    def draw(random: Generator, gain: float) -> Estimate | None:
        sides = [random.normal(mean, 1, n) for mean in (gain, 0.0)]
        scores = [
            Score("t/grade", float(side.mean()), Direction.HIGHER, stderr=float(side.std(ddof=1)) / math.sqrt(n), n=n)
            for side in sides
        ]
        return estimate(*scores, direction=Direction.HIGHER)

    return draw


def _paired(n: int, noise: Callable[[Generator, int], tuple[np.ndarray, np.ndarray]]) -> Draw:
    def draw(random: Generator, gain: float) -> Estimate | None:
        mine, other = noise(random, n)
        return _of_pairs(list(zip((mine + gain).tolist(), other.tolist(), strict=True)), int(random.integers(2**31)))

    return draw


def _normal(random: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated 0.8: how hard a sample is counts for both sides."""
    hardness = random.normal(0, 2, n)
    return hardness + random.normal(0, 1, n), hardness + random.normal(0, 1, n)


def _log_normal(random: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """As losses are spread: a few samples carry much of the mean."""
    hardness = random.normal(0, 1, n)
    return np.exp(hardness + random.normal(0, 0.3, n)), np.exp(hardness + random.normal(0, 0.3, n))


def _sparse(random: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Two runs of one model that answer a tenth of the samples differently, with points between 0 and 1."""
    other, again = random.random(n), random.random(n)
    return np.where(random.random(n) < 0.1, again, other), other


def _of_pairs(pairs: list[tuple[float, float]], seed: int = 0) -> Estimate | None:
    value = Score("t/acc", 0.0, Direction.HIGHER)
    return estimate(value, value, direction=Direction.HIGHER, pairs=pairs, seed=seed)


@dataclass(frozen=True, slots=True)
class Measured:
    """Shares of passes: of equal versions as superior, of one worse by the margin as not inferior, of a better one."""

    superior: float
    non_inferior: float
    power: float


def measure(case: Case, draws: int, *, seed: int) -> Measured:
    """The shares over so many draws of each kind; of slow cases, those of versions that differ over a tenth of them."""
    random = np.random.default_rng(seed)
    fewer = draws // 10 if case.slow else draws
    return Measured(
        _passes(case, random, draws, gain=0.0, test=Test.SUPERIOR, margin=0.0),
        _passes(case, random, fewer, gain=-case.margin, test=Test.NON_INFERIOR, margin=case.margin),
        _passes(case, random, fewer, gain=case.gain, test=Test.SUPERIOR, margin=0.0),
    )


def _passes(case: Case, random: Generator, draws: int, *, gain: float, test: Test, margin: float) -> float:
    passed = 0
    for _ in range(draws):
        drawn = case.draw(random, gain)
        found = bounded(drawn, confidence=1 - ERROR) if drawn else None
        passed += found is not None and shows(found, test, margin=margin) is True
    return passed / draws


def main() -> None:
    """Print a line per case; the last line says the worst rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 draws instead of 10,000")
    parser.add_argument("--of", default="", metavar="TEXT", help="only cases whose name ends so")
    asked = parser.parse_args()
    draws = 1_000 if asked.quick else 10_000
    print(f"{draws:,} draws; passes at 95 % confidence, in per cent")
    print(f"{'evidence':<36}{'A/A superior':>14}{'worse by margin':>17}{'true gain':>12}{'power':>8}{'draws':>8}")
    worst = 0.0
    for number, case in enumerate(cases()):
        if not case.name.endswith(asked.of):
            continue
        found = measure(case, draws, seed=number)
        worst = max(worst, found.superior, *([] if case.slow else [found.non_inferior]))
        shares = f"{found.superior * 100:>14.2f}{found.non_inferior * 100:>17.2f}"
        print(f"{case.name:<36}{shares}{case.gain:>12.3f}{found.power * 100:>8.1f}{draws:>8,}", flush=True)
    print(
        f"worst error {worst * 100:.2f}, allowed {ERROR * 100:.0f}; three standard errors of a measured rate are "
        f"{300 * math.sqrt(ERROR * (1 - ERROR) / draws):.2f}"
    )


if __name__ == "__main__":
    main()
