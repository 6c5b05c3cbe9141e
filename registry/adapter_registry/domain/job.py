"""Job: a persisted piece of work, from `queued` to `succeeded`, `failed` or `cancelled`; what may happen to it when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from adapter_registry.domain.errors import Conflict, InvalidInput
from adapter_registry.domain.recipe import Recipe

QUEUES = ("cpu", "cuda")
"""A queue for each kind of device; a worker takes from those that it was started for."""
DEATHS = 3
"""How many workers a job may end before it is given up."""
LOG_LINES = 2_000
"""The newest lines of a job's log that are kept."""
LONGEST_LINE = 2_000
PRIORITIES = (-100, 100)


class State(StrEnum):
    """Where a Job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing happens to it any more by itself."""
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far something is.

    Attributes:
        fraction: 0 to 1.
        message: what is done now, for people.
        throughput: units a second; None when that says nothing.
        unit: of the throughput: `B`, `tokens`.
        parts: into how many the work is shared out; 0 when it is not.
    """

    fraction: float = 0.0
    message: str = ""
    throughput: float | None = None
    unit: str = ""
    parts: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log; lines are ordered by `number`, 1, 2, ..."""

    number: int
    at: str
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """A persisted piece of work.

    Attributes:
        id: 12 hex digits.
        recipe: what is worked on; its `kind` says how, its `into` whose right is asked.
        state: where it stands.
        queue: the kind of device, of QUEUES.
        priority: higher first, see PRIORITIES.
        submitted_by: who submitted it; what it makes is made in their name.
        submitted_at: when, ISO 8601 in UTC.
        round: 1, and one more for each retry.
        cancelling: it was cancelled while it ran and is about to end.
        attempts: how often a worker began with it in this round.
        worker: which worker has it, or had it last.
        started_at: when a worker first began with it in this round.
        ended_at: when it ended.
        progress: how far it is.
        result: what it made; empty unless it succeeded.
        error: why it failed; empty when it did not.
    """

    id: str
    recipe: Recipe
    state: State
    queue: str
    priority: int
    submitted_by: str
    submitted_at: str
    round: int = 1
    cancelling: bool = False
    attempts: int = 0
    worker: str = ""
    started_at: str | None = None
    ended_at: str | None = None
    progress: Progress = field(default_factory=Progress)
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def subjects(self) -> frozenset[str]:
        """Digests of the versions that it works on, and of the one that it made."""
        named = [each.reference.partition("@")[2] for each in self.recipe.inputs]
        named.append(str(self.result.get("digest", "")))
        return frozenset(name for name in named if name.startswith("sha256:") and len(name) == 71)

    @property
    def run(self) -> str:
        """The name of its work in this round, which nothing else bears."""
        return f"{self.id}.{self.round}"


@dataclass(frozen=True, slots=True)
class Run:
    """The work of one round of a job, or of one part of it, as workers see it.

    Attributes:
        id: see `Job.run`; a part adds `.` and its number.
        attempt: how often a worker began with it; the fencing token: only the last beginner may say or publish
            anything.
        deaths: how many of them ended without saying so.
        open: whether the last beginner has not let go of it.
        beats: rises while its worker lives.
        worker: the last beginner.
        progress: how far it is.
    """

    id: str
    attempt: int = 0
    deaths: int = 0
    open: bool = False
    beats: int = 0
    worker: str = ""
    progress: Progress = field(default_factory=Progress)

    @property
    def job(self) -> str:
        """The id of its Job."""
        return self.id.partition(".")[0]

    @property
    def round(self) -> int:
        """The round of its Job."""
        return int(self.id.split(".")[1])

    @property
    def is_part(self) -> bool:
        """Whether it is a part of the work."""
        return self.id.count(".") > 1


def begun(run: Run, worker: str) -> Run:
    """The run as `worker` begins with it: whoever had it before has lost it."""
    deaths = run.deaths + 1 if run.open else run.deaths
    return replace(run, attempt=run.attempt + 1, deaths=deaths, open=True, worker=worker, beats=run.beats + 1)


def progressed(job: Job, runs: Iterable[Run]) -> Job:
    """The job as far as its run is; where that is shared out, as far as its parts are on average."""
    ours = [run for run in runs if run.job == job.id and run.round == job.round]
    parts = [run for run in ours if run.is_part]
    whole = next((run.progress for run in ours if not run.is_part), job.progress)
    if not parts or whole.parts < 1:
        return replace(job, progress=whole)
    rates = [run.progress.throughput for run in parts if run.open and run.progress.throughput]
    done = sum(run.progress.fraction for run in parts) / whole.parts
    message = f"{sum(run.progress.fraction >= 1 for run in parts)} of {whole.parts} parts"
    unit = next((run.progress.unit for run in parts if run.progress.unit), "")
    return replace(job, progress=Progress(min(done, 1.0), message, sum(rates) if rates else None, unit, whole.parts))


def cancelled(job: Job, *, at: str) -> Job:
    """The job, cancelled: at once while it waits, by its worker while it runs.

    Raises:
        Conflict: it has ended.
    """
    if job.state.ended:
        raise Conflict(f"job {job.id} has {job.state} already; nothing was cancelled.")
    if job.state is State.RUNNING:
        return replace(job, cancelling=True)
    return ended(job, State.CANCELLED, at=at)


def retried(job: Job) -> Job:
    """The job, queued again for another round.

    Raises:
        Conflict: it has not ended, or there is nothing to do again.
    """
    if job.state not in (State.FAILED, State.CANCELLED):
        raise Conflict(
            f"job {job.id} is {job.state}; only a failed or cancelled one is done again. Submit it anew instead."
        )
    return Job(
        job.id,
        job.recipe,
        State.QUEUED,
        job.queue,
        job.priority,
        job.submitted_by,
        job.submitted_at,
        round=job.round + 1,
    )


def ended(job: Job, state: State, *, at: str, result: dict[str, Any] | None = None, error: str = "") -> Job:
    """The job at its end."""
    progress = replace(job.progress, fraction=1.0, message="") if state is State.SUCCEEDED else job.progress
    return replace(job, state=state, ended_at=at, cancelling=False, progress=progress, result=result or {}, error=error)


def check_queue(queue: str, priority: int) -> None:
    """Refuse a queue that there is not, and a priority out of range; raises InvalidInput."""
    if queue not in QUEUES:
        raise InvalidInput(f"there is no queue {queue[:40]!r}; there are {', '.join(QUEUES)}.")
    if not PRIORITIES[0] <= priority <= PRIORITIES[1]:
        raise InvalidInput(f"a priority is {PRIORITIES[0]} to {PRIORITIES[1]}, not {priority}.")
