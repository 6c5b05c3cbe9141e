"""What operators see of each request: an id, a line of JSON, counts, a span; never a token, a query or a body."""

from __future__ import annotations

import logging
import re
import secrets
import time
from contextlib import nullcontext

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter_registry.api.hub_paths import read
from adapter_registry.api.metrics import IN_FLIGHT, RECEIVED, REQUESTS, SECONDS, SENT
from adapter_registry.api.refusal import refusal
from adapter_registry.api.tracing import Span, Tracing
from adapter_registry.domain.errors import Defect

LOG = logging.getLogger("adapters.requests")
DEFECTS = logging.getLogger("adapters.defects")
"""Mistakes of this program, with a traceback; to standard error unless somebody wants them elsewhere."""
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
HUNG_UP = 499
"""What is counted where nobody waited for an answer."""
_GIVEN = re.compile(r"[A-Za-z0-9._-]{8,64}")
_SECRET = re.compile(r"(?<=/api/v1/uploads/).*|(?<=adapters_)[A-Za-z0-9_-]{16,}")
"""What a path may hold that lets somebody in: a signed permission, or a token where its id belongs."""


class Observed:
    """Gives each request an id, counts it, traces it, and logs it when it is answered."""

    def __init__(self, app: ASGIApp, tracing: Tracing | None = None) -> None:
        self._app, self._tracing = app, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        seen = _Seen(given if _GIVEN.fullmatch(given) else secrets.token_hex(8))

        async def told(message: Message) -> None:
            seen.sent(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                # Before the last bytes leave: whoever has an answer finds it counted, whichever process they ask.
                seen.count(scope)
            try:
                await send(message)
            except (RuntimeError, OSError) as error:
                # uvloop's word for a connection that the client closed while it was written to.
                raise _HungUp from error

        async def heard() -> Message:
            message = await receive()
            RECEIVED.inc(len(message.get("body", b"")))
            return message

        with self._tracing.span(headers) if self._tracing else nullcontext() as span:
            try:
                await self._app(scope, heard, told)
            except _HungUp:
                pass
            except Exception:
                DEFECTS.exception("request %s", seen.identity)
                if seen.began:
                    raise
                text = f"the server made a mistake; its log has it as request {seen.identity}. Tell its operator."
                await refusal(scope, Defect(text))(scope, heard, told)
            finally:
                seen.done(scope, span)


class _HungUp(Exception):
    """Nobody reads the rest of the answer."""


class _Seen:
    """One request as far as it was answered."""

    def __init__(self, identity: str) -> None:
        self.identity, self._started = identity, time.perf_counter()
        self._status, self._bytes, self._began = 0, 0, 0.0
        self._counted = False
        IN_FLIGHT.inc()

    @property
    def began(self) -> bool:
        """Whether an answer is under way, so that no other can be given."""
        return self._status > 0

    def sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._began = message["status"], time.perf_counter()
            headers = MutableHeaders(raw=message["headers"])
            headers["x-request-id"] = self.identity
            headers["x-content-type-options"] = "nosniff"
        else:
            size = len(message.get("body", b""))
            self._bytes += size
            SENT.inc(size)

    def count(self, scope: Scope) -> None:
        """Once, however often it is called."""
        if self._counted:
            return
        self._counted = True
        route, method = route_of(scope), _method(scope)
        REQUESTS.labels(method, route, str(self._status or HUNG_UP)).inc()
        SECONDS.labels(method, route).observe((self._began or time.perf_counter()) - self._started)
        IN_FLIGHT.dec()

    def done(self, scope: Scope, span: Span | None) -> None:
        self.count(scope)
        route, method, status = route_of(scope), _method(scope), self._status or HUNG_UP
        principal = scope.get("state", {}).get("principal")
        account = principal.name if principal else None
        if span is not None:
            span.ended(method=method, route=route, status=status, request=self.identity, account=account)
        if not LOG.isEnabledFor(logging.INFO):
            return
        line = {
            "request": self.identity,
            "method": method,
            "path": _SECRET.sub("...", scope["path"])[:500],
            "route": route,
            "status": status,
            "seconds": round(time.perf_counter() - self._started, 4),
            "bytes": self._bytes,
            "account": account,
            "token": principal.token if principal else None,
        }
        LOG.info("answered", extra={"facts": {**line, "trace": span.trace} if span else line})


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "?"


def route_of(scope: Scope) -> str:
    """The route that answered, with its places unfilled: few values however many adapters there are."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str):
        return route
    path = read(scope.get("raw_path") or b"")
    if path.kind:
        return f"hub:{path.action}"
    return f"hub:{path.action.partition('/')[0]}" if path.action.startswith(("xet/", "api/")) else "other"
