"""The application: the native API under /api/v1, the Hub's protocol on everything else, health and metrics.

`Host` must be a name that this server is known by, so that a web page cannot reach it by another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapter_registry.api import hub_uploads, native, observed, openapi
from adapter_registry.api.authentication import Authenticated
from adapter_registry.api.hub import Hub
from adapter_registry.api.problems import problem
from adapter_registry.api.requests import Server, server_of
from adapter_registry.domain.errors import NotFound, RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import access

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def make_app(backend: Backend, *, public_url: str | None = None, hosts: Sequence[str] = ()) -> Starlette:
    """The application.

    Args:
        backend: what it runs on.
        public_url: the address clients reach it by, `https://adapters.example.org`; None on one machine.
        hosts: further values of `Host` that it answers to; `*` for all, behind a proxy that checks.
    """
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
        exception_handlers={RegistryError: _refused, ClientDisconnect: _gone},
    )
    app.router.redirect_slashes = False
    app.router.default = Hub()
    app.state.server = Server(backend, public_url, access.server_secret(backend, name="uploads"))
    return app


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


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody reads this: whoever sent the request went away before its end."""
    return Response(status_code=400)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RegistryError):
        raise error
    return problem(error)
