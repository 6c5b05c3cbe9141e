"""Waiting for something to happen: however many wait, the catalog is asked a few times a second what is newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.ports import Backend

TICK_SECONDS = 0.25


class Changes:
    """Wakes those who wait in this process whenever an event was appended by any process."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting = 0
        self._woken = asyncio.Event()
        self._clock: asyncio.Task[None] | None = None
        self._ending = False

    async def until(self, is_so: Callable[[], bool], *, seconds: float) -> None:
        """Return when `is_so` answers True, asked after each event, or after `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        self._waiting += 1
        try:
            while True:
                woken = self._woken
                self._tick()
                if await run_in_threadpool(is_so):
                    return
                left = deadline - loop.time()
                if left <= 0 or self._ending:
                    return
                try:
                    await asyncio.wait_for(woken.wait(), left)
                except TimeoutError:
                    return
        finally:
            self._waiting -= 1

    def end(self) -> None:
        """Let everybody who waits go with what is true now, and nobody wait again: the process is about to stop."""
        self._ending = True
        self._wake()

    def _tick(self) -> None:
        if self._clock is None or self._clock.done():
            self._clock = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        newest = -1  # so that the first look wakes: what happened between a question and this look is not missed
        try:
            while self._waiting:
                now = await run_in_threadpool(self._newest)
                if now != newest:
                    newest = now
                    self._wake()
                await asyncio.sleep(TICK_SECONDS)
        except RegistryError:
            pass  # the catalog does not answer: who waits is woken, asks it and is told so
        finally:
            self._wake()

    def _wake(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    def _newest(self) -> int:
        with self._backend.catalog.reading() as tx:
            return tx.events.newest()
