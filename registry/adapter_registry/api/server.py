"""The application: the native API under /api/v1, the Hub's protocol on everything else, health and metrics.

`Host` must be a name that this server is known by, so that a web page cannot reach it by another one.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter_registry.api import hub_uploads, native, observed, openapi
from adapter_registry.api.authentication import Authenticated
from adapter_registry.api.changes import Changes
from adapter_registry.api.hub import Hub
from adapter_registry.api.problems import problem
from adapter_registry.api.requests import Server, server_of
from adapter_registry.domain.errors import NotFound, RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import access
from adapter_registry.upstream import Upstream

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


class Beside(Protocol):
    """What runs in the background of a server process."""

    def start(self) -> None:
        """Begin, without waiting."""

    def stop(self) -> None:
        """End, and wait for what is half done."""


def make_app(
    backend: Backend,
    *,
    public_url: str | None = None,
    hosts: Sequence[str] = (),
    upstream: Upstream | None = None,
    beside: Sequence[Beside] = (),
) -> Starlette:
    """The application.

    Args:
        backend: what it runs on.
        public_url: the address clients reach it by, `https://adapters.example.org`; None on one machine.
        hosts: further values of `Host` that it answers to; `*` for all, behind a proxy that checks.
        beside: what runs as long as the application does.
        upstream: the hub that repositories which are not here are passed on from; None for none.
    """

    @asynccontextmanager
    async def running(_app: Starlette) -> AsyncIterator[None]:
        on_termination(app.state.server.changes.end)
        for each in beside:
            each.start()
        yield
        for each in beside:
            await run_in_threadpool(each.stop)

    known = [*LOCAL_HOSTS, *hosts, *([urlsplit(public_url).hostname or ""] if public_url else [])]
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route("/ready", _ready),
            Route("/metrics", observed.metrics),
            Route("/api/v1/openapi.json", _openapi),
            *native.routes(),
            Route("/api/v1/uploads/{permission}", hub_uploads.upload, methods=["PUT"]),
            Route("/api/v1/{rest:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        middleware=[
            Middleware(observed.Observed),
            Middleware(TrustedHostMiddleware, allowed_hosts=known, www_redirect=False),
            Middleware(Authenticated, backend=backend),
        ],
        exception_handlers={RegistryError: _refused},
        lifespan=running,
    )
    app.router.redirect_slashes = False
    app.router.default = Hub()
    signing_key = access.server_secret(backend, name="uploads")
    app.state.server = Server(backend, public_url, signing_key, Changes(backend), upstream)
    return app


def on_termination(end: Callable[[], None]) -> None:
    """Call `end` in the event loop when the process is asked to stop, before the server's own handler runs."""
    if threading.current_thread() is not threading.main_thread():
        return  # a process that has a loop elsewhere handles its signals itself
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def ending(given: int, frame: FrameType | None, before: Any = before) -> None:
            loop.call_soon_threadsafe(end)
            if callable(before):
                before(given, frame)

        signal.signal(number, ending)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _ready(request: Request) -> Response:
    """Whether the catalog answers: what a load balancer asks before it sends requests."""
    try:
        await run_in_threadpool(_asked, server_of(request).backend)
    except RegistryError as error:
        return JSONResponse({"status": "unavailable", "reason": error.code}, status_code=503)
    return JSONResponse({"status": "ready"})


def _asked(backend: Backend) -> None:
    with backend.catalog.reading() as tx:
        tx.accounts.secret("uploads")


async def _openapi(_request: Request) -> Response:
    return JSONResponse(openapi.document())


async def _nothing(request: Request) -> Response:
    raise NotFound(f"there is nothing at {request.url.path[:100]!r}; /api/v1/openapi.json lists what there is.")


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RegistryError):
        raise error
    return problem(error)
