"""A hub that redirects to another origin, announces Xet, hangs, breaks off and lies; in a thread of the tests."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

COMMIT = "b" * 40
WEIGHTS = bytes(range(256)) * 8192
SHA = hashlib.sha256(WEIGHTS).hexdigest()
XET = {
    "x-xet-hash": "f" * 64,
    "x-xet-refresh-route": "/api/models/x/xet-read-token/main",
    "x-xet-cas-url": "http://cas",
}
PAGES = 3
LFS = {"sha256": SHA, "size": len(WEIGHTS), "pointerSize": 134}


@dataclass
class Seen:
    """What reached it: (method, path, headers) each; and how long a body that never ends was read."""

    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent: int = 0
    left: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Hostile:
    """The running hub, and the other origin that it keeps large files at."""

    url: str
    cdn: str
    seen: Seen
    cdn_seen: Seen

    def headers_of(self, path: str) -> dict[str, str]:
        return next(headers for _, where, headers in reversed(self.seen.requests) if where.startswith(path))


def hub_app(seen: Seen, cdn: str) -> Starlette:  # noqa: C901  one function per misdeed
    async def answer(request: Request) -> Response:
        path = request.url.path
        seen.requests.append((request.method, request.scope["raw_path"].decode(), dict(request.headers)))
        repo = path.removeprefix("/api/models/").removeprefix("/api/datasets/").removeprefix("/datasets/").strip("/")
        kind = next((name for name in ANSWERS if repo.startswith(f"h/{name}")), None)
        if kind is None:
            return JSONResponse({"error": "Repository not found"}, 404, headers={"x-error-code": "RepoNotFound"})
        return await ANSWERS[kind](request)

    async def whole(request: Request) -> Response:
        path = request.url.path
        if "/resolve/" in path:
            return large(request) if path.endswith("model.safetensors") else small(request)
        if "/tree/" in path:
            return tree(request)
        if "/paths-info/" in path:
            return JSONResponse([{"type": "file", "path": "config.json", "size": 2, "oid": "a" * 40, "xetHash": "f"}])
        siblings = [{"rfilename": "model.safetensors", "size": 9, "lfs": LFS, "xetHash": "f"}]
        return JSONResponse({"id": "h/whole", "sha": COMMIT, "siblings": siblings, "xetEnabled": True}, headers=XET)

    def large(request: Request) -> Response:
        told = {"x-repo-commit": COMMIT, "x-linked-etag": f'"{SHA}"', "x-linked-size": str(len(WEIGHTS)), **XET}
        told["link"] = '<https://cas.example/token>; rel="xet-auth"'
        return RedirectResponse(f"{cdn}/blob?signature=x", 302, headers={**told, "etag": '"md5-of-the-cdn"'})

    def small(request: Request) -> Response:
        if request.url.path.endswith("gone.json"):
            told = {"x-error-code": "EntryNotFound", "x-error-message": "Entry not found", "x-repo-commit": COMMIT}
            return Response(status_code=404, headers=told)
        told = {"x-repo-commit": COMMIT, "etag": 'W/"' + "c" * 40 + '"', "set-cookie": "session=of-somebody", **XET}
        if "cache" not in request.url.path:
            return RedirectResponse(f"/h/whole/resolve/{COMMIT}/cache/config.json", 307, headers=told)
        return Response(b"{}", headers=told)

    def tree(request: Request) -> Response:
        page = int(request.query_params.get("cursor", "0"))
        node = {"type": "file", "path": f"{page}.json", "size": 2, "oid": "a" * 40, "xetHash": "f" * 64}
        after = f'<https://elsewhere.example/api/x?cursor={page + 1}>; rel="next", <https://cas>; rel="xet-auth"'
        return JSONResponse([node], headers={"link": after} if page + 1 < PAGES else {})

    async def hanging(_request: Request) -> Response:
        await asyncio.sleep(60)
        return Response()

    async def endless(request: Request) -> Response:
        async def pieces():
            try:
                while True:
                    seen.sent += len(WEIGHTS)
                    yield WEIGHTS
                    await asyncio.sleep(0)
            finally:
                seen.left.set()

        told = {"x-repo-commit": COMMIT, "etag": '"e"', "content-length": str(1 << 40)}
        return Response(headers=told) if request.method == "HEAD" else StreamingResponse(pieces(), headers=told)

    async def broken(request: Request) -> Response:
        async def pieces():
            yield WEIGHTS
            raise ConnectionError("the disk is gone")

        told = {"x-repo-commit": COMMIT, "etag": '"e"', "content-length": str(2 * len(WEIGHTS))}
        return Response(headers=told) if request.method == "HEAD" else StreamingResponse(pieces(), headers=told)

    def refusing(status: int, *, html: bool = False, **headers: str):
        async def refuse(_request: Request) -> Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            if html:
                return HTMLResponse("<html>a proxy's page</html>", status, headers=named)
            return JSONResponse({"error": f"refused with {status}"}, status, headers=named)

        return refuse

    def redirecting(where: str):
        async def redirect(_request: Request) -> Response:
            return RedirectResponse(where, 302)

        return redirect

    async def nested(_request: Request) -> Response:
        return Response("[" * 200_000, media_type="application/json")

    ANSWERS = {
        "whole": whole,
        "hanging": hanging,
        "endless": endless,
        "broken": broken,
        "failing": refusing(500),
        "html": refusing(200, html=True),
        "missing-page": refusing(404, html=True),
        "private": refusing(401),
        "wrong-token": refusing(401, x_error_message="Invalid credentials in Authorization header"),
        "gated": refusing(403, x_error_code="GatedRepo", x_error_message="Access to model h/gated is restricted"),
        "throttled": refusing(429, retry_after="7"),
        "huge": refusing(200, x_repo_commit="b" * 300_000),
        "metadata": redirecting("http://169.254.169.254/latest/meta-data"),
        "file": redirecting("file:///etc/passwd"),
        "circle": redirecting("/h/circle/resolve/main/x"),
        "nested": nested,
    }
    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "HEAD", "POST"])])


def cdn_app(seen: Seen) -> Starlette:
    async def blob(request: Request) -> Response:
        seen.requests.append((request.method, request.url.path, dict(request.headers)))
        if request.method == "HEAD":
            return Response(status_code=403)
        given = {"etag": '"md5-of-the-cdn"', "accept-ranges": "bytes"}
        span = request.headers.get("range", "").removeprefix("bytes=")
        if not span:
            return Response(WEIGHTS, headers=given)
        first, _, last = span.partition("-")
        start, end = int(first), min(int(last or len(WEIGHTS)), len(WEIGHTS) - 1)
        if start >= len(WEIGHTS):
            return Response(status_code=416, headers={"content-range": f"bytes */{len(WEIGHTS)}"})
        given["content-range"] = f"bytes {start}-{end}/{len(WEIGHTS)}"
        return Response(WEIGHTS[start : end + 1], 206, headers=given)

    return Starlette(routes=[Route("/blob", blob, methods=["GET", "HEAD"])])


@contextmanager
def running(app: Starlette) -> Iterator[str]:
    """The address of an application that is served from a thread."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@contextmanager
def hostile_hub() -> Iterator[Hostile]:
    """The hub and its other origin."""
    seen, cdn_seen = Seen(), Seen()
    with running(cdn_app(cdn_seen)) as cdn, running(hub_app(seen, cdn)) as url:
        yield Hostile(url, cdn, seen, cdn_seen)


__all__ = ["COMMIT", "SHA", "WEIGHTS", "Hostile", "hostile_hub"]
