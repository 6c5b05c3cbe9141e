"""What operators see: a line of JSON per request with its id, and counts for Prometheus; never a token or a body."""

from __future__ import annotations

import json
import logging
import re
import secrets
import time

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adapter_registry.api.hub_paths import read
from adapter_registry.api.refusal import refusal
from adapter_registry.domain.errors import Defect

LOG = logging.getLogger("adapters.requests")
DEFECTS = logging.getLogger("adapters.defects")
"""Mistakes of this program, with a traceback; to standard error unless somebody wants them elsewhere."""
REQUESTS = Counter("adapters_requests", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("adapters_request_seconds", "Seconds until an answer began", ["method", "route"])
SENT = Counter("adapters_sent_bytes", "Bytes of answers")
RECEIVED = Counter("adapters_received_bytes", "Bytes of requests")
_GIVEN = re.compile(r"[A-Za-z0-9._-]{8,64}")


class Observed:
    """Gives each request an id, counts it, and logs it when it is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through and note how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        identity = given if _GIVEN.fullmatch(given) else secrets.token_hex(8)
        seen = _Seen(identity)

        async def told(message: Message) -> None:
            seen.sent(message)
            try:
                await send(message)
            except (RuntimeError, OSError) as error:
                # uvloop's word for a connection that the client closed while it was written to.
                raise _HungUp from error

        async def heard() -> Message:
            message = await receive()
            RECEIVED.inc(len(message.get("body", b"")))
            return message

        try:
            await self._app(scope, heard, told)
        except _HungUp:
            pass
        except Exception:
            DEFECTS.exception("request %s", identity)
            if seen.began:
                raise
            text = f"the server made a mistake; its log has it under the request {identity}. Tell its operator."
            await refusal(scope, Defect(text))(scope, heard, told)
        finally:
            seen.done(scope)


class _HungUp(Exception):
    """Nobody reads the rest of the answer."""


class _Seen:
    """One request as far as it was answered."""

    def __init__(self, identity: str) -> None:
        self._identity, self._started = identity, time.perf_counter()
        self._status, self._bytes, self._began = 0, 0, 0.0

    @property
    def began(self) -> bool:
        """Whether an answer is under way, so that no other can be given."""
        return self._status > 0

    def sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._began = message["status"], time.perf_counter()
            headers = MutableHeaders(raw=message["headers"])
            headers["x-request-id"] = self._identity
            headers["x-content-type-options"] = "nosniff"
        else:
            size = len(message.get("body", b""))
            self._bytes += size
            SENT.inc(size)

    def done(self, scope: Scope) -> None:
        route, method = route_of(scope), scope["method"] if scope["method"].isalpha() else "?"
        REQUESTS.labels(method, route, str(self._status or 499)).inc()
        SECONDS.labels(method, route).observe((self._began or time.perf_counter()) - self._started)
        principal = scope.get("state", {}).get("principal")
        line = {
            "request": self._identity,
            "method": method,
            "path": scope["path"] if "uploads/" not in scope["path"] else "/api/v1/uploads/...",
            "status": self._status or 499,
            "seconds": round(time.perf_counter() - self._started, 4),
            "bytes": self._bytes,
            "account": principal.name if principal else None,
            "token": principal.token if principal else None,
        }
        LOG.info(json.dumps(line))


def route_of(scope: Scope) -> str:
    """The route that answered, with its places unfilled: few values however many adapters there are."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str):
        return route
    path = read(scope.get("raw_path") or b"")
    if path.kind:
        return f"hub:{path.action}"
    return f"hub:{path.action.partition('/')[0]}" if path.action.startswith(("xet/", "api/")) else "other"


async def metrics(_request: Request) -> Response:
    """`GET /metrics`, for whoever has a good token."""
    return Response(await run_in_threadpool(generate_latest), media_type=CONTENT_TYPE_LATEST)


def log_to_stderr() -> None:
    """One line of JSON per request, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    LOG.handlers, LOG.propagate = [handler], False
    LOG.setLevel(logging.INFO)
