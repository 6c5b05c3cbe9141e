"""Versions beside each other: facts, config, marks, files and scores, the first being what the others are held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import short
from adapter_registry.domain.evidence.comparison import bounded, estimate
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.evidence.versus import differing

CONFIDENCE = 0.95
LISTED_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of every version; None where it has none."""

    name: str
    values: tuple[str | None, ...]
    matters: str = ""

    @property
    def differs(self) -> bool:
        """Whether they are not all the same."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True)
class Cell:
    """What one version scored, beside the first.

    Attributes:
        score: the last that counts; None when it was not measured.
        gain: against the first, positive is better; None for the first itself, or where that cannot be said.
        low, high: bounds of `gain`, each one-sided at 95 %; None without standard errors.
        why_not: why the two may not be compared; empty where they may.
        samples: whether both keep what each sample scored.
    """

    score: RecordedScore | None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    why_not: str = ""
    samples: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of every version."""

    metric: str
    direction: Direction | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """Two to six versions; facts, config, labels and tags are rows, files' values are their digests."""

    versions: tuple[Version, ...]
    facts: tuple[Row, ...]
    config: tuple[Row, ...]
    labels: tuple[Row, ...]
    tags: tuple[Row, ...]
    files: tuple[Row, ...]
    scores: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """A sample on which two versions do not score the same."""

    key: str
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class Samples:
    """Two versions, sample by sample.

    Attributes:
        metric: which.
        n: common samples.
        lost: how many got worse: right to wrong, where a sample is either.
        won: how many got better.
        right: whether every sample is right or wrong (1 or 0).
        gain, low, high: the mean difference, positive is better, and its one-sided 95 % bounds, sample by sample.
        method: how those were made.
        losses, wins: the first of each, those that changed most first.
        why_not: why there is nothing to compare; empty where there is.
    """

    metric: str
    n: int = 0
    lost: int = 0
    won: int = 0
    right: bool = False
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    losses: tuple[Flip, ...] = ()
    wins: tuple[Flip, ...] = ()
    why_not: str = ""


def facts(versions: Sequence[Version]) -> tuple[Row, ...]:
    """What each version is."""

    def row(name: str, values: Sequence[object]) -> Row:
        return Row(name, tuple(None if value in (None, "") else str(value) for value in values))

    described = [version.description for version in versions]
    return (
        row("base", [f"{each.base_name} {short(each.base)}" for each in versions]),
        row("method", [each.method for each in described]),
        row("rank", [each.rank for each in described]),
        row("alpha", [None if each.alpha is None else f"{each.alpha:g}" for each in described]),
        row("targets", [", ".join(sorted(each.matched)) for each in described]),
        row("modules", [f"{each.modules:,}" for each in described]),
        row("parameters", [f"{each.parameters:,}" for each in described]),
        row("dtype", [each.dtype for each in described]),
        row("made by", [each.lineage.recipe if each.lineage else "training" for each in versions]),
    )


def labels(versions: Sequence[Version]) -> tuple[Row, ...]:
    """Their labels, by key."""
    keys = sorted({key for version in versions for key in version.labels})
    return tuple(Row(key, tuple(version.labels.get(key) for version in versions)) for key in keys)


def tags(versions: Sequence[Version]) -> tuple[Row, ...]:
    """Which of them each tag and each stage points to."""
    names = sorted({name for version in versions for name in (*version.stages, *version.tags)})
    held = [{*version.stages, *version.tags} for version in versions]
    return tuple(Row(name, tuple("here" if name in each else None for each in held)) for name in names)


def files(versions: Sequence[Version]) -> tuple[Row, ...]:
    """Their files, by path: digests."""
    held = [{file.path: file.digest for file in version.files} for version in versions]
    paths = sorted({path for each in held for path in each})
    return tuple(Row(path, tuple(each.get(path) for each in held)) for path in paths)


def measured(scores: Sequence[Sequence[RecordedScore]]) -> tuple[Measured, ...]:
    """Every metric: the newest valid score of the first, and of each other the newest that compares with it."""
    names = sorted({each.score.metric for some in scores for each in some if each.invalid is None})
    return tuple(_measured(name, [_valid(some, name) for some in scores]) for name in names)


def _valid(scores: Sequence[RecordedScore], metric: str) -> list[RecordedScore]:
    """Newest first."""
    return [each for each in reversed(scores) if each.score.metric == metric and each.invalid is None]


def _measured(metric: str, scores: Sequence[list[RecordedScore]]) -> Measured:
    first = scores[0][0] if scores[0] else None
    directions = (each.score.direction for some in scores for each in some if each.score.direction)
    direction = next(directions, None)
    cells = [Cell(first)]
    for some in scores[1:]:
        alike = next((each for each in some if first and each.score.comparability == first.score.comparability), None)
        mine = alike or (some[0] if some else None)
        cells.append(_cell(mine, first, direction) if mine and first else Cell(mine))
    return Measured(metric, direction, tuple(cells))


def _cell(mine: RecordedScore, first: RecordedScore, direction: Direction | None) -> Cell:
    both = mine.score.outcomes is not None and first.score.outcomes is not None
    if mine.score.comparability != first.score.comparability:
        return Cell(mine, why_not=f"measured differently: {differing(mine.score, first.score)}", samples=both)
    if direction is None:
        return Cell(mine, why_not="nobody said which way is better", samples=both)
    sign = 1 if direction is Direction.HIGHER else -1
    gain = sign * (mine.score.value - first.score.value)
    if not math.isfinite(gain):
        return Cell(mine, why_not="one of the two is not a number", samples=both)
    found = estimate(mine.score, first.score, direction=direction)
    within = bounded(found, confidence=CONFIDENCE) if found else None
    return Cell(mine, gain, within.low if within else None, within.high if within else None, samples=both)


def flips(metric: str, first: tuple[Score, Outcomes], second: tuple[Score, Outcomes]) -> Samples:
    """Two versions sample by sample; both scores are of `metric` and may be compared."""
    (mine, before), (theirs, after) = first, second
    known = dict(zip(before.keys, before.values, strict=True))
    common = [(k, known[k], value) for k, value in zip(after.keys, after.values, strict=True) if k in known]
    direction = mine.direction or theirs.direction
    if not common or direction is None:
        why = "they have no sample in common" if not common else "nobody said which way is better"
        return Samples(metric, len(common), why_not=why)
    sign = 1 if direction is Direction.HIGHER else -1
    apart = (Flip(*each) for each in common if each[1] != each[2])
    moved = sorted(apart, key=lambda flip: -abs(flip.second - flip.first))
    won = [flip for flip in moved if sign * (flip.second - flip.first) > 0]
    lost = [flip for flip in moved if sign * (flip.second - flip.first) < 0]
    found = estimate(theirs, mine, direction=direction, pairs=[(value, old) for _, old, value in common])
    within = bounded(found, confidence=CONFIDENCE) if found else None
    return Samples(
        metric,
        n=len(common),
        lost=len(lost),
        won=len(won),
        right=all(value in (0, 1) for _, *pair in common for value in pair),
        gain=found.mean if found else None,
        low=within.low if within else None,
        high=within.high if within else None,
        method=found.method if found else "",
        losses=tuple(lost[:LISTED_SAMPLES]),
        wins=tuple(won[:LISTED_SAMPLES]),
    )
