"""Metric and Score: one measured value, what it may be compared with, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from adapter_registry.domain.digest import Digest, of_json


class Direction(StrEnum):
    """Which way a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Score:
    """One measured value of one subject.

    Attributes:
        metric: `task/metric` as gates name it, e.g. `gsm8k/exact_match`, `heldout/loss`; no task: just the metric.
        value: finite or NaN (a measured NaN is kept, and fails gates).
        direction: which way is better; None when the source does not say (gates refuse to guess).
        stderr: standard error of `value`; None when unknown.
        n: number of samples; None when unknown.
        setting: everything that must agree before two values may be compared: task version, dataset and revision,
            split, shots, filter, sample limit, prompt and generation hashes, dtype. Sorted keys, text values.
        producer: tool and version that measured it, `lm-eval 0.4.13`.
        source: where it came from: `cli`, or the imported file's name.
        evidence: digest of the imported file; None for a hand-entered value.
        measured_at: when it was measured, ISO 8601 in UTC, if the source says.
        suite: the version of a suite that it was measured by, `core@3`; the registry sets it after looking.
        outcomes: digest of the stored Outcomes, its value on each sample; None when they are unknown. The registry sets
            it after looking.
    """

    metric: str
    value: float
    direction: Direction | None
    stderr: float | None = None
    n: int | None = None
    setting: dict[str, str] = field(default_factory=dict)
    producer: str = ""
    source: str = ""
    evidence: Digest | None = None
    measured_at: str | None = None
    suite: str = ""
    outcomes: Digest | None = None

    @property
    def comparability(self) -> Digest:
        """Only scores with equal keys may be compared in a gate or joined by a line."""
        return of_json({"metric": self.metric, "setting": self.setting})


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Why a recorded score counts no more; the score itself is kept."""

    because: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class RecordedScore:
    """A Score bound to what it was measured on.

    Attributes:
        subject: digest of the Version or Base; the only thing that binds it, names prove nothing.
        subject_name: its reference when the score was recorded, for people.
        score: the value.
        recorded_by: who recorded it.
        recorded_at: when, ISO 8601 in UTC.
        job: the job that measured it here; None for what somebody brought. No client can set it.
        claimed: what the imported file says it measured, e.g. a model name or path; never trusted.
        id: number by which it is named, unique in the registry; 0 before it is stored.
        invalid: set when somebody declared that it counts no more.
    """

    subject: Digest
    subject_name: str
    score: Score
    recorded_by: str
    recorded_at: str
    claimed: str = ""
    job: str | None = None
    id: int = 0
    invalid: Invalidation | None = None

    @property
    def verified(self) -> bool:
        """Whether a job of this registry measured it; what somebody brought is only claimed."""
        return self.job is not None

    @property
    def measured_at(self) -> str:
        """When it was measured, never later than when it was recorded, whatever its source says."""
        said = self.score.measured_at
        return min(said, self.recorded_at) if said else self.recorded_at
