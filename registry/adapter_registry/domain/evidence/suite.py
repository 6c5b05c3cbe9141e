"""Suite: what has to be measured together, and how; a new version of it makes evidence of the old one stale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.score import Score

KIND = "EvalSuite"
LONGEST_NAME = 63
TASK_FILE = "/task.yaml"
TASK_NAME = re.compile(r"(?P<task>[A-Za-z0-9][\w.-]*)/(task\.yaml|data(/[A-Za-z0-9_][\w.-]*)+)", re.ASCII)
"""What the files of tasks are called in a recipe, and in a suite; no part begins with a dot."""
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
        files: tasks and their data by digest, under their names in the recipe of an evaluation; empty where the suite
            only says what is measured.
        version: 1, 2, ... in the order they were set; 0 before it is stored.
        set_by: who set it.
        set_at: when, ISO 8601 in UTC.
    """

    name: str
    metrics: tuple[SuiteMetric, ...]
    version: int = 0
    set_by: str = ""
    set_at: str = ""
    files: dict[str, Digest] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """`core@3`."""
        return f"{self.name}@{self.version}"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks among its files."""
        return tuple(sorted(name.removesuffix(TASK_FILE) for name in self.files if name.endswith(TASK_FILE)))

    @property
    def digest(self) -> Digest:
        """Over what it asks, and its files: equal suites are the same version."""
        return of_json(document(self))


def document(suite: Suite) -> dict[str, Any]:
    """The suite as `suite_file.read_suite` reads it."""
    metrics = [
        {"metric": each.metric, **({"setting": dict(sorted(each.setting.items()))} if each.setting else {})}
        for each in suite.metrics
    ]
    files = {"files": dict(sorted(suite.files.items()))} if suite.files else {}
    return {"apiVersion": "adapters/v1", "kind": KIND, "name": suite.name, "metrics": metrics, **files}


def unfit_files(names: Iterable[str]) -> str:
    """The first name that no file of a task has, or whose task is not among them; empty when there is none."""
    given = list(names)
    matches = {name: TASK_NAME.fullmatch(name) for name in given}
    return next((name for name, match in matches.items() if not match or match["task"] + TASK_FILE not in matches), "")


def named(text: str) -> str:
    """What a suite is called whose task or folder is called `text`.

    Raises:
        InvalidInput: nothing of it can be in the name of a suite.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).lstrip("._-")[:LONGEST_NAME]
    if not name:
        raise InvalidInput(f"no suite can be called {text[:80]!r}: name it in a document (kind: {KIND}, name: ...).")
    return name


def is_name(text: str) -> bool:
    """Whether a suite can be meant: `core@3` or `core`."""
    return _REFERENCE.fullmatch(text) is not None


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
