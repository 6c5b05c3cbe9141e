"""Logs of Inspect: the JSON log, or the header of the compressed one; versions 1 to 3 of its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from adapter_registry.domain.evidence.metric import known_direction
from adapter_registry.domain.evidence.outcomes import Outcomes, outcomes, unfit
from adapter_registry.domain.evidence.score import Score
from adapter_registry.domain.results.file import ResultsFile
from adapter_registry.domain.untrusted import (
    amount,
    entries,
    fingerprint,
    mapping,
    number,
    whole,
    without_folders,
    words,
)

HARNESS = "inspect"
VERSIONS = (1, 2, 3)

_SPREADS = ("stderr", "bootstrap_stderr", "bootstrap_std", "std", "var")
"""Metrics that describe the spread of another one."""
_STANDARD_ERRORS = ("stderr", "bootstrap_stderr", "bootstrap_std")
"""Those of them that are its standard error; the last is an older name of the second."""
_MEANS = ("accuracy", "mean")
"""Metrics that a scorer's standard error is about."""
_USUAL_REDUCERS = ("", "mean", "avg")
_OPERATIONAL = (
    "max_connections",
    "max_retries",
    "timeout",
    "attempt_timeout",
    "batch",
    "cache",
    "adaptive_connections",
)
"""Settings of a run that change how fast it goes, not what it measures."""


def recognises(document: Mapping[str, Any]) -> bool:
    """Whether a document has the keys of an Inspect log."""
    return isinstance(document.get("eval"), dict) and "status" in document


def read(document: Mapping[str, Any]) -> ResultsFile:
    """The scores of a finished, valid log."""
    log = _Log(document)
    problems = tuple(log.problems())
    scores = () if problems else tuple(log.scores())
    found, left_out = ([], []) if problems else log.outcomes(scores)
    notices = (*log.notices(), *left_out)
    return ResultsFile(scores, log.claims(), log.producer, notices, problems, outcomes=tuple(found))


@dataclass(frozen=True)
class _Log:
    """One log document."""

    document: Mapping[str, Any]

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        return mapping(self.document.get("eval"))

    @cached_property
    def results(self) -> Mapping[str, Any]:
        return mapping(self.document.get("results"))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        return mapping(self.spec.get("config"))

    @property
    def producer(self) -> str:
        version = words(mapping(self.spec.get("packages")).get("inspect_ai"))
        return f"{HARNESS} {version}" if version else HARNESS

    def problems(self) -> Iterator[tuple[str, str, str]]:
        status, version = words(self.document.get("status")), self.document.get("version")
        if version not in VERSIONS:
            yield "version", ", ".join(str(known) for known in VERSIONS), words(version) or "none"
        if status != "success":
            yield "status", "success", status or "none"
        if self.document.get("invalidated"):
            yield "invalidated", "a log that nobody declared invalid", "one that somebody did"

    def notices(self) -> Iterator[str]:
        total, completed = whole(self.results.get("total_samples")), number(self.results.get("completed_samples"))
        if total is not None and completed is not None and completed < total:
            yield f"only {completed:,.0f} of {total:,} samples were completed"

    def scores(self) -> Iterator[Score]:
        for scorer in self.scorers():
            yield from self.of_scorer(scorer)

    def outcomes(self, scores: Sequence[Score]) -> tuple[list[Outcomes], list[str]]:
        """(what each sample scored, of those scores that are the mean of it; what was left out and why)."""
        found, left_out = [], []
        for score in scores:
            metric, _, scorer = score.metric.removeprefix(f"{self.task}/").partition("@")
            pairs = self.by_sample(scorer) if metric in _MEANS else {}
            if not pairs:
                continue
            each = outcomes(score.metric, pairs.items())
            if why := unfit(each, score):
                left_out.append(f"{score.metric} is compared without its samples: {why}")
            else:
                found.append(each)
        return found, left_out

    def by_sample(self, scorer: str) -> dict[str, float]:
        """Sample id -> the mean of its epochs; empty when the log holds no samples."""
        values: dict[str, list[float]] = {}
        for sample in map(mapping, entries(self.document.get("samples"))):
            value = _points(mapping(mapping(sample.get("scores")).get(scorer)).get("value"))
            if value is not None:
                values.setdefault(f"id {words(sample.get('id'))[:50]}", []).append(value)
        return {key: sum(each) / len(each) for key, each in values.items()}

    def scorers(self) -> list[Mapping[str, Any]]:
        """`results.scores`; `results.scorers` in early logs; one unnamed list of metrics in version 1."""
        listed = entries(self.results.get("scores")) or entries(self.results.get("scorers"))
        if listed:
            return [mapping(scorer) for scorer in listed]
        return [{**mapping(self.results.get("scorer")), "metrics": self.results.get("metrics")}]

    def of_scorer(self, scorer: Mapping[str, Any]) -> Iterator[Score]:
        reducer, setting = words(scorer.get("reducer")), self.setting(scorer)
        label = words(scorer.get("name")) + (f":{reducer}" if reducer not in _USUAL_REDUCERS else "")
        metrics = mapping(scorer.get("metrics"))
        values = {words(name).rpartition("/")[2]: _value(metric) for name, metric in metrics.items()}
        errors = [amount(values.get(name)) for name in _STANDARD_ERRORS]
        stderr = next((error for error in errors if error is not None), None)
        for metric, value in values.items():
            if value is None or metric in _SPREADS:
                continue
            yield Score(
                f"{self.task}/{metric}" + (f"@{label}" if label else ""),
                value,
                known_direction(metric),
                stderr=stderr if metric in _MEANS else None,
                n=self.samples(scorer),
                setting=setting,
                measured_at=self.measured_at,
            )

    @cached_property
    def task(self) -> str:
        return words(self.spec.get("task")).rpartition("/")[2]

    def samples(self, scorer: Mapping[str, Any]) -> int | None:
        """Samples behind a value; repeated epochs of a sample are reduced to one before metrics are computed."""
        completed, epochs = whole(self.results.get("completed_samples")), whole(self.config.get("epochs")) or 1
        return whole(scorer.get("scored_samples")) or (completed // epochs or None if completed is not None else None)

    def setting(self, scorer: Mapping[str, Any]) -> dict[str, str]:
        """Everything that must agree before two values of this task may be compared."""
        plan, dataset = mapping(self.document.get("plan")), mapping(self.spec.get("dataset"))
        generation = {**mapping(plan.get("config")), **mapping(self.spec.get("model_generate_config"))}
        facts = {
            "harness": HARNESS,
            "task": words(self.spec.get("task")),
            "task_version": words(self.spec.get("task_version")),
            "task_args": _hash(self.spec.get("task_args")),
            "dataset": words(dataset.get("name")),
            "dataset_samples": words(dataset.get("samples")),
            "limit": self.limit,
            "epochs": words(self.config.get("epochs")),
            "scorer": _hash(scorer.get("params")),
            "solver": _hash(plan.get("steps")),
            "generation": _hash({k: v for k, v in generation.items() if v is not None and k not in _OPERATIONAL}),
            **{name: words(self.config.get(name)) for name in ("message_limit", "token_limit", "time_limit")},
        }
        return {key: value for key, value in sorted(facts.items()) if value}

    @cached_property
    def limit(self) -> str:
        limit = self.config.get("limit")
        ids = self.config.get("sample_id")
        chosen = f"samples {fingerprint(ids)}" if ids else ""
        return "-".join(words(bound) for bound in limit) if isinstance(limit, list) else words(limit) or chosen

    @cached_property
    def measured_at(self) -> str | None:
        """When the run started, where the log says so with its offset from UTC."""
        try:
            created = datetime.fromisoformat(words(self.spec.get("created")))
            return created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if created.tzinfo else None
        except (ValueError, OverflowError):
            return None

    def claims(self) -> dict[str, str]:
        args = mapping(self.spec.get("model_args"))
        told = {
            "model": without_folders(words(args.get("model_path")) or words(self.spec.get("model"))),
            "adapter": without_folders(words(args.get("peft")) or words(args.get("adapter"))),
        }
        return {what: value for what, value in told.items() if value}


def _value(metric: object) -> float | None:
    """A metric's value: an object with `value`, or the bare number."""
    return number(metric.get("value")) if isinstance(metric, dict) else number(metric)


_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Correct, partial, incorrect, no answer; as Inspect counts them."""


def _points(value: object) -> float | None:
    """What a sample's value counts for; None for texts and for several values at once."""
    if isinstance(value, bool):
        return float(value)
    return _LETTERS.get(value) if isinstance(value, str) else number(value)


def _hash(value: object) -> str:
    return fingerprint(value) if value else ""
