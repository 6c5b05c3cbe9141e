"""What every route needs of a request: who asks, the registry on their behalf, bodies within limits, bytes back."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, TypeGuard, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from adapter_registry.api.bulk import Behind, Bulk, taken_over
from adapter_registry.api.changes import Changes
from adapter_registry.api.metrics import RECEIVED
from adapter_registry.domain.adapter import File
from adapter_registry.domain.audit.denial import Denials
from adapter_registry.domain.digest import Digest, parse
from adapter_registry.domain.errors import InvalidInput, OutsideFile, TooLarge, Unauthorised
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.people.attempts import Attempts
from adapter_registry.domain.people.sign_in import Provider
from adapter_registry.domain.ports import Backend, Incoming
from adapter_registry.domain.ports.identity import Identities
from adapter_registry.domain.sketch import Sketch
from adapter_registry.domain.untrusted import has_nul
from adapter_registry.outside.upstream import Upstream
from adapter_registry.services import push, upload

T = TypeVar("T")

MAX_DOCUMENT = 64_000_000
MAX_BLOB = 1 << 38
BLOCK = 1 << 20
NO_TYPE = "application/octet-stream"
NEVER_A_PAGE = {"content-security-policy": "default-src 'none'; sandbox"}
"""A browser runs nothing of a file that somebody pushed."""
LONGEST_NUMBER = 18
"""Digits that every database holds as an integer."""


@dataclass(frozen=True, slots=True)
class Server:
    """What the application runs on.

    Attributes:
        backend: the registry.
        public_url: what clients reach it by; None to believe the (allowed) Host they used.
        signing_key: signs short-lived permissions to upload; shared by all processes.
        changes: wakes requests that wait for an event.
        upstream: the hub that repositories which are not here are passed on from; None for none.
        identities: OpenID providers, reached over the network.
        provider: the one that people sign in by; None for passwords alone.
        denials: which refusals for want of rights go on the record.
        attempts: how often passwords were wrong.
    """

    backend: Backend
    public_url: str | None
    signing_key: str
    changes: Changes
    identities: Identities
    upstream: Upstream | None = None
    provider: Provider | None = None
    denials: Denials = field(default_factory=lambda: Denials(time.monotonic))
    attempts: Attempts = field(default_factory=lambda: Attempts(time.monotonic))


def server_of(request: Request) -> Server:
    """The Server of the application."""
    server: Server = request.app.state.server
    return server


def asks(request: Request) -> Principal | None:
    """Who asks; None when they did not say."""
    principal: Principal | None = request.scope["state"].get("principal")
    return principal


def backend_of(request: Request) -> Backend:
    """The registry on behalf of who asks; raises Unauthorised when nobody said who asks."""
    principal = asks(request)
    if principal is None:
        raise Unauthorised
    return on_behalf(server_of(request).backend, principal)


def on_behalf(backend: Backend, principal: Principal) -> Backend:
    """The registry as one principal uses it."""
    return replace(backend, actor=principal.name, asks=principal)


def base_url(request: Request) -> str:
    """The address that this client reaches the server by, channel prefix included, without a trailing slash."""
    server = server_of(request)
    root = server.public_url or f"{request.url.scheme}://{request.headers.get('host', '127.0.0.1')}"
    return root.rstrip("/") + str(request.scope["state"].get("channel_prefix", ""))


async def body(request: Request, *, limit: int = MAX_DOCUMENT) -> bytes:
    """The whole body; raises TooLarge beyond `limit` bytes."""
    received = bytearray()
    if whole_number(request.headers.get("content-length"), default=0) > limit:
        raise TooLarge(f"the request has more than {limit:,} bytes.")
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise TooLarge(f"the request has more than {limit:,} bytes.")
    return bytes(received)


async def json_body(request: Request, *, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """The body as a JSON object; raises InvalidInput when it is none."""
    data = await body(request, limit=limit)
    return read_object(data) if data else {}


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object, read strictly: UTF-8, no NaN, no half of a character, no NUL, which PostgreSQL cannot hold.

    Raises:
        InvalidInput: anything else.
    """
    try:
        document: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput("the body is not a JSON object.") from error
    if has_nul(document):
        raise InvalidInput("the body holds a text with a NUL character, which nothing here may have.")
    return document


def is_size(value: Any) -> TypeGuard[int]:
    """Whether a JSON value is a size that a file may have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BLOB


def whole_number(text: str | None, *, default: int) -> int:
    """A number of a query or header; `default` for anything that is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER else default


async def receive(
    request: Request, backend: Backend, *, adapter: str, digest: Digest, name: str, limit: int = MAX_BLOB
) -> int:
    """Store the request's body under `digest`, hashed as it comes; its size. TooLarge beyond `limit` bytes."""
    with push.receiving(backend, adapter=adapter, name=name) as incoming:
        await _written(request, incoming, most=limit)
        return await run_in_threadpool(incoming.publish, digest)


@dataclass(frozen=True, slots=True)
class Appended:
    """Which upload a request goes on with, at which byte, and how long the whole is; `name` is for errors.

    `of` is the file's Digest, or its Sketch where the sender does not know the digest yet.
    """

    adapter: str
    of: Digest | Sketch
    name: str
    offset: int
    length: int


async def append(request: Request, backend: Backend, to: Appended) -> tuple[int, Digest | None]:
    """Add the request's body to an upload, and store it when it is whole; (bytes that are there now, digest if whole).

    What arrived before a connection broke stays, and is hashed once more when the upload goes on.
    """
    taken = upload.taking_up(backend, adapter=to.adapter, of=to.of, name=to.name, offset=to.offset, length=to.length)
    async with _in_thread(taken) as partial:
        there = to.offset + await _written(request, partial, most=to.length - to.offset)
        if there != to.length:
            return there, None
        digest = parse(to.of) if to.of.startswith("sha256:") else partial.digest
        await run_in_threadpool(partial.publish, digest)
        return there, digest


@asynccontextmanager
async def _in_thread(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A context whose entering takes a while: it may hash what is there."""
    entered = await run_in_threadpool(context.__enter__)
    try:
        yield entered
    except BaseException as error:
        if not context.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        context.__exit__(None, None, None)


async def _written(request: Request, incoming: Incoming, *, most: int) -> int:
    """Write the body; its size. What came before the sender went away is written too.

    The bytes are handed to a thread a mebibyte at a time: handing over each piece costs more than the work. The next
    ones arrive meanwhile.
    """
    bulk = taken_over(request.scope)
    if bulk is not None:
        return await _written_in_bulk(bulk, incoming, most=most)
    pieces: list[bytes] = []
    held = size = 0
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise TooLarge(f"the body has more than the {most:,} bytes that the file may have from here on.")
            pieces.append(chunk)
            held += len(chunk)
            if held >= BLOCK:
                full, pieces, held = pieces, [], 0
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(run_in_threadpool(incoming.write, *full))
    finally:
        if writing is not None:
            await writing
        await run_in_threadpool(incoming.write, *pieces)
    return size


async def _written_in_bulk(bulk: Bulk, incoming: Incoming, *, most: int) -> int:
    """As `_written`, of a body that comes in blocks; they are written while the next are filled."""
    size, behind = 0, Behind(incoming.write, bulk.done)
    try:
        while block := await bulk.block():
            RECEIVED.inc(len(block))
            size += len(block)
            if size > most:
                raise TooLarge(f"the body has more than the {most:,} bytes that the file may have from here on.")
            behind.put(block)
    finally:
        await behind.finish()
    return size


class BlobFile(FileResponse):
    """A file of the store, a mebibyte at a time: 3.4 times cheaper than Starlette's 64 kB."""

    chunk_size = BLOCK
    max_ranges = 1


async def file_answer(request: Request, backend: Backend, file: File, headers: Mapping[str, str]) -> Response:
    """The bytes of a file, whole or the one range asked for, from where they are cheapest to get.

    HEAD gets the headers alone. A store that hands out addresses is redirected to, with every header on the redirect.

    Raises:
        OutsideFile: the range begins after the end.
    """
    given = {**NEVER_A_PAGE, "cache-control": "private, no-cache", **headers}
    if headers["etag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=given)
    start, _, partial = _span(request, file.size, headers["etag"])
    if partial and start >= file.size:
        raise OutsideFile(file.path, size=file.size)
    if not partial:
        # What is no range of this file is ignored, as HTTP says; a store's own file answer would refuse it.
        request.scope["headers"] = [each for each in request.scope["headers"] if each[0] != b"range"]
    location = await run_in_threadpool(backend.blobs.location, file.digest)
    if location is not None and location.local:
        stat = await run_in_threadpool(os.stat, location.address)
        return BlobFile(location.address, headers=given, media_type=NO_TYPE, stat_result=stat)
    given |= {"accept-ranges": "bytes", "content-length": str(file.size)}
    if request.method == "HEAD":
        return Response(headers=given, media_type=NO_TYPE)
    if location is not None:
        given.pop("content-length")
        return RedirectResponse(location.address, status_code=302, headers={**given, "cache-control": "no-store"})
    stream = await run_in_threadpool(backend.blobs.open, file.digest)
    return _streamed(stream, file.size, given, _span(request, file.size, headers["etag"]))


def _span(request: Request, size: int, etag: str) -> tuple[int, int, bool]:
    """(start, end, whether it is a part) of what is asked for: the whole by HEAD, and if another state is meant."""
    of_this = request.headers.get("if-range", etag).strip() == etag
    return one_range(request.headers.get("range") if of_this and request.method == "GET" else None, size)


def _streamed(stream: BinaryIO, size: int, headers: dict[str, str], span: tuple[int, int, bool]) -> Response:
    start, end, partial = span
    headers["content-length"] = str(end - start)
    if partial:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(
        _pieces(stream, start, end), status_code=206 if partial else 200, headers=headers, media_type=NO_TYPE
    )


def one_range(text: str | None, size: int) -> tuple[int, int, bool]:
    """(start, end after the last byte, whether it is a part) of a Range header; several ranges count as none."""
    unit, _, span = (text or "").partition("=")
    first, dash, last = span.strip().partition("-")
    if unit.strip().lower() != "bytes" or not dash or not (first or last) or not _digits(first + last):
        return 0, size, False
    if not first:
        return (max(size - int(last), 0), size, True) if int(last) else (size, size, True)
    start, end = int(first), min(int(last) + 1, size) if last else size
    return (start, end, True) if start < end or start >= size else (0, size, False)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 2 * LONGEST_NUMBER


async def _pieces(stream: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        await run_in_threadpool(stream.seek, start)
        left = end - start
        while left > 0 and (piece := await run_in_threadpool(stream.read, min(BLOCK, left))):
            left -= len(piece)
            yield piece
    finally:
        stream.close()
