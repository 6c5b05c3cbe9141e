"""The application: the native API under /api/v1, the Hub's protocol on everything else, health and metrics.

`Host` must be a name that this server is known by, so that a web page cannot reach it by another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from adapter_registry.api import hub_uploads, native, observed, openapi
from adapter_registry.api.authentication import Authenticated
from adapter_registry.api.bounds import Bounded
from adapter_registry.api.hub import Hub
from adapter_registry.api.refusal import is_native, refusal
from adapter_registry.api.requests import Server, server_of
from adapter_registry.domain.errors import NotAllowed, NotFound, RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import access

HUB = Hub()
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
        ],
        middleware=[
            Middleware(observed.Observed),
            Middleware(Bounded, hosts=known),
            Middleware(Authenticated, backend=backend),
        ],
        exception_handlers={
            RegistryError: _refused,
            HTTPException: _no_such_method,
            ClientDisconnect: _nobody_there,
        },
    )
    app.router.redirect_slashes = False
    app.router.default = _elsewhere
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


async def _elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Where no route of the native API leads: the Hub's protocol."""
    if is_native(scope):
        raise NotFound(f"there is nothing at {scope['path'][:100]!r}; /api/v1/openapi.json lists what there is.")
    await HUB(scope, receive, send)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RegistryError):
        raise error
    return refusal(request.scope, error)


async def _no_such_method(request: Request, error: Exception) -> Response:
    """What the router says of a method that an address lacks."""
    allowed = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
    text = f"{request.method} is not one of the methods of {request.url.path[:100]!r}: {allowed}."
    answer = refusal(request.scope, NotAllowed(text))
    answer.headers["allow"] = allowed
    return answer


async def _nobody_there(_request: Request, _error: Exception) -> Response:
    """The client hung up while it sent: nobody reads this."""
    return Response(status_code=400)
