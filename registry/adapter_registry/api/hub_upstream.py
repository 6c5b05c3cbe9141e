"""Repositories that are not here, passed on from the hub that ADAPTERS_UPSTREAM_HUB names; for reading only.

Clients talk to this server alone: redirects are followed here, addresses in answers are this server's, and what would
send them to another transport (Xet) is taken out. The client's token goes no further than here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import httpx2
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from adapter_registry.api.hub_answers import HubError, Nowhere, nowhere
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import NO_TYPE, backend_of, base_url, server_of
from adapter_registry.outside.upstream import Reply, Upstream, UpstreamErred, UpstreamFailed
from adapter_registry.services import local_names

PASSED = frozenset(
    (
        *(("GET", "info"), ("GET", "revision"), ("GET", "tree"), ("GET", "refs"), ("GET", "commits")),
        *(("POST", "paths-info"), ("GET", "auth-check"), ("HEAD", "resolve"), ("GET", "resolve")),
    )
)
KINDS = ("models", "datasets")
LARGEST_DOCUMENT = 64_000_000
LARGEST_REASON = 64_000
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r'(?:W/)?"?([!#-~]{1,128})"?')
_RANGE = re.compile(r"bytes=(\d+-\d*|-\d+)")
_SPAN = re.compile(r"bytes (\d+-\d+|\*)/\d+")
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*rel="?next"?')
_XET = ("xetHash", "xetEnabled")
_CODES = ("RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo")
_WRONG_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  what hubs say, no secret


async def elsewhere(request: Request, path: HubPath, missing: Nowhere) -> Response:
    """The answer to a request about a repository that is not here.

    Raises:
        HubError: `missing` itself where nothing is passed on; else what the hub said, or why it said nothing.
    """
    upstream = server_of(request).upstream
    reads = (request.method, path.action) in PASSED and path.kind in KINDS
    if upstream is None or not reads or (path.action == "auth-check" and path.revision):
        raise missing
    target = _target(path)
    if target is None or await run_in_threadpool(local_names.is_ours, backend_of(request), repo=path.repo):
        raise nowhere(path.repo, upstream=True)
    try:
        if path.action == "resolve":
            return await _file(request, path, upstream, target)
        return await _document(request, path, upstream, target)
    except UpstreamFailed as error:
        text = f"{path.repo} is not stored here, and the hub it is asked from, {upstream.name}, failed: {error.text}"
        raise HubError(error.status, text) from error


def _target(path: HubPath) -> str | None:
    """The path to ask for, made anew from what was understood; None for what names nothing on a hub."""
    parts = [*path.repo.split("/"), *path.revision.split("/"), *path.rest.split("/")]
    if not _REPO.fullmatch(path.repo) or any(part in (".", "..") for part in parts):
        return None
    revision = quote(path.revision, safe="")
    if path.action == "resolve":
        kind = "" if path.kind == "models" else f"{path.kind}/"
        return f"/{kind}{path.repo}/resolve/{revision}/{quote(path.rest)}"
    segments = [f"/api/{path.kind}/{path.repo}", *([path.action] if path.action != "info" else [])]
    segments += [each for each in (revision, quote(path.rest)) if each]
    return "/".join(segments)


async def _file(request: Request, path: HubPath, upstream: Upstream, target: str) -> Response:
    wanted = request.headers.get("range", "")
    headers = {"Range": wanted} if request.method == "GET" and _RANGE.fullmatch(wanted) else {}
    reply = await upstream.ask(request.method, target, headers=headers, via=request.headers.get("via", ""))
    try:
        if reply.status == 416:
            await reply.close()
            span = _span(reply.headers).get("content-range")
            return Response(status_code=416, headers={"content-range": span} if span else None)
        if reply.status not in (200, 206):
            raise await _refusal(reply, upstream, path)
        given = _file_headers(path, reply)
    except BaseException:
        await reply.close()
        raise
    if given["etag"] in request.headers.get("if-none-match", ""):
        await reply.close()
        return Response(status_code=304, headers=given)
    if request.method == "HEAD":
        await reply.close()
        size = reply.told.get("x-linked-size") or reply.told.get("size", "")
        length = {"content-length": size} if size.isdigit() else {}
        return Response(headers={**given, **length}, media_type=NO_TYPE)
    return _Passed(reply, {**given, **_span(reply.headers)})


def _file_headers(path: HubPath, reply: Reply) -> dict[str, str]:
    told = reply.told
    commit, size = told.get("x-repo-commit", ""), told.get("x-linked-size", "")
    etag = _TAG.fullmatch(told.get("x-linked-etag") or told.get("etag", ""))
    if not _COMMIT.fullmatch(commit) or etag is None:
        raise UpstreamFailed("it sent a file and no commit or entity tag with it, as a hub does.")
    name = quote(path.rest.rpartition("/")[2])
    given = {
        "x-repo-commit": commit,
        "etag": f'"{etag[1]}"',
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-cache",
    }
    if "x-linked-etag" in told and size.isdigit():
        given |= {"x-linked-etag": f'"{etag[1]}"', "x-linked-size": size}
    return given


def _span(headers: Mapping[str, str]) -> dict[str, str]:
    """What is sent of the file, as whoever sends it says."""
    length, span = headers.get("content-length", ""), headers.get("content-range", "")
    packed = headers.get("content-encoding", "identity")
    found = {"content-length": length} if length.isdigit() else {}
    found |= {"content-range": span} if _SPAN.fullmatch(span) else {}
    return found if packed == "identity" else {**found, "content-encoding": packed[:40]}


class _Passed(Response):
    """A body on its way through, piece by piece. When the client leaves, the hub is hung up on, and the reverse."""

    def __init__(self, reply: Reply, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=reply.status, media_type=NO_TYPE)
        # Without the length 0 of the empty body that it was made with.
        del self.headers["content-length"]
        self.headers.update(headers)
        self._reply = reply

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the body on."""
        try:
            async with anyio.create_task_group() as both:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    both.cancel_scope.cancel()

                both.start_soon(watch)
                await self._sent(send)
                both.cancel_scope.cancel()
        finally:
            await self._reply.close()

    async def _sent(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for piece in self._reply.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (httpx2.HTTPError, httpx2.StreamError, OSError):
            # The rest cannot be had. The answer is left short, so that the client sees that it is, and resumes.
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _document(request: Request, path: HubPath, upstream: Upstream, target: str) -> Response:
    query = request.url.query
    content = request.scope["state"].get("body") if request.method == "POST" else None
    headers = {"Content-Type": request.headers.get("content-type", NO_TYPE)} if content is not None else {}
    whole, via = f"{target}?{query}" if query else target, request.headers.get("via", "")
    reply = await upstream.ask(request.method, whole, headers=headers, via=via, content=content)
    if reply.status != 200:
        try:
            raise await _refusal(reply, upstream, path)
        finally:
            await reply.close()
    if path.action == "auth-check":
        await reply.close()
        return JSONResponse({"ok": True})
    data = await reply.read(LARGEST_DOCUMENT)
    cleaned = await run_in_threadpool(_cleaned, data)
    return Response(cleaned, media_type="application/json", headers=_document_headers(request, reply))


def _cleaned(data: bytes) -> bytes:
    try:
        return json.dumps(_without_xet(json.loads(data)), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UpstreamFailed("its answer is not JSON.") from error


def _without_xet(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_xet(each) for key, each in value.items() if key not in _XET}
    return [_without_xet(each) for each in value] if isinstance(value, list) else value


def _document_headers(request: Request, reply: Reply) -> dict[str, str]:
    commit, given = reply.told.get("x-repo-commit", ""), {}
    if _COMMIT.fullmatch(commit):
        given["x-repo-commit"] = commit
    following = _NEXT.search(reply.headers.get("link", ""))
    if following:
        # The next page of this address, whatever host or path the hub gives it.
        prefix = str(request.scope["state"].get("channel_prefix", ""))
        raw = (request.scope.get("raw_path") or b"").decode("latin-1").partition("?")[0].removeprefix(prefix)
        given["link"] = f'<{base_url(request)}{raw}?{urlsplit(following[1]).query}>; rel="next"'
    return given


async def _refusal(reply: Reply, upstream: Upstream, path: HubPath) -> HubError:
    """What the hub refused, in its own terms where it has them; never a missing repository where it did not say so."""
    code, said = reply.headers.get("x-error-code", ""), reply.headers.get("x-error-message", "")
    if not said and reply.response.request.method != "HEAD":
        said = _reason(await reply.read(LARGEST_REASON))
    said = said[:500]
    text = f"{upstream.name}: {said}" if said else f"{upstream.name} answered {reply.status}."
    if reply.status == 429:
        retry = reply.headers.get("retry-after", "")
        return HubError(429, text, headers={"retry-after": retry} if retry.isdigit() else {})
    if reply.status == 401 and (said == _WRONG_TOKEN or (upstream.has_token and not code)):
        raise UpstreamFailed("it does not accept the token of ADAPTERS_UPSTREAM_TOKEN.")
    if code in _CODES or (reply.status == 401 and said):
        commit = reply.headers.get("x-repo-commit", "")
        headers = {"x-repo-commit": commit} if _COMMIT.fullmatch(commit) else {}
        return _coded(code or "RepoNotFound", text, path, upstream, headers)
    if reply.status in (400, 403, 410, 451) and said:
        return HubError(reply.status, text)
    kind = UpstreamErred if reply.status >= 500 else UpstreamFailed
    raise kind(f"it answered {reply.status}{f' ({said})' if said else ''}.")


def _coded(code: str, text: str, path: HubPath, upstream: Upstream, headers: Mapping[str, str]) -> HubError:
    if code == "GatedRepo":
        return HubError(403, f"{text} It is asked with ADAPTERS_UPSTREAM_TOKEN.", code=code)
    if code == "RepoNotFound":
        whose = "its token may not see it" if upstream.has_token else "it is private: set ADAPTERS_UPSTREAM_TOKEN"
        text = f"Repository not found: {path.repo} is neither stored here nor on {upstream.name}, or {whose}."
    return HubError(404, text, code=code, headers=headers)


def _reason(data: bytes) -> str:
    """The text in a hub's error; empty for anything else, such as a page of HTML."""
    try:
        found = json.loads(data).get("error", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return found if isinstance(found, str) else ""
