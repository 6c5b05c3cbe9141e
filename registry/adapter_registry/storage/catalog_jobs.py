"""Rows of jobs, of their runs and of their logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.job import LOG_LINES, LONGEST_LINE, Job, LogLine, Run, State, progressed
from adapter_registry.storage.rows import from_text, insert_missing, to_text, upsert
from adapter_registry.storage.tables_work import job_files, job_lines, job_runs, job_subjects, jobs

_OPEN = jobs.c.state.in_([str(state) for state in State if not state.ended])


class JobTable:
    """See ports.jobs.JobRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, job: Job, *, sent: bool | None = None) -> None:
        """See ports.jobs.JobRows.put."""
        row: dict[str, Any] = {
            "state": str(job.state),
            "queue": job.queue,
            "ended_at": job.ended_at,
            "document": to_text(job),
        }
        if sent is not None:
            row["sent"] = int(sent)
        known = self._connection.execute(update(jobs).where(jobs.c.id == job.id).values(**row))
        if not known.rowcount:
            last = self._connection.execute(select(func.max(jobs.c.place))).scalar() or 0
            self._connection.execute(insert(jobs), [{"id": job.id, "place": last + 1, "sent": 0, **row}])
        about = [{"job": job.id, "digest": digest} for digest in sorted(job.subjects)]
        insert_missing(self._connection, job_subjects, about)

    def get(self, id: str) -> Job | None:
        """The job of this id."""
        text = self._connection.execute(select(jobs.c.document).where(jobs.c.id == id)).scalar()
        return self._with_progress([from_text(text, Job)])[0] if text else None

    def all(
        self, *, state: State | None = None, before: str | None = None, limit: int | None = None
    ) -> tuple[Job, ...]:
        """See ports.jobs.JobRows.all."""
        query = select(jobs.c.document).order_by(jobs.c.place.desc()).limit(limit)
        if state is not None:
            query = query.where(jobs.c.state == str(state))
        if before is not None:
            query = query.where(jobs.c.place < select(jobs.c.place).where(jobs.c.id == before).scalar_subquery())
        return self._with_progress([from_text(text, Job) for text in self._connection.execute(query).scalars()])

    def about(self, digests: Sequence[Digest], *, limit: int) -> tuple[Job, ...]:
        """See ports.jobs.JobRows.about."""
        query = select(jobs.c.document).order_by(jobs.c.place.desc()).limit(limit)
        for digest in digests:
            query = query.where(jobs.c.id.in_(select(job_subjects.c.job).where(job_subjects.c.digest == digest)))
        return self._with_progress([from_text(text, Job) for text in self._connection.execute(query).scalars()])

    def unsent(self, queues: Iterable[str]) -> tuple[Job, ...]:
        """See ports.jobs.JobRows.unsent."""
        query = select(jobs.c.document).where(_OPEN, jobs.c.sent == 0, jobs.c.queue.in_(list(queues)))
        rows = self._connection.execute(query.order_by(jobs.c.place)).scalars()
        return tuple(from_text(text, Job) for text in rows)

    def open(self) -> tuple[Job, ...]:
        """See ports.jobs.JobRows.open."""
        query = select(jobs.c.document).where(_OPEN).order_by(jobs.c.place)
        return tuple(from_text(text, Job) for text in self._connection.execute(query).scalars())

    def _with_progress(self, found: list[Job]) -> tuple[Job, ...]:
        """The jobs; those that run are as far as their run is, or its parts together are."""
        running = [job.run for job in found if job.state is State.RUNNING]
        if not running:
            return tuple(found)
        of_jobs = job_runs.c.job.in_([run.partition(".")[0] for run in running])
        rows = self._connection.execute(select(job_runs.c.document).where(of_jobs)).scalars()
        runs = [from_text(text, Run) for text in rows]
        return tuple(progressed(job, runs) if job.run in running else job for job in found)

    def run(self, id: str) -> Run | None:
        """See ports.jobs.JobRows.run."""
        text = self._connection.execute(select(job_runs.c.document).where(job_runs.c.id == id)).scalar()
        return from_text(text, Run) if text else None

    def put_run(self, run: Run) -> None:
        """See ports.jobs.JobRows.put_run."""
        upsert(self._connection, job_runs, {"id": run.id, "job": run.job, "document": to_text(run)})

    def say(self, job: str, texts: Sequence[str], *, at: str) -> None:
        """See ports.jobs.JobRows.say."""
        if not texts:
            return
        query = select(func.max(job_lines.c.number)).where(job_lines.c.job == job)
        last = self._connection.execute(query).scalar() or 0
        rows = [
            {"job": job, "number": last + index, "at": at, "text": text[:LONGEST_LINE].replace("\0", "")}
            for index, text in enumerate(texts, start=1)
        ]
        self._connection.execute(insert(job_lines), rows[-LOG_LINES:])
        old = job_lines.c.number <= last + len(texts) - LOG_LINES
        self._connection.execute(delete(job_lines).where(job_lines.c.job == job, old))

    def log(self, job: str, *, after: int = 0, limit: int | None = None) -> tuple[LogLine, ...]:
        """See ports.jobs.JobRows.log."""
        query = select(job_lines).where(job_lines.c.job == job, job_lines.c.number > after)
        rows = self._connection.execute(query.order_by(job_lines.c.number).limit(limit))
        return tuple(LogLine(row.number, row.at, row.text) for row in rows)

    def keep(self, job: str, digests: Iterable[Digest]) -> None:
        """See ports.jobs.JobRows.keep."""
        insert_missing(self._connection, job_files, [{"job": job, "digest": digest} for digest in set(digests)])

    def kept(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """See ports.jobs.JobRows.kept."""
        query = select(job_files.c.digest).where(job_files.c.digest.in_(list(digests)))
        return frozenset(self._connection.execute(query).scalars())

    def forget(self, *, before: str) -> int:
        """See ports.jobs.JobRows.forget."""
        old = select(jobs.c.id).where(jobs.c.ended_at < before)
        for table in (job_files, job_lines, job_runs, job_subjects):
            self._connection.execute(delete(table).where(table.c.job.in_(old)))
        return self._connection.execute(delete(jobs).where(jobs.c.ended_at < before)).rowcount
