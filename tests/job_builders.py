"""Workers and jobs for tests: real processes on a real store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Engine

from adapter_registry import app
from adapter_registry.client import Registry
from adapter_registry.domain.job import Job, State
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.checking import checked
from adapter_registry.settings import read_settings
from tests.jobs_worker import KINDS

ADAPTER = "default/sql-lora"
SECRET = "canary-of-the-environment"
ENDS_WITHIN = 60


@dataclass(frozen=True)
class Worker:
    """A worker process and the name it goes by."""

    process: subprocess.Popen[str]
    name: str

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        """Have it stand still; it does when this returns."""
        self.send(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Workshop:
    """A registry with an adapter, and the workers that were started for it."""

    environment: dict[str, str]
    registry: Registry

    @contextlib.contextmanager
    def worker(self, queue: str = "cpu", *, lease: float = 30, **settings: str) -> Iterator[Worker]:
        """A worker process; gone afterwards."""
        process = subprocess.Popen(
            [sys.executable, "-c", "from tests.jobs_worker import main; main()", queue, str(lease)],
            env={**self.environment, **settings, "ADAPTERS_SECRET": SECRET},
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert process.stdout is not None
        try:
            yield Worker(process, json.loads(process.stdout.readline())["worker"])
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate(timeout=20)

    def submit(self, kind: str = "writes", *, queue: str = "cpu", priority: int = 0, seed: int = 0, **options) -> Job:
        recipe = Recipe(kind, (Ingredient(f"{ADAPTER}@v1"),), options=options, seed=seed, into=ADAPTER)
        return self.registry.submit(recipe, queue=queue, priority=priority)

    def ended(self, job: Job, *, seconds: float = ENDS_WITHIN) -> Job:
        """The job at its end."""
        return self.reached(job, *(state for state in State if state.ended), seconds=seconds)

    def reached(self, job: Job, *states: State, seconds: float = ENDS_WITHIN) -> Job:
        """The job once it is in one of these states."""
        deadline = time.monotonic() + seconds
        while (now := self.registry.job(job.id)).state not in states:
            log = "\n".join(line.text for line in self.registry.job_log(job.id))
            assert time.monotonic() < deadline, f"job is {now.state} ({now.progress}): {now.error}\n{log}"
            time.sleep(0.05)
        return now

    def stop_between_writes(self, worker: Worker) -> None:
        """Have a worker stand still, without a lock that all others wait for.

        Who is stopped inside a write to SQLite keeps its lock; PostgreSQL ends a transaction that stands still.
        """
        worker.stop()
        while not all(map(writable, Path(self.environment["ADAPTERS_HOME"]).glob("*.db"))):
            worker.send(signal.SIGCONT)
            time.sleep(0.01)
            worker.stop()

    def scratch(self, job: Job) -> Path:
        return Path(self.environment["ADAPTERS_HOME"]) / "jobs" / job.run


def writable(database: Path) -> bool:
    """Whether nobody holds the write lock of a SQLite file."""
    with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


@contextlib.contextmanager
def workshop(home: Path, llama_folder: Path, lora_folder: Path, **settings: str) -> Iterator[Workshop]:
    """A registry in `home`, or on the PostgreSQL that settings name; its connections are closed on leaving."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ADAPTERS_")}
    mine = {"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home / "cache"), "ADAPTERS_ACTOR": "ann", **settings}
    environment = {**kept, **mine, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    read = read_settings(environment)
    engines: list[Engine] = []
    backend = app.served(read, watchers=[engines.append])
    backend = replace(backend, checks=partial(checked, read, kinds=KINDS))
    registry = Registry(read, backend)
    try:
        registry.add_base("tiny", llama_folder)
        registry.push(lora_folder, base="tiny", name="sql-lora")
        yield Workshop(environment, registry)
    finally:
        engines[0].dispose()
