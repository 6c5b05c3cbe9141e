"""Suite: what has to be measured together, and how; a new version of it makes evidence of the old one stale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.score import Score

KIND = "EvalSuite"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_REFERENCE = re.compile(rf"({_NAME.pattern})(?:@([1-9][0-9]{{0,8}}))?")


@dataclass(frozen=True, slots=True)
class SuiteMetric:
    """One metric of a suite.

    Attributes:
        metric: exact name, `gsm8k/exact_match@strict-match`.
        setting: what a score's setting must say at least: shots, task_version, split, ...
    """

    metric: str
    setting: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suite:
    """One version of a suite; never changed afterwards.

    Attributes:
        name: lower case.
        metrics: all of them have to be measured.
        version: 1, 2, ... in the order they were set; 0 before it is stored.
        set_by: who set it.
        set_at: when, ISO 8601 in UTC.
    """

    name: str
    metrics: tuple[SuiteMetric, ...]
    version: int = 0
    set_by: str = ""
    set_at: str = ""

    @property
    def reference(self) -> str:
        """`core@3`."""
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> Digest:
        """Over what it asks: equal suites are the same version."""
        return of_json(document(self))


def document(suite: Suite) -> dict[str, Any]:
    """The suite as `policies.file.read_suite` reads it."""
    metrics = [
        {"metric": each.metric, **({"setting": dict(sorted(each.setting.items()))} if each.setting else {})}
        for each in suite.metrics
    ]
    return {"apiVersion": "adapters/v1", "kind": KIND, "name": suite.name, "metrics": metrics}


def parse(text: str) -> tuple[str, int | None]:
    """(name, version or None for the newest) of `core@3` or `core`.

    Raises:
        InvalidInput: it is neither.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{text[:80]!r} names no suite; write core@3, or core for its newest version.")
    return found[1], int(found[2]) if found[2] else None


def missing(suite: Suite, scores: Sequence[Score]) -> list[str]:
    """What `scores` lack of the suite, in words; empty when every metric was measured as it asks."""
    lacking = []
    for asked in suite.metrics:
        of_metric = [score for score in scores if score.metric == asked.metric]
        if not of_metric:
            lacking.append(asked.metric)
        elif not any(fits(asked, score) for score in of_metric):
            found = of_metric[-1].setting
            pairs = [(key, want, found.get(key, "unknown")) for key, want in asked.setting.items()]
            wrong = [f"{key} {value} instead of {want}" for key, want, value in pairs if value != want]
            lacking.append(f"{asked.metric} (measured with {', '.join(wrong)})")
    return lacking


def fits(asked: SuiteMetric, score: Score) -> bool:
    """Whether a score was measured as a suite asks."""
    return score.metric == asked.metric and asked.setting.items() <= score.setting.items()
