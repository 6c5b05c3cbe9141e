"""What whoever watches the server asks: does the process live, and should it get requests."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.ports import Backend

GOOD_FOR_SECONDS = 1.0
"""How long one look at database and store counts: whoever asks without a token costs them one question a second."""


async def alive(_request: Request) -> Response:
    """`GET /health`: the process answers. Nothing else is asked: a restart mends no database."""
    return JSONResponse({"status": "ok"})


class Readiness:
    """Whether database and blobs answer, and the server was not told to stop."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._lock = asyncio.Lock()
        self._looked, self._found = -GOOD_FOR_SECONDS, ""
        self.stopping = False

    async def answer(self, _request: Request) -> Response:
        """`GET /ready`: what a load balancer asks before it sends requests."""
        if self.stopping:
            return _unavailable("stopping")
        async with self._lock:
            if time.monotonic() - self._looked >= GOOD_FOR_SECONDS:
                self._found = await run_in_threadpool(self._look)
                self._looked = time.monotonic()
        return _unavailable(self._found) if self._found else JSONResponse({"status": "ready"})

    def _look(self) -> str:
        """What does not answer, and the code of its error; empty when all does."""
        try:
            with self._backend.catalog.reading() as tx:
                tx.accounts.secret("uploads")
        except RegistryError as error:
            return f"database: {error.code}"
        try:
            self._backend.blobs.reachable()
        except RegistryError as error:
            return f"blobs: {error.code}"
        return ""


def _unavailable(reason: str) -> Response:
    return JSONResponse(
        {"status": "unavailable", "reason": reason},
        status_code=503,
        headers={"retry-after": "2", "connection": "close"},
    )


@contextmanager
def draining(readiness: Readiness, *, seconds: float, ending: Callable[[], None]) -> Iterator[None]:
    """On SIGTERM, be not ready for `seconds`, then stop; told again meanwhile, change nothing. Ctrl-C stops at once.

    Whoever balances the load needs the time to see it: until then it sends requests that a closed port would refuse. A
    second signal is no impatience: systemd tells every process, and the parent tells its own again.
    Entered where the server has its own handlers set already, in the main thread.

    Args:
        readiness: what is not ready from then on.
        seconds: how long.
        ending: called in the event loop just before the server stops: lets requests go that wait for something.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, before = asyncio.get_running_loop(), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if not callable(handler):
            raise SystemExit(128 + number)
        loop.call_soon_threadsafe(ending)
        handler(number, frame)

    def told(number: int, frame: FrameType | None) -> None:
        first, readiness.stopping = not readiness.stopping, True
        if not seconds or number == signal.SIGINT:
            stop(number, frame)
        elif first:
            loop.call_soon_threadsafe(loop.call_later, seconds, stop, number, frame)

    for number in before:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
