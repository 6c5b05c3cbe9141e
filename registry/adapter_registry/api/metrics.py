"""What Prometheus reads. With several server processes, any of them answers for all: see `shared_counts`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy import Engine, event
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from adapter_registry.domain.audit.event import Entry

SHARED = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = "/dev/shm"  # noqa: S108  of the system's own, and the folder in it is made for us alone
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0)

REQUESTS = Counter("adapters_requests", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("adapters_request_seconds", "Seconds until an answer began", ["method", "route"], buckets=_BUCKETS)
IN_FLIGHT = Gauge("adapters_requests_in_flight", "Requests being answered now", multiprocess_mode="livesum")
SENT = Counter("adapters_sent_bytes", "Bytes of answers; downloads from a bucket do not pass here")
RECEIVED = Counter("adapters_received_bytes", "Bytes of requests")
REFUSALS = Counter("adapters_refusals", "Refusals, by the code of the error", ["code"])
EVENTS = Counter("adapters_events", "Events of the audit log: push, promote, rollback, ...", ["action", "outcome"])
CONNECTIONS = Gauge(
    "adapters_database_connections", "Connections to the database", ["state"], multiprocess_mode="livesum"
)


@contextmanager
def shared_counts(*, workers: int) -> Iterator[None]:
    """While it lasts, the processes started count into one folder; only before this module is imported first.

    Left alone where the environment names a folder already.
    """
    if workers == 1 or SHARED in os.environ:
        yield
        return
    # In memory: the counts are mapped files, and a process that writes to one on a full disk is killed.
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="adapters-counts-", dir=place) as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


async def answer(_request: Request) -> Response:
    """`GET /metrics`, for whoever has a good token."""
    return Response(await run_in_threadpool(_text), media_type=CONTENT_TYPE_LATEST)


def _text() -> bytes:
    folder = os.environ.get(SHARED)
    if folder is None:
        return generate_latest(REGISTRY)
    _forget_the_dead(Path(folder))
    shared = CollectorRegistry()
    MultiProcessCollector(shared, path=folder)  # type: ignore[no-untyped-call]
    return generate_latest(shared)


def _forget_the_dead(folder: Path) -> None:
    """What is now is not told of a process that was killed; what it counted stays."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue


def count_event(entry: Entry) -> None:
    """One more event of its kind."""
    EVENTS.labels(entry.action, str(entry.outcome)).inc()


def watch_connections(engine: Engine) -> None:
    """Count the engine's connections: `open` ones, and those `in-use`."""
    opened, used = CONNECTIONS.labels("open"), CONNECTIONS.labels("in-use")

    def more(gauge: Gauge) -> Any:
        return lambda *_: gauge.inc()

    def fewer(gauge: Gauge) -> Any:
        return lambda *_: gauge.dec()

    for name, heard in (("connect", more(opened)), ("close", fewer(opened)), ("close_detached", fewer(opened))):
        event.listen(engine, name, heard)
    event.listen(engine, "checkout", more(used))
    event.listen(engine, "checkin", fewer(used))
