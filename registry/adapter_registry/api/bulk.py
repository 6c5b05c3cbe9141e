"""Large bodies, received into buffers that are used again: no copy and no new memory for each piece that arrives.

A connection hands its socket over for the rest of a body whose length it knows, and gets it back behind the last byte.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from adapter_registry.domain.errors import TooSlow

BLOCK = 2 << 20
BLOCKS = 3
"""How many an upload has: one that is filled, one that is written, one between them."""
SPARE = 2 * BLOCKS
"""How many blocks are kept for the next uploads: memory that was never used costs more than receiving into it."""
EXTENSION = "adapters.bulk"
"""Where an ASGI scope has the function that hands a body over."""
STALL_SECONDS = 60
"""How long the next bytes of a body are awaited."""

_spare: list[bytearray] = []
"""Of the one event loop of this process."""


class Bulk(asyncio.BufferedProtocol):
    """The rest of one body, a block at a time.

    Args:
        connection: whose body it is; it must have no other request waiting.
        left: bytes of the body that the connection has not parsed yet.
    """

    def __init__(self, connection: HttpToolsProtocol, left: int) -> None:
        self._connection, self._left = connection, left
        self._cycle: RequestResponseCycle = connection.cycle
        self._begun = bytes(self._cycle.body)
        self._cycle.body = bytearray()
        self._free = [_new(left)]
        self._made, self._filled = 1, 0
        self._full: list[memoryview] = []
        self._ready = asyncio.Event()
        self._lost = False
        connection.flow.pause_reading()
        connection.transport.set_protocol(self)
        connection.flow.resume_reading()

    async def block(self) -> memoryview:
        """The next bytes, good until `done` is called with them; empty behind the last.

        Raises:
            ClientDisconnect: whoever sends went away; what came before was given.
            TooSlow: nothing came for a minute.
        """
        if self._begun:
            begun, self._begun = memoryview(self._begun), b""
            return begun
        while not self._full:
            if self._left == 0:
                return memoryview(b"")
            if self._lost:
                raise ClientDisconnect
            await self._more()
        return self._full.pop(0)

    def done(self, block: memoryview) -> None:
        """Use the memory of a block again."""
        if isinstance(block.obj, bytearray):
            self._free.append(block.obj)
            if self._left:
                self._connection.flow.resume_reading()
            else:
                self._put_aside()

    async def _more(self) -> None:
        before = self._left
        self._ready.clear()
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            if self._left == before:
                raise TooSlow(f"nothing of the body arrived for {STALL_SECONDS} s; nothing was done.") from None

    def get_buffer(self, _sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        if not self._free:
            self._free.append(_new(self._left))
            self._made += 1
        block = self._free[0]
        return memoryview(block)[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._left -= nbytes
        if self._cycle.response_complete:
            # Nobody wants the rest: it is read so that the next request can be.
            self._connection._unset_keepalive_if_required()
        else:
            self._filled += nbytes
            if self._left == 0 or self._filled == len(self._free[0]):
                self._pass_on()
        if self._left == 0:
            self._give_back()

    def _pass_on(self) -> None:
        """Give what was filled to whoever waits; nothing more is read while every block is in use."""
        if not self._filled:
            return
        self._full.append(memoryview(self._free.pop(0))[: self._filled])
        self._filled = 0
        self._ready.set()
        if not self._free and self._made == BLOCKS and not self._lost:
            self._connection.flow.pause_reading()

    def _put_aside(self) -> None:
        """Keep blocks that this body needs no more."""
        _spare.extend(each for each in self._free if len(each) == BLOCK)
        del _spare[SPARE:]
        self._free.clear()

    def _give_back(self) -> None:
        self._put_aside()
        connection = self._connection
        # The parser still waits for the bytes that it did not see.
        connection.parser = httptools.HttpRequestParser(connection)
        connection.on_message_complete()
        connection.transport.set_protocol(connection)

    def eof_received(self) -> None:
        """See asyncio.BufferedProtocol."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._lost = True
        self._pass_on()
        self._ready.set()
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._connection.resume_writing()


def _new(size: int) -> bytearray:
    """A block for up to so many bytes."""
    return _spare.pop() if size >= BLOCK and _spare else bytearray(min(BLOCK, size))


class Behind:
    """Blocks that a function is given one after the other, in a thread that is held only while there are some.

    Args:
        work: what each block is given to, in a thread.
        done: what it is given to then, in the event loop.
    """

    def __init__(self, work: Callable[[memoryview], None], done: Callable[[memoryview], None]) -> None:
        self._work, self._done = work, done
        self._blocks: deque[memoryview] = deque()
        self._lock = threading.Lock()
        self._running: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()

    def put(self, block: memoryview) -> None:
        """One more; raises what an earlier one failed with."""
        if self._error is not None:
            raise self._error
        with self._lock:
            idle = not self._blocks
            self._blocks.append(block)
        if idle:
            self._running = asyncio.ensure_future(run_in_threadpool(self._all))

    async def finish(self) -> None:
        """Wait for all of them; raises what one failed with."""
        if self._running is not None:
            await self._running
        if self._error is not None:
            raise self._error

    def _all(self) -> None:
        """After a failure the rest is given back unused, so that whoever waits for a free block goes on and sees it."""
        left = True
        while left:
            block = self._blocks[0]
            try:
                if self._error is None:
                    self._work(block)
            except BaseException as error:  # noqa: BLE001  raised where the blocks come from
                self._error = error
            with self._lock:
                self._blocks.popleft()
                left = bool(self._blocks)
            self._loop.call_soon_threadsafe(self._done, block)


def taken_over(scope: Any) -> Bulk | None:
    """The body of a request in bulk; None where it is read as ASGI says, because it is small or of unknown length."""
    take_over = scope.get("extensions", {}).get(EXTENSION)
    found: Bulk | None = take_over() if take_over else None
    return found
