"""Starts workers of the embedded store when there is something to do: beside a server, or for one submission."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time

from adapter_registry import app
from adapter_registry.domain.errors import RegistryError, Unsupported
from adapter_registry.services import running
from adapter_registry.settings import Settings

POLL_SECONDS = 1.0
IDLE_SECONDS = 300.0
"""How long a worker stays when there is nothing to do: starting one takes seconds."""
PAUSE_SECONDS = 10.0
"""How long after one that failed the next is started."""


def command(*options: str) -> list[str]:
    """How this interpreter runs `adapters worker`."""
    return [sys.executable, "-c", "from adapter_cli.main import main; main()", "worker", *options]


def start_for(settings: Settings, queue: str) -> None:
    """A worker that does what is queued and ends; it outlives this process.

    Raises:
        Unsupported: what a worker needs is not installed.
    """
    require_engine()
    settings.workers.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.workers / "log").open("ab") as log:
        subprocess.Popen(  # noqa: S603  our own interpreter on our own command
            command("--once", "--queue", queue),
            env={**os.environ, "ADAPTERS_URL": ""},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def require_engine() -> None:
    """Refuse where the job engine is not installed; raises Unsupported."""
    if importlib.util.find_spec("dbos") is None:
        raise Unsupported("jobs need dbos, which is not installed: pip install 'adapter-registry[jobs]'.")


class Beside:
    """Keeps one worker beside a server of the embedded store, from the first job that is submitted."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._backend = settings, app.embedded(settings)
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _run(self) -> None:
        failed_at = -PAUSE_SECONDS
        while not self._stopping.wait(POLL_SECONDS):
            if self._process is not None and (code := self._process.poll()) is not None:
                failed_at = time.monotonic() if code else failed_at
                self._process = None
            if self._process is None and time.monotonic() - failed_at > PAUSE_SECONDS and self._any_work():
                self._process = subprocess.Popen(  # noqa: S603  our own interpreter on our own command
                    command("--beside", "--idle-seconds", str(IDLE_SECONDS)),
                    env={**os.environ, "ADAPTERS_URL": ""},
                    stdin=subprocess.PIPE,
                )

    def _any_work(self) -> bool:
        try:
            return any(job.queue == "cpu" for job in running.opened(self._backend))
        except RegistryError:  # busy, or away: asked again in a moment
            return False
