"""The application: the native API under /api/v1, the Hub's protocol on everything else, health and metrics.

`Host` must be a name that this server is known by, so that a web page cannot reach it by another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from adapter_registry.api import health, hub_uploads, metrics, native, observed, openapi
from adapter_registry.api.authentication import Authenticated
from adapter_registry.api.hub import Hub
from adapter_registry.api.problems import problem
from adapter_registry.api.requests import Server
from adapter_registry.api.tracing import Tracing
from adapter_registry.domain.errors import NotFound, RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import access

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Watch:
    """How a server is watched and stopped.

    Attributes:
        tracing: makes a span of each request; None for none.
        drain_seconds: how long it goes on taking requests, no longer ready, after SIGTERM.
    """

    tracing: Tracing | None = None
    drain_seconds: float = 0


def make_app(
    backend: Backend, *, public_url: str | None = None, hosts: Sequence[str] = (), watch: Watch | None = None
) -> Starlette:
    """The application.

    Args:
        backend: what it runs on.
        public_url: the address clients reach it by, `https://adapters.example.org`; None on one machine.
        hosts: further values of `Host` that it answers to; `*` for all, behind a proxy that checks.
        watch: how it is watched and stopped; the default traces nothing and stops at once.
    """
    watch = watch or Watch()
    readiness = health.Readiness(backend)
    known = [*LOCAL_HOSTS, *hosts, *([urlsplit(public_url).hostname or ""] if public_url else [])]
    app = Starlette(
        routes=[
            Route("/health", health.alive),
            Route("/ready", readiness.answer),
            Route("/metrics", metrics.answer),
            Route("/api/v1/openapi.json", _openapi),
            *native.routes(),
            Route("/api/v1/uploads/{permission}", hub_uploads.upload, methods=["PUT"]),
            Route("/api/v1/{rest:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        middleware=[
            Middleware(observed.Observed, tracing=watch.tracing),
            Middleware(TrustedHostMiddleware, allowed_hosts=known, www_redirect=False),
            Middleware(Authenticated, backend=backend),
        ],
        exception_handlers={RegistryError: _refused},
        lifespan=_lifespan(readiness, watch),
    )
    app.router.redirect_slashes = False
    app.router.default = Hub()
    app.state.server = Server(backend, public_url, access.server_secret(backend, name="uploads"))
    return app


def _lifespan(readiness: health.Readiness, watch: Watch) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with health.draining(readiness, seconds=watch.drain_seconds):
            yield
        if watch.tracing is not None:
            await run_in_threadpool(watch.tracing.close)

    return lifespan


async def _openapi(_request: Request) -> Response:
    return JSONResponse(openapi.document())


async def _nothing(request: Request) -> Response:
    raise NotFound(f"there is nothing at {request.url.path[:100]!r}; /api/v1/openapi.json lists what there is.")


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RegistryError):
        raise error
    return problem(error)
