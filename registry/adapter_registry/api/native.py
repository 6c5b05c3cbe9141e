"""The native API: a route for each line of the table of operations, and files as raw bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapter_registry.api.lookups import named
from adapter_registry.api.passwords import signed_in
from adapter_registry.api.problems import problem
from adapter_registry.api.requests import (
    MAX_BLOB,
    Appended,
    append,
    backend_of,
    body,
    file_answer,
    json_body,
    receive,
    server_of,
)
from adapter_registry.api.rights import note, require
from adapter_registry.api.threads import asked, in_thread, is_plain
from adapter_registry.domain.digest import Digest, hex_of, parse
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, RegistryError, TooLarge
from adapter_registry.domain.ports import Backend, KeptAnswer
from adapter_registry.domain.sketch import Sketch, parsed
from adapter_registry.operation import LOCAL, Function, Operation, arguments_from_wire, to_wire
from adapter_registry.operations import OPERATIONS
from adapter_registry.services import pointer, pull, show, upload
from adapter_registry.services import request as requests
from adapter_registry.services.collect import ANSWER_SECONDS

LONGEST_KEY = 128
LONGEST_NUMBER = 15
WAITED_FOR: dict[Function, Callable[..., bool]] = {
    pointer.pointer: pointer.moved,
    requests.show: requests.changed,
}
"""Operation -> whether what its caller waits for has happened."""
OFFSET, LENGTH = "upload-offset", "upload-length"
"""Headers of an upload that can be taken up again: where it is or goes on, and how long the file is."""
_ADAPTER = "/api/v1/adapters/{adapter_namespace}/{adapter_name}"
_UPLOADS = ("/blobs/{digest}", "/uploads/{sketch}")
"""Where a file is sent whose digest the sender knows, and one whose digest they do not know yet."""


def routes() -> list[Route]:
    """Every route of the native API."""
    table = [
        Route(f"/api/v1{operation.route}", _answering(operation), methods=[operation.method])
        for operation in OPERATIONS.values()
    ]
    return [
        Route("/api/v1/sign-in", _sign_in, methods=["POST"]),
        Route(f"{_ADAPTER}/blobs/{{digest}}", _put_blob, methods=["PUT"]),
        *(Route(f"{_ADAPTER}{place}", _upload_state, methods=["HEAD"]) for place in _UPLOADS),
        *(Route(f"{_ADAPTER}{place}", _append, methods=["PATCH"]) for place in _UPLOADS),
        Route(f"{_ADAPTER}/versions/{{selector}}/files/{{path:path}}", _get_file, methods=["GET"]),
        *table,
    ]


def _answering(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        data = await body(request)
        given = arguments_from_wire(operation, request.path_params, request.query_params, data)
        backend = backend_of(request)
        try:
            require(operation, backend, given)
        except Forbidden as denied:
            await run_in_threadpool(note, server_of(request).denials, operation, backend, given, denied)
            raise
        if operation.call in WAITED_FOR:
            given = await _waited(request, backend, operation, given)
        key = request.headers.get("idempotency-key")
        if key is not None and operation.once:
            identity = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + data
            return await run_in_threadpool(_once, operation, backend, given, key, identity)
        status, answered = await _looked_up(request, operation, backend, given)
        return _tagged(request, Response(answered, status_code=status, media_type="application/json"))

    return answer


async def _looked_up(
    request: Request, operation: Operation, backend: Backend, given: dict[str, Any]
) -> tuple[int, bytes]:
    """The answer to a question that no key goes with."""
    if operation.call is show.resolve and (found := await named(backend, **given)):
        return 200, to_wire(found[0])
    small = operation.small and is_plain(request.path_params.get("selector", ""))
    carried_out = asked if small else in_thread
    return await carried_out(backend, _called, operation, backend, given)


async def _waited(request: Request, backend: Backend, operation: Operation, given: dict[str, Any]) -> dict[str, Any]:
    """`given` without its wait, which was done here: who waits must not hold a thread."""
    seconds = min(given.pop("wait_seconds", 0.0), pointer.LONGEST_WAIT_SECONDS)
    if seconds > 0 and given.get("after") is not None:
        asked = partial(WAITED_FOR[operation.call], backend, **given)
        await server_of(request).changes.until(asked, seconds=seconds)
    return given


def _called(operation: Operation, backend: Backend, given: dict[str, Any]) -> tuple[int, bytes]:
    arguments = {**given, LOCAL: _unwatched} if LOCAL in operation.call.__annotations__ else given
    try:
        return (201 if operation.method == "POST" else 200), to_wire(operation.call(backend, **arguments))
    except TypeError as error:
        if "missing" in str(error) and "keyword-only" in str(error):
            raise InvalidInput(f"{operation.name}: {str(error).partition(' ')[2]}.") from error
        raise


def _once(operation: Operation, backend: Backend, given: dict[str, Any], key: str, identity: bytes) -> Response:
    """Do a write once, however often it is asked with the same key; later askers get the first answer."""
    if not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
        raise InvalidInput(f"an Idempotency-Key has 1 to {LONGEST_KEY} printable characters.")
    who, request = backend.asks.name, hashlib.sha256(identity).hexdigest()
    kept = _claimed(backend, who, key, request)
    if kept is not None:
        return _replayed(kept, request)
    try:
        status, answered = _called(operation, backend, given)
        media = "application/json"
    except RegistryError as error:
        if error.status >= 500:
            _forget(backend, who, key)
            raise
        refused = problem(error)
        status, answered, media = error.status, bytes(refused.body), refused.media_type
    except BaseException:
        _forget(backend, who, key)
        raise
    _keep(backend, who, key, KeptAnswer(request, status, answered.decode()))
    return Response(answered, status_code=status, media_type=media)


def _claimed(backend: Backend, who: str, key: str, request: str) -> KeptAnswer | None:
    with backend.catalog.writing() as tx:
        kept = tx.accounts.answer(who, key)
        if kept is None:
            _store(backend, tx, who, key, KeptAnswer(request, None, None))
        return kept


def _store(backend: Backend, tx: Any, who: str, key: str, answer: KeptAnswer) -> None:
    now = backend.clock()
    before = (datetime.fromisoformat(now) - timedelta(seconds=ANSWER_SECONDS)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    tx.accounts.keep_answer(who, key, answer, at=now, forget_before=before)


def _keep(backend: Backend, who: str, key: str, answer: KeptAnswer) -> None:
    with backend.catalog.writing() as tx:
        _store(backend, tx, who, key, answer)


def _forget(backend: Backend, who: str, key: str) -> None:
    with backend.catalog.writing() as tx:
        tx.accounts.drop_answer(who, key)


def _replayed(kept: KeptAnswer, request: str) -> Response:
    if kept.request != request:
        raise InvalidInput("this Idempotency-Key was used for another request; nothing was done. Use a fresh one.")
    if kept.status is None:
        raise Conflict("the request with this Idempotency-Key is still running, or its server died; ask again shortly.")
    media = "application/json" if kept.status < 400 else "application/problem+json"
    headers = {"idempotency-replayed": "true"}
    return Response(kept.body or "", status_code=kept.status, media_type=media, headers=headers)


def _tagged(request: Request, response: Response) -> Response:
    """With an ETag for what was read; 304 when the client has it."""
    if request.method != "GET" or response.status_code != 200:
        return response
    etag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": etag})
    response.headers["etag"] = etag
    response.headers["cache-control"] = "private, no-cache"
    return response


async def _sign_in(request: Request) -> Response:
    document = await json_body(request, limit=10_000)
    name, password = document.get("name"), document.get("password")
    if not isinstance(name, str) or not isinstance(password, str):
        raise InvalidInput("signing in takes a name and a password.")
    made = await signed_in(request, name=name, password=password)
    return Response(to_wire(made), status_code=201, media_type="application/json")


def _adapter(request: Request) -> str:
    return f"{request.path_params['adapter_namespace']}/{request.path_params['adapter_name']}"


async def _put_blob(request: Request) -> Response:
    adapter, backend = _may_send(request)
    digest = parse(request.path_params["digest"])
    size = await receive(request, backend, adapter=adapter, digest=digest, name=_file_name(request, digest))
    return Response(to_wire({"digest": digest, "size": size}), status_code=201, media_type="application/json")


async def _upload_state(request: Request) -> Response:
    """How much is there of an upload that was cut off; 404 where uploads start over."""
    adapter, backend = _may_send(request)
    offset = await run_in_threadpool(upload.so_far, backend, adapter=adapter, of=_sent(request))
    headers = {"cache-control": "no-store", **({} if offset is None else {OFFSET: str(offset)})}
    return Response(status_code=404 if offset is None else 200, headers=headers)


async def _append(request: Request) -> Response:
    """The next bytes of an upload; what arrived stays, and the last ones make it a blob."""
    adapter, backend = _may_send(request)
    of = _sent(request)
    offset, length = _number(request, OFFSET), _number(request, LENGTH)
    if length > MAX_BLOB:
        raise TooLarge(f"a file has at most {MAX_BLOB:,} bytes.")
    there, digest = await append(request, backend, Appended(adapter, of, _file_name(request, of), offset, length))
    answer = {"digest": digest, "size": length, "received": there}
    status = 201 if there == length else 200
    return Response(to_wire(answer), status_code=status, media_type="application/json", headers={OFFSET: str(there)})


def _may_send(request: Request) -> tuple[str, Backend]:
    """(adapter, registry on behalf of who asks) of an address that they may send bytes to."""
    adapter, backend = _adapter(request), backend_of(request)
    require(OPERATIONS["push.missing"], backend, {"adapter": adapter})
    return adapter, backend


def _sent(request: Request) -> Digest | Sketch:
    """What the address of an upload says of the bytes."""
    given = request.path_params
    return parse(given["digest"]) if "digest" in given else parsed(given["sketch"])


def _file_name(request: Request, otherwise: str) -> str:
    return request.query_params.get("path", otherwise)[:200]


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > LONGEST_NUMBER:
        raise InvalidInput(f"going on with an upload takes the header {name}, a number of bytes; it is {text[:30]!r}.")
    return int(text)


async def _get_file(request: Request) -> Response:
    reference = f"{_adapter(request)}@{request.path_params['selector']}"
    backend = backend_of(request)
    require(OPERATIONS["show.resolve"], backend, {"reference": reference})
    file = await run_in_threadpool(pull.find_file, backend, reference=reference, path=request.path_params["path"])
    headers = {"etag": f'"{hex_of(file.digest)}"', "content-disposition": "attachment"}
    return await file_answer(request, backend, file, headers)


def _unwatched(_bytes: int) -> None:
    return
