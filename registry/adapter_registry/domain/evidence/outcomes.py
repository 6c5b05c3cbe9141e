"""Outcomes: what each sample of an evaluation scored, so that two versions can be compared sample by sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from adapter_registry.domain.digest import canonical_json
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.score import Score

MOST_SAMPLES = 200_000
LONGEST_KEY = 64
FEWEST_COMMON = 20
"""Common samples below which sides are compared as if they had none."""
_FORMAT = "adapters.outcomes/1"
_TOLERANCE = 1e-4
"""Harnesses round what they print."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The value of one metric on each sample of one run. Texts of samples are never kept.

    Attributes:
        metric: as in its Score.
        keys: what names each sample in every run of the task: a digest of its document, or its number; each once.
        values: one per key, finite.
    """

    metric: str
    keys: tuple[str, ...]
    values: tuple[float, ...]


def outcomes(metric: str, pairs: Iterable[tuple[str, float]]) -> Outcomes:
    """Outcomes in the order of their keys; a key that comes again is another sample with the same document."""
    seen: dict[str, int] = {}
    named: list[tuple[str, float]] = []
    for key, value in pairs:
        seen[key] = seen.get(key, 0) + 1
        named.append((key if seen[key] == 1 else f"{key}#{seen[key]}", value))
    named.sort()
    return Outcomes(metric, tuple(key for key, _ in named), tuple(value for _, value in named))


def unfit(found: Outcomes, score: Score) -> str:
    """Why these samples are not those behind a score; empty when they are.

    A value that is no mean of its samples (perplexity, F1 over a corpus) cannot be compared by them.
    """
    n = len(found.values)
    if not n or n != len(found.keys) or n > MOST_SAMPLES or len(set(found.keys)) != n:
        return f"each of 1 to {MOST_SAMPLES:,} samples must have one key and one value"
    if any(not key or len(key) > LONGEST_KEY + 12 or not key.isprintable() for key in found.keys):
        return "a sample's key is 1 to 64 printable characters"
    if not all(map(math.isfinite, found.values)):
        return "a sample's value is not a finite number"
    mean = math.fsum(found.values) / n
    if not math.isclose(mean, score.value, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        return f"the mean of its {n:,} samples is {mean:.6g} and not {score.value:.6g}"
    if score.n is not None and score.n != n:
        return f"there are {n:,} samples and not {score.n:,}"
    return ""


def to_json(found: Outcomes) -> bytes:
    """As they are stored, named by the digest of these bytes."""
    values = [repr(float(value)) for value in found.values]
    return canonical_json({"format": _FORMAT, "metric": found.metric, "keys": list(found.keys), "values": values})


def from_json(data: bytes) -> Outcomes:
    """What `to_json` wrote.

    Raises:
        InvalidInput: it is something else.
    """
    try:
        read = json.loads(data)
        return Outcomes(read["metric"], tuple(read["keys"]), tuple(map(float, read["values"])))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"the stored outcomes cannot be read: {error!r}.") from error


def common(mine: Outcomes, other: Outcomes) -> list[tuple[float, float]]:
    """(mine, other) on each sample that both have, in the order of the keys; empty when there are too few."""
    theirs = dict(zip(other.keys, other.values, strict=True))
    pairs = [(value, theirs[key]) for key, value in zip(mine.keys, mine.values, strict=True) if key in theirs]
    return pairs if len(pairs) >= FEWEST_COMMON else []
