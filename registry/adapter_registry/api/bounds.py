"""What a request may be before anything reads it: its head within limits, to a name of this server, arriving in time.

`Bounded` is the part that sees whole heads. `Connection` is the part below it, for heads that never become whole.
"""

from __future__ import annotations

import asyncio
import re
from asyncio.events import TimerHandle
from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from adapter_registry.api.bulk import BLOCK, EXTENSION, STALL_SECONDS, Bulk
from adapter_registry.api.problems import problem
from adapter_registry.api.refusal import refusal
from adapter_registry.domain.errors import InvalidInput, MalformedRequest, Misdirected, RegistryError, TooLarge, TooSlow

MAX_URL = 8_192
MAX_HEAD = 32_768
MAX_HEADERS = 100
HEAD_SECONDS = 10
"""From the first byte of a head, or from connecting, to its last."""
ONCE = (b"host", b"authorization", b"content-length", b"content-type", b"range", b"idempotency-key")
"""Headers that mean one thing; two of them may mean different things to a proxy and to us."""
NO_REQUEST = "these bytes are no HTTP/1.1 request, or where it ends is unclear; the connection is closed."
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Bounded:
    """Turns away requests with a head that no client needs, and ends those whose body stops coming.

    Args:
        app: what comes after.
        hosts: values of `Host` it answers to, without a port; `*.example.org` and `*` cover more.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, tuple(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = self._wrong(scope)
        if error is not None:
            await refusal(scope, error)(scope, receive, send)
            return
        await self._app(scope, _Arriving(receive), send)

    def _wrong(self, scope: Scope) -> RegistryError | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        url = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if url > MAX_URL:
            return TooLarge(f"the address has {url:,} bytes; at most {MAX_URL:,} are read.")
        size = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > MAX_HEADERS or size > MAX_HEAD:
            found = f"{len(headers)} headers of {size:,} bytes"
            return TooLarge(f"the request has {found}; at most {MAX_HEADERS} of {MAX_HEAD:,} bytes are read.")
        names = [name for name, _ in headers]
        packed = dict(headers).get(b"content-encoding", b"identity").decode("latin-1")
        if packed.strip().lower() not in ("identity", ""):
            return InvalidInput(f"bodies are read as they are: send it without the Content-Encoding {packed[:30]!r}.")
        twice = next((name for name in ONCE if names.count(name) > 1), None)
        if twice is not None:
            return InvalidInput(f"the request has the header {twice.decode()} more than once.")
        return self._misdirected(dict(headers).get(b"host", b"").decode("latin-1"))

    def _misdirected(self, host: str) -> RegistryError | None:
        found = _HOST.fullmatch(host)
        if found and any(_covers(known, found[1].lower()) for known in self._hosts):
            return None
        return Misdirected(f"this server is not {host[:100]!r}; ADAPTERS_HOSTS and --public-url say what else it is.")


def _covers(known: str, host: str) -> bool:
    return known in ("*", host) or (known.startswith("*.") and host.endswith(known[1:]))


class _Arriving:
    """What is received of a request; raises TooSlow when the rest of its body stays away."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._more = receive, True

    async def __call__(self) -> Message:
        if not self._more:
            return await self._receive()
        try:
            async with asyncio.timeout(STALL_SECONDS):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow(f"nothing of the body arrived for {STALL_SECONDS} s; nothing was done.") from None
        self._more = bool(message.get("more_body"))
        return message


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which would wait for ever, and keep everything, while a head is not whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: int | None = None
        self._late: TimerHandle | None = None
        self._body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > 2 * MAX_HEAD + MAX_URL:
                self._give_up()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head = 0
        self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. What comes behind a body in chunks is none: nothing that was checked may change after that."""
        if self._head is not None:
            super().on_header(name, value)

    def send_400_response(self, _msg: str) -> None:
        """What is no request is refused as requests are, although nobody knows what it was to be."""
        self._refuse(NO_REQUEST)

    def _refuse(self, text: str) -> None:
        answer = problem(MalformedRequest(text))
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in answer.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", bytes(answer.body)]))
        self.transport.close()

    def on_headers_complete(self) -> None:
        """It is whole."""
        self._head = None
        self._unwatch()
        super().on_headers_complete()
        length = dict(self.headers).get(b"content-length", b"")
        self._body = int(length) if length.isdigit() else 0
        if self._body >= 2 * BLOCK:
            extensions: dict[str, Any] = {EXTENSION: partial(self._in_bulk, self.cycle)}
            self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        """A piece of a body. One that nothing waits beside is passed on as it came; uvicorn would copy it twice."""
        cycle = self.cycle
        self._body -= len(body)
        if cycle is None or cycle.response_complete or cycle.body or self.parser.should_upgrade():
            if cycle is not None and isinstance(cycle.body, bytes):
                cycle.body = bytearray(cycle.body)  # appending to bytes would copy all of it for every small piece
            super().on_body(body)
            return
        cycle.body = body  # type: ignore[assignment]  # bytes(body) is the same object
        cycle.message_event.set()

    def _in_bulk(self, cycle: RequestResponseCycle) -> Bulk | None:
        """The rest of the body of the request that is answered now; None when it is not worth the change."""
        waits = cycle is not self.cycle or cycle.waiting_for_100_continue or self.parser is None
        return None if waits or self._body < BLOCK else Bulk(self, self._body)

    def _watch(self) -> None:
        self._unwatch()
        self._late = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._unwatch()
        if self.transport.is_closing():
            return
        if self._head is None:
            # Browsers connect ahead, and would take an answer to nothing for that to what they ask next.
            self.transport.close()
        else:
            self._refuse("the head of the request is too long or too late.")
