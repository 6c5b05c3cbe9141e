"""What a worker tells of a job: that it begins, how far it is, what it came to. Only the last that began may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Taken
from adapter_registry.domain.job import DEATHS, Job, Progress, Run, State, begun, ended
from adapter_registry.domain.ports import Backend, Catalog, Transaction

LISTED = 50
"""Queued jobs that are given to the engine at a time."""


@dataclass(frozen=True, slots=True)
class Held:
    """A run that a worker has begun with: its job, and the token that shows it is the last that began."""

    job: Job
    run: str
    attempt: int


def begin(backend: Backend, *, run: str, worker: str) -> Held | None:
    """Take a run, from whoever had it; None when there is nothing to do any more.

    A job that has ended DEATHS workers is given up, so that it does not end them all.
    """
    with backend.catalog.writing() as tx:
        known = tx.jobs.run(run) or Run(run)
        job = tx.jobs.get(known.job)
        if job is None or job.state.ended or job.round != known.round:
            return None
        if job.cancelling:
            _end(backend, tx, ended(job, State.CANCELLED, at=backend.clock()))
            return None
        now = begun(known, worker)
        tx.jobs.put_run(now)
        if now.deaths >= DEATHS:
            text = f"it ended its worker {now.deaths} times, the last one was {known.worker}; it is given up"
            _end(backend, tx, ended(job, State.FAILED, at=backend.clock(), error=text))
            return None
        if not now.is_part:
            at = job.started_at or backend.clock()
            job = replace(job, state=State.RUNNING, attempts=now.attempt, worker=worker, started_at=at)
            tx.jobs.put(job)
        return Held(job, run, now.attempt)


def beat(backend: Backend, held: Held, *, progress: Progress | None, lines: Sequence[str]) -> None:
    """Say that the worker lives, how far it is and what it said.

    Raises:
        Taken: it does not hold the run any more, or the job was cancelled; nothing was noted.
    """
    with backend.catalog.writing() as tx:
        run, _ = holding(tx, held)
        tx.jobs.put_run(replace(run, beats=run.beats + 1, progress=progress or run.progress))
        tx.jobs.say(held.job.id, lines, at=backend.clock())


def holding(tx: Transaction, held: Held) -> tuple[Run, Job]:
    """The run and job, if the run is still held by who holds `held`.

    Raises:
        Taken: it is not.
    """
    run, job = tx.jobs.run(held.run), tx.jobs.get(held.job.id)
    if run is None or job is None or run.attempt != held.attempt or not run.open:
        raise Taken(f"job {held.job.id}: another worker has it now; what this one did is dropped.")
    if job.state is not State.RUNNING or job.cancelling:
        raise Taken(f"job {held.job.id} was cancelled.")
    return run, job


def let_go(backend: Backend, held: Held) -> None:
    """Leave a run to the next worker, without blame: this one was told to stop, or its part is done."""
    with backend.catalog.writing() as tx:
        run = tx.jobs.run(held.run)
        if run is not None and run.attempt == held.attempt:
            tx.jobs.put_run(replace(run, open=False))


def finish(backend: Backend, held: Held, *, result: dict[str, Any], files: Sequence[Digest] = ()) -> None:
    """The job succeeded.

    Raises:
        Taken: it is another worker's by now.
    """
    with backend.catalog.writing() as tx:
        run, job = holding(tx, held)
        tx.jobs.put_run(replace(run, open=False))
        tx.jobs.keep(job.id, files)
        _end(backend, tx, ended(job, State.SUCCEEDED, at=backend.clock(), result=result))


def fail(backend: Backend, held: Held, *, error: str) -> bool:
    """The job failed, or ended as it was asked to when it was cancelled; False when it is not this worker's to end."""
    with backend.catalog.writing() as tx:
        run, job = tx.jobs.run(held.run), tx.jobs.get(held.job.id)
        if run is None or job is None or run.attempt != held.attempt or not run.open:
            return False
        if job.state is not State.RUNNING:
            return False
        tx.jobs.put_run(replace(run, open=False))
        state = State.CANCELLED if job.cancelling else State.FAILED
        _end(backend, tx, ended(job, state, at=backend.clock(), error="" if job.cancelling else error))
    return True


def kept(backend: Backend, *, digest: Digest) -> BinaryIO:
    """The bytes of a file that a recipe names."""
    return backend.blobs.open(digest)


def others_write(backend: Backend) -> bool:
    """Whether the store was ever served: others than who owns it may have written what it says."""
    with backend.catalog.reading() as tx:
        return bool(tx.accounts.all(limit=1))


def unsent(backend: Backend, *, queues: Sequence[str]) -> tuple[Job, ...]:
    """Jobs that the engine has to be told of."""
    with backend.catalog.reading() as tx:
        return tx.jobs.unsent(queues)[:LISTED]


def sent(backend: Backend, job: Job, *, sent: bool = True) -> None:
    """Note that the engine knows of a job's round, or that it does not."""
    with backend.catalog.writing() as tx:
        known = tx.jobs.get(job.id)
        if known is not None and known.round == job.round:
            tx.jobs.put(known, sent=sent)


def opened(backend: Backend) -> tuple[Job, ...]:
    """Jobs that have not ended."""
    with backend.catalog.reading() as tx:
        return tx.jobs.open()


def beats(backend: Backend, *, run: str) -> tuple[int, int] | None:
    """(attempt, beats) of a run that a worker holds; they stand still when it does."""
    with backend.catalog.reading() as tx:
        known = tx.jobs.run(run)
    return (known.attempt, known.beats) if known is not None and known.open else None


def lost(backend: Backend, job: Job) -> None:
    """The engine has done with a job that has no end: a defect, told as one."""
    with backend.catalog.writing() as tx:
        known = tx.jobs.get(job.id)
        if known is not None and known.run == job.run and not known.state.ended:
            text = "its worker ended it without an outcome; the worker's log says why"
            _end(backend, tx, ended(known, State.FAILED, at=backend.clock(), error=text))


@dataclass(frozen=True, slots=True)
class FencedCatalog:
    """A Catalog whose every write first makes sure, in its own transaction, that the worker still holds the job.

    A worker that was stopped for so long that another took over cannot write anything when it goes on.
    """

    catalog: Catalog
    held: Held

    def reading(self) -> AbstractContextManager[Transaction]:
        """See ports.Catalog.reading."""
        return self.catalog.reading()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """See ports.Catalog.writing; raises Taken."""
        with self.catalog.writing() as tx:
            holding(tx, self.held)
            yield tx


def _end(backend: Backend, tx: Transaction, job: Job) -> None:
    tx.jobs.put(job)
    if job.error:
        tx.jobs.say(job.id, [f"failed: {job.error}"], at=backend.clock())
    tx.events.append(entry(job, f"job.{_VERBS[job.state]}", by=job.submitted_by, at=backend.clock()))


_VERBS = {State.SUCCEEDED: "succeed", State.FAILED: "fail", State.CANCELLED: "cancel"}


def entry(job: Job, action: str, *, by: str, at: str) -> Entry:
    """The event of something that happened to a job."""
    recipe = job.recipe
    detail = {"job": job.id, "kind": recipe.kind, "recipe": recipe.digest, "into": recipe.into, "round": job.round}
    more = {"result": job.result} if job.result else {"error": job.error} if job.error else {}
    return Entry(action, recipe.into, Outcome.DONE, by, at, {**detail, **more})
