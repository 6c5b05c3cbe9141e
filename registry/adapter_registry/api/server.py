"""The registry over HTTP, for one machine: `POST /api/v1/<operation>`, and `/api/v1/blobs/<digest>`.

Every route but `/health` wants the bearer token; `Host` must name this machine, so that a web page cannot reach it by
another name. There are no users or roles yet, which is why it listens on the loopback address only.
"""

from __future__ import annotations

import hmac
import tempfile
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import parse
from adapter_registry.domain.errors import InvalidInput, NotFound, RegistryError, Unauthorised
from adapter_registry.domain.ports import Backend
from adapter_registry.operations import LOCAL, OPERATIONS, arguments_from_wire, to_wire
from adapter_registry.services import pull, push

MAX_DOCUMENT = 64_000_000
MAX_BLOB = 1 << 38
BLOCK = 1 << 20
HOSTS = ["127.0.0.1", "localhost", "[::1]"]
PUBLIC = ("/health",)


def make_app(backend: Backend, *, token: str) -> Starlette:
    """The application.

    Args:
        backend: what the operations run on. `X-Adapters-Actor` says who asks: whoever has the token is trusted to.
        token: the bearer token that every request carries.
    """
    routes = [
        Route("/health", _health),
        Route("/api/v1/blobs/{digest}", _blobs, methods=["GET", "PUT"]),
        Route("/api/v1/{operation}", _operation, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS), Middleware(_Authenticated, token=token)],
        exception_handlers={RegistryError: _refused},
    )
    app.state.backend = backend
    return app


class _Authenticated:
    """Turns away every request without the token, before any route is looked at."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PUBLIC:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await _problem(Unauthorised())(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _operation(request: Request) -> Response:
    name = request.path_params["operation"]
    operation = OPERATIONS.get(name)
    if operation is None:
        raise NotFound(f"there is no operation {name[:60]!r}.")
    data = await _body(request)
    arguments = arguments_from_wire(operation, data)
    if LOCAL in operation.__annotations__:
        arguments[LOCAL] = _unwatched
    answer = await run_in_threadpool(_called, operation, _backend(request), arguments)
    return Response(answer, media_type="application/json")


def _called(operation: Callable[..., Any], backend: Backend, arguments: dict[str, Any]) -> bytes:
    try:
        return to_wire(operation(backend, **arguments))
    except TypeError as error:
        missing = "missing" in str(error) and "keyword-only" in str(error)
        if missing:
            raise InvalidInput(f"{operation.__name__}: {str(error).partition(' ')[2]}.") from error
        raise


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    actor = request.headers.get("x-adapters-actor", "")
    if actor and len(actor) <= 200 and actor.isprintable():
        return Backend(backend.catalog, backend.blobs, backend.clock, actor, backend.namespace)
    return backend


async def _body(request: Request) -> bytes:
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > MAX_DOCUMENT:
            raise InvalidInput(f"the request has more than {MAX_DOCUMENT:,} bytes.")
    return bytes(received)


async def _blobs(request: Request) -> Response:
    digest = parse(request.path_params["digest"])
    backend = _backend(request)
    if request.method == "GET":
        stream = await run_in_threadpool(pull.open_file, backend, digest=digest)
        name = getattr(stream, "name", None)
        if isinstance(name, str):
            stream.close()
            return FileResponse(name, media_type="application/octet-stream")
        return StreamingResponse(iter(lambda: stream.read(BLOCK), b""), media_type="application/octet-stream")
    with tempfile.TemporaryFile() as aside:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_BLOB:
                raise InvalidInput(f"a blob has at most {MAX_BLOB:,} bytes.")
            aside.write(chunk)
        aside.seek(0)
        file = File(request.query_params.get("path", digest)[:200], size, digest)
        stored = await run_in_threadpool(push.receive, backend, file=file, source=aside)
    return JSONResponse({"digest": digest, "size": stored}, status_code=201)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RegistryError):
        raise error
    return _problem(error)


def _problem(error: RegistryError) -> Response:
    """RFC 9457 problem details, with the error tree's code and every problem."""
    document = {
        "type": f"urn:adapters:{error.code}",
        "title": type(error).__name__,
        "status": error.status,
        "code": error.code,
        "detail": error.text,
        "problems": list(error.problems),
    }
    return Response(to_wire(document), status_code=error.status, media_type="application/problem+json")


def _unwatched(_bytes: int) -> None:
    return
