"""The application: the native API under /api/v1, the Hub's protocol on everything else, health and metrics.

`Host` must be a name that this server is known by, so that a web page cannot reach it by another one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan, Receive, Scope, Send

from adapter_registry.api import health, hub_uploads, identity, lorax, metrics, native, observed, openapi, pages
from adapter_registry.api.authentication import Authenticated
from adapter_registry.api.bounds import Bounded
from adapter_registry.api.changes import Changes
from adapter_registry.api.hub import Hub
from adapter_registry.api.refusal import is_native, refusal
from adapter_registry.api.requests import Server
from adapter_registry.api.sessions import is_page
from adapter_registry.api.tracing import Tracing
from adapter_registry.domain.errors import NotAllowed, NotFound, RegistryError
from adapter_registry.domain.people.sign_in import Provider
from adapter_registry.domain.ports import Backend
from adapter_registry.outside.openid import Issuers
from adapter_registry.outside.upstream import Upstream
from adapter_registry.services import first_admin, pointer

HUB = Hub()
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


class Beside(Protocol):
    """What runs in the background of a server process."""

    def start(self) -> None:
        """Begin, without waiting."""

    def stop(self) -> None:
        """End, and wait for what is half done."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a server is watched and stopped.

    Attributes:
        tracing: makes a span of each request; None for none.
        drain_seconds: how long it goes on taking requests, no longer ready, after SIGTERM.
        beside: what runs as long as it does.
    """

    tracing: Tracing | None = None
    drain_seconds: float = 0
    beside: tuple[Beside, ...] = ()


def make_app(
    backend: Backend,
    *,
    public_url: str | None = None,
    hosts: Sequence[str] = (),
    upstream: Upstream | None = None,
    watch: Watch | None = None,
    provider: Provider | None = None,
    oidc_loopback: bool = False,
) -> Starlette:
    """The application.

    Args:
        backend: what it runs on.
        public_url: the address clients reach it by, `https://adapters.example.org`; None on one machine.
        hosts: further values of `Host` that it answers to; `*` for all, behind a proxy that checks.
        upstream: the hub that repositories which are not here are passed on from; None for none.
        watch: how it is watched and stopped; the default traces nothing and stops at once.
        provider: the OpenID provider that people sign in by; None for passwords alone.
        oidc_loopback: whether OpenID providers may be asked over http on this machine.
    """
    watch = watch or Watch()
    readiness, changes = health.Readiness(backend), Changes(backend)
    known = [*LOCAL_HOSTS, *hosts, *([urlsplit(public_url).hostname or ""] if public_url else [])]
    app = Starlette(
        routes=[
            Route("/health", health.alive),
            Route("/ready", readiness.answer),
            Route("/metrics", metrics.answer),
            Route("/api/v1/openapi.json", _openapi),
            *identity.routes(),
            *native.routes(),
            *lorax.routes(),
            *pages.routes(),
            Route("/api/v1/uploads/{permission}", hub_uploads.upload, methods=["PUT"]),
        ],
        middleware=[
            Middleware(observed.Observed, tracing=watch.tracing),
            Middleware(Bounded, hosts=known),
            Middleware(Authenticated, backend=backend),
        ],
        lifespan=_lifespan(backend, readiness, changes, watch),
        exception_handlers={
            RegistryError: _refused,
            HTTPException: _no_such_method,
            ClientDisconnect: _nobody_there,
        },
    )
    app.router.redirect_slashes = False
    app.router.default = _elsewhere
    signing_key = first_admin.server_secret(backend, name="uploads")
    pointer.key(backend)  # made now, so that no reader's question writes
    app.state.server = Server(
        backend,
        public_url,
        signing_key,
        changes,
        Issuers(loopback=oidc_loopback),
        upstream,
        provider,
    )
    return app


def _lifespan(backend: Backend, readiness: health.Readiness, changes: Changes, watch: Watch) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        for each in watch.beside:
            each.start()
        with health.draining(readiness, seconds=watch.drain_seconds, ending=changes.end):
            yield
        for each in watch.beside:
            await run_in_threadpool(each.stop)
        if backend.lookups is not None:
            await backend.lookups.close()
        if watch.tracing is not None:
            await run_in_threadpool(watch.tracing.close)

    return lifespan


async def _openapi(_request: Request) -> Response:
    return JSONResponse(openapi.document())


async def _elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Where no route of the native API leads: the Hub's protocol."""
    if is_native(scope):
        raise NotFound(f"there is nothing at {scope['path'][:100]!r}; /api/v1/openapi.json lists what there is.")
    if is_page(scope["path"]):
        raise NotFound(f"there is no page at {scope['path'][:100]!r}.")
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
