"""The job engine, DBOS, behind the Queue port: what was done before a worker ended is not done again.

DBOS takes up only what its own executor left. So each worker is a new executor that shows its presence by a lock
(`presence`), and whatever an executor left that is gone is put back into the queue, from where any worker takes it.

Its tables lie beside the catalog, never in it: a SQLite file of their own, or a schema of their own in PostgreSQL.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, SetEnqueueOptions, SetWorkflowID
from sqlalchemy import make_url

from adapter_registry.domain.job import PRIORITIES, QUEUES
from adapter_registry.domain.ports.jobs import PartWork, Steps, Work
from adapter_registry.storage.presence import Presence

APPLICATION = "adapter-registry"
SHAPE = "2"
"""The order of steps of the workflows below. DBOS goes on only with what began in the same: raise it with them."""
SCHEMA = "adapter_jobs"
LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Engine:
    """How the engine is set up.

    Attributes:
        url: of its database.
        queues: what this worker takes from.
        poll_seconds: how often it looks for work.
        limit: how many runs of one queue are carried out at a time by all workers; 0 for no limit.
    """

    url: str
    queues: tuple[str, ...]
    poll_seconds: float = 1.0
    limit: int = 0


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, made in WAL mode: a step costs a third of what it does otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    return f"sqlite:///{path}"


def postgres_url(url: str, password: str | None) -> str:
    """The URL of PostgreSQL as the engine takes it."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    parsed = parsed if password is None else parsed.set(password=password)
    return parsed.render_as_string(hide_password=False)


class DbosQueue:
    """See ports.jobs.Queue; one in a process."""

    def __init__(self, engine: Engine, presence: Presence) -> None:
        self._engine, self._presence = engine, presence
        self.worker = f"w{secrets.token_hex(6)}"
        self._client: DBOSClient | None = None

    def start(self, job: Work, part: PartWork) -> None:
        """See ports.jobs.Queue.start."""
        logging.getLogger("dbos").setLevel(logging.ERROR)
        self._presence.show(self.worker)
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": self._engine.url,
            "dbos_system_schema": SCHEMA,
            "application_version": SHAPE,
            "executor_id": self.worker,
            "use_listen_notify": False,
            "log_level": "ERROR",
        }
        DBOS(config=config)
        self._part = DBOS.workflow(name="part")(_part_of(part, self))
        DBOS.workflow(name="job")(_of(job, self))
        DBOS.listen_queues([name for queue in self._engine.queues for name in (queue, _parts(queue))])
        DBOS.launch()
        for queue in QUEUES:
            for name in (queue, _parts(queue)):
                DBOS.register_queue(
                    name,
                    worker_concurrency=1,
                    global_concurrency=self._engine.limit or None,
                    polling_interval_sec=self._engine.poll_seconds,
                    on_conflict="always_update",
                )
        self._client = DBOSClient(
            system_database_url=self._engine.url, dbos_system_schema=SCHEMA, application_name=APPLICATION
        )

    def add(self, run: str, *, queue: str, priority: int) -> None:
        """See ports.jobs.Queue.add."""
        self._asked.enqueue(
            {
                "workflow_name": "job",
                "queue_name": queue,
                "workflow_id": run,
                "app_version": SHAPE,
                "priority": 1 + PRIORITIES[1] - priority,
            },
            run,
            queue,
        )

    def state(self, run: str) -> str:
        """See ports.jobs.Queue.state."""
        found = self._asked.list_workflows(workflow_ids=[run], load_input=False, load_output=False)
        if not found:
            return "unknown"
        status = found[0].status
        return {"ENQUEUED": "waiting", "DELAYED": "waiting", "PENDING": "held"}.get(status, "over")

    def take_over(self, *, stale: Callable[[str], bool]) -> tuple[str, ...]:
        """See ports.jobs.Queue.take_over."""
        held = self._asked.list_workflows(status="PENDING", limit=LISTED, load_input=False, load_output=False)
        others = {each.executor_id for each in held if each.executor_id not in (None, self.worker)}
        gone = {worker for worker in others if worker is not None and self._presence.gone(worker)}
        taken = []
        for each in held:
            if each.executor_id in gone or (each.executor_id in others and stale(each.workflow_id)):
                self._asked.resume_workflow(each.workflow_id, queue_name=each.queue_name)
                taken.append(each.workflow_id)
        return tuple(taken)

    def lost(self) -> bool:
        """See ports.jobs.Queue.lost."""
        return self._presence.lost()

    def share_out(self, parts: Mapping[str, str], queue: str) -> list[Any]:
        """What came of these parts, each a workflow of its own on the queue of parts."""
        handles = []
        for run, name in parts.items():
            with SetWorkflowID(run), SetEnqueueOptions(app_version=SHAPE):
                handles.append(DBOS.enqueue_workflow(_parts(queue), self._part, run, name, queue))
        return [handle.get_result() for handle in handles]

    @property
    def _asked(self) -> DBOSClient:
        assert self._client is not None, "the queue was not started"  # noqa: S101
        return self._client


@dataclass(frozen=True, slots=True)
class DbosSteps:
    """See ports.jobs.Steps."""

    engine: DbosQueue
    queue: str

    def once(self, name: str, do: Callable[[], Any]) -> Any:
        """See ports.jobs.Steps.once."""
        return DBOS.run_step({"name": name}, do)

    def all_of(self, parts: Mapping[str, str]) -> list[Any]:
        """See ports.jobs.Steps.all_of."""
        return self.engine.share_out(parts, self.queue)


def _of(work: Work, engine: DbosQueue) -> Callable[[str, str], Any]:
    def workflow(run: str, queue: str) -> Any:
        steps: Steps = DbosSteps(engine, queue)
        return work(run, steps)

    return workflow


def _part_of(work: PartWork, engine: DbosQueue) -> Callable[[str, str, str], Any]:
    def workflow(run: str, name: str, queue: str) -> Any:
        steps: Steps = DbosSteps(engine, queue)
        return work(run, name, steps)

    return workflow


def _parts(queue: str) -> str:
    """The queue of parts: apart, so that a worker whose job waits for its parts takes them itself."""
    return f"{queue}-parts"
