"""Wires settings, storage and kinds of work into a worker: what `adapters worker` runs.

It tells the engine of what is queued in the catalog, takes from the queues of its device, and takes over what workers
left that are gone or stand still. It may be killed at any moment; told to stop, it leaves what it does to others.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from adapter_registry import app
from adapter_registry.domain.errors import RegistryError, Unsupported
from adapter_registry.jobs import scratch
from adapter_registry.jobs.durable import Carrier
from adapter_registry.jobs.kind import Kinds
from adapter_registry.jobs.kinds import KINDS
from adapter_registry.services import running
from adapter_registry.settings import Settings
from adapter_registry.storage.presence import FilePresence, PostgresPresence, Presence

if TYPE_CHECKING:
    from adapter_registry.storage.queue import DbosQueue

LOG = logging.getLogger("adapters.worker")
POLL_SECONDS = 1.0
REAP_SECONDS = 2.0
LEASE_SECONDS = 30.0
"""How long a worker may stand still before others take over what it does."""
NOT_DUMPABLE = 4
"""prctl's number for it: the environment of this process is then not readable by its children."""


class Worker:
    """One worker process."""

    def __init__(
        self,
        settings: Settings,
        *,
        queues: Sequence[str] = ("cpu",),
        kinds: Kinds = KINDS,
        poll_seconds: float = POLL_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._settings, self._queues, self._poll, self._lease = settings, tuple(queues), poll_seconds, lease_seconds
        self._backend = app.served(settings)
        self._queue = _queue(settings, self._queues, poll_seconds)
        self.name = self._queue.worker
        self._carrier = Carrier(settings, self._backend, kinds, self.name)
        self._seen: dict[str, tuple[object, float]] = {}
        self._stopping = threading.Event()

    def run(self, *, idle_seconds: float | None = None) -> NoReturn:
        """Work until told to stop, or until there has been nothing to do for `idle_seconds`; ends the process."""
        _hide_environment()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        self._queue.start(self._carrier.job, self._carrier.part)
        self._reconcile()
        reaped = worked = time.monotonic()
        while not self._stopping.wait(self._poll):
            try:
                self._tell()
                if time.monotonic() - reaped > min(REAP_SECONDS, self._lease / 2):
                    reaped = time.monotonic()
                    self._reap()
                if idle_seconds is not None and self._any_work():
                    worked = time.monotonic()
            except RegistryError as error:
                LOG.warning("the store does not answer, trying again: %s", error.text)
            if idle_seconds is not None and time.monotonic() - worked > idle_seconds:
                break
        self._leave(0)

    def _reconcile(self) -> None:
        """Tell the engine anew of what it lost, end what it lost sight of, and remove what nobody works in."""
        jobs = running.opened(self._backend)
        for job in jobs:
            state = self._queue.state(job.run)
            if state == "unknown":
                running.sent(self._backend, job, sent=False)
            elif state == "over":
                running.lost(self._backend, job)
        kept = {job.run for job in jobs}
        scratch.sweep(self._settings.scratch, lambda name: name in kept or "." not in name)

    def _tell(self) -> None:
        """Tell the engine of what was submitted: its word for a run is the same each time, so twice is once."""
        for job in running.unsent(self._backend, queues=self._queues):
            self._queue.add(job.run, queue=job.queue, priority=job.priority)
            running.sent(self._backend, job)

    def _reap(self) -> None:
        if self._queue.lost():
            LOG.error("the database dropped this worker's lock; others take over what it does, so it ends")
            self._leave(1)
        before, self._seen = self._seen, {}
        for run in self._queue.take_over(stale=lambda run: self._stands_still(run, before)):
            LOG.warning("took over %s, whose worker is gone or stands still", run)

    def _stands_still(self, run: str, before: Mapping[str, tuple[object, float]]) -> bool:
        """Whether a run's worker has not been heard of for the length of a lease, by the clock of this process."""
        beats, now = running.beats(self._backend, run=run), time.monotonic()
        last = before.get(run, (beats, now))
        self._seen[run] = last if last[0] == beats else (beats, now)
        return now - self._seen[run][1] > self._lease

    def _any_work(self) -> bool:
        return any(job.queue in self._queues for job in running.opened(self._backend))

    def _leave(self, code: int) -> NoReturn:
        """Leave what is under way to others, and end at once: children end with this process."""
        for held in self._carrier.under_way():
            try:
                running.let_go(self._backend, held)
            except RegistryError as error:
                LOG.warning("job %s: %s", held.job.id, error.text)
        logging.shutdown()
        os._exit(code)


def _queue(settings: Settings, queues: tuple[str, ...], poll_seconds: float) -> DbosQueue:
    try:
        from adapter_registry.storage.queue import DbosQueue, Engine, postgres_url, sqlite_url  # noqa: PLC0415
    except ImportError as error:
        raise Unsupported(f"a worker needs {error.name}: pip install 'adapter-registry[jobs]'.") from error
    presence: Presence
    if settings.database_url is None:
        url, presence = sqlite_url(settings.queue), FilePresence(settings.workers)
    else:
        url = postgres_url(settings.database_url, settings.database_password)
        presence = PostgresPresence(url)
    return DbosQueue(Engine(url, queues, poll_seconds, settings.job_limit), presence)


def _hide_environment() -> None:
    """Have the system keep the secrets in this process's environment and memory from its children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(NOT_DUMPABLE, 0, 0, 0, 0)
