"""Ask a registry server: the same operations as in this process, carried over HTTP with the standard library.

An HTTP client library costs a third of a second to import, more than a whole `adapters ls` against a server takes.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from adapter_registry.domain import errors
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput, InvalidReference, Problem, RegistryError, ServerUnreachable
from adapter_registry.domain.sketch import Sketch
from adapter_registry.operation import address, result_from_wire
from adapter_registry.operations import BY_FUNCTION
from adapter_registry.services import pull, push, stored_base

Answer = TypeVar("Answer")
Content: TypeAlias = BinaryIO | Iterator[memoryview]
"""A file to send, or its bytes in pieces, each good until the next is asked for."""

TIMEOUT_SECONDS = 300.0
"""How long a server may say nothing, unless the settings say otherwise."""
IDLE, IDLE_SECONDS = 4, 3.0
"""How many connections are kept between two questions, and for how long: servers close them after five seconds."""
LARGEST_ANSWER = 1 << 30
REDIRECTS = (301, 302, 303, 307, 308)
_NOT_OURS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
BLOCK = 1 << 20
"""Bytes of a file that are sent at a time; the library's 8 kB cost more than the sending."""


@dataclass(frozen=True, slots=True)
class Appended:
    """What the server has of an upload, and the digest of the file once it has all of it."""

    received: int
    digest: Digest | None = None


class Remote:
    """A registry server at a URL."""

    def __init__(self, url: str, token: str | None, *, answer_seconds: float = TIMEOUT_SECONDS) -> None:
        self._parts, self._seconds = urlsplit(url), answer_seconds
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise InvalidReference(
                f"{url[:200]!r} is no server (ADAPTERS_URL); it is http://host:port, as `adapters serve` printed it."
            )
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._idle = _Idle()

    @property
    def plain(self) -> bool:
        """Whether what is sent goes to the kernel as it is."""
        return self._parts.scheme == "http"

    def call(self, function: Callable[..., Any], given: dict[str, Any]) -> Any:
        """What `function` answers there; its errors are raised here as what they are.

        A write carries an idempotency key, so that it can be sent again when its answer was lost on the way.
        """
        if function is push.receive:
            return self.send(given["adapter"], given["file"], given["source"])
        if function is pull.open_file:
            return self._open(given["reference"], given["path"])
        if function is stored_base.bytes_of:
            stored = given["stored"]
            return self._opened(f"/{stored.name}/resolve/{stored.commit}/{quote(given['path'])}")
        operation = BY_FUNCTION[function]
        path, body = address(operation, given)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if operation.once:
            headers["Idempotency-Key"] = secrets.token_hex(16)
        seconds = self._seconds + float(given.get("wait_seconds") or 0)
        answer = self._answer(operation.method, path, body, headers, twice=operation.repeatable, seconds=seconds)
        try:
            return result_from_wire(operation, answer)
        except _NOT_OURS as error:
            raise self._no_registry(error) from error

    def post(self, path: str, document: dict[str, Any], kind: type[Answer]) -> Answer:
        """What a POST of a document to a path of the server answers; asked once."""
        body, headers = msgspec.json.encode(document), {"Content-Type": "application/json"}
        data = self._asked("POST", path, body, headers, self._seconds)
        try:
            return msgspec.json.decode(data, type=kind, strict=False)
        except _NOT_OURS as error:
            raise self._no_registry(error) from error

    def _answer(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], *, twice: bool, seconds: float
    ) -> bytes:
        """The answer; asked once more when it was lost, if asking twice is safe, and never when none came in time."""
        try:
            return self._asked(method, path, body, headers, seconds)
        except ServerUnreachable as error:
            safe = method == "GET" or "Idempotency-Key" in headers or twice
            if not safe or isinstance(error.__cause__, TimeoutError):
                raise
            return self._asked(method, path, body, headers, seconds)

    def _asked(self, method: str, path: str, body: bytes | None, headers: dict[str, str], seconds: float) -> bytes:
        # What is asked again, because the server had closed the connection, must be safe to ask twice.
        safe = method == "GET" or "Idempotency-Key" in headers
        kept = self._idle.taken() if safe else None
        if kept is not None:
            try:
                kept.timeout = seconds
                kept.sock.settimeout(seconds)
                kept.request(method, self._address(path), body, {**self._headers, **headers})
                response = kept.getresponse()
            except ConnectionError:
                kept.close()
            except (OSError, http.client.HTTPException) as error:
                kept.close()
                raise self._unreachable(str(error)) from error
            else:
                return self._whole(kept, response)
        return self._done(self._request(method, path, body, headers, seconds))

    def require(self, seconds: float) -> None:
        """Raise ServerUnreachable unless something answers there within so many seconds, whatever it says."""
        connection = self._connection(seconds)
        try:
            connection.request("GET", self._address("/health"))
            connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(str(error)) from error
        finally:
            connection.close()

    def send(self, adapter: str, file: File, source: Content) -> int:
        """Send a file whole; its size."""
        self._done(self._request("PUT", blob_address(adapter, file), source, {"Content-Length": str(file.size)}))
        return file.size

    def send_rest(self, where: str, source: Content, *, offset: int, size: int) -> Appended:
        """Send what follows `offset` of a file, where `source` is, to an address of an upload."""
        headers = {"Upload-Offset": str(offset), "Upload-Length": str(size)}
        connection = self._request("PATCH", where, source, {"Content-Length": str(size - offset), **headers})
        return msgspec.json.decode(self._done(connection), type=Appended)

    def received(self, where: str) -> int | None:
        """Bytes that are there of an upload that was cut off; None where it starts over."""
        connection = self._request("HEAD", where, None, {})
        try:
            response = self._response(connection)
            if response.status >= 500:
                raise self._unreachable(f"it answered {response.status}")
            offset = response.headers.get("upload-offset", "")
            return int(offset) if response.status == 200 and offset.isdigit() else None
        finally:
            connection.close()

    def _open(self, reference: str, path: str) -> BinaryIO:
        adapter, _, selector = reference.partition("@")
        return self._opened(f"/api/v1/adapters/{adapter}/versions/{quote(selector, safe='')}/files/{quote(path)}")

    def _opened(self, where: str) -> BinaryIO:
        connection = self._request("GET", where, None, {})
        response = self._response(connection)
        if response.status in REDIRECTS:
            address = response.headers.get("location", "")
            connection.close()
            connection, response = self._elsewhere(address)
        if response.status >= 400:
            data = response.read(LARGEST_ANSWER)
            connection.close()
            raise _error(response.status, data)
        return _Body(connection, response)  # type: ignore[return-value]  # read and close are all that is asked of it

    def _elsewhere(self, address: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """The answer of the server's bucket, which gets none of our headers: its address is its permission."""
        parts = urlsplit(address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=self._seconds)
        try:
            connection.request("GET", f"{parts.path}?{parts.query}")
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ServerUnreachable(
                f"the server keeps this file at {parts.netloc}, which does not answer ({str(error)[:200]}). "
                "Clients read from there: it has to be reachable from here."
            ) from error

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | Content | None,
        headers: dict[str, str],
        seconds: float | None = None,
    ) -> http.client.HTTPConnection:
        connection = self._connection(seconds or self._seconds)
        try:
            connection.request(method, self._address(path), body, {**self._headers, **headers})
        except OSError as error:
            if error.errno == errno.EFAULT:
                # Mapped memory behind the end of a file.
                connection.close()
                raise InvalidInput("a file became shorter while it was sent; nothing was stored. Try again.") from error
            # A server that refuses a body may answer before it was sent; the answer says why.
            with suppress(OSError):
                if connection.sock is not None:
                    # Nobody knows where its next request would begin.
                    connection.auto_open = 0
                    return connection
            raise self._unreachable(str(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=seconds, blocksize=BLOCK)

    def _response(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        try:
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(str(error)) from error

    def _done(self, connection: http.client.HTTPConnection) -> bytes:
        """The whole answer to what was asked; the connection is kept for the next question."""
        try:
            response = self._response(connection)
        except BaseException:
            connection.close()
            raise
        return self._whole(connection, response)

    def _whole(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> bytes:
        whole = False
        try:
            data = response.read(LARGEST_ANSWER)
            whole = response.isclosed() and not response.will_close and bool(connection.auto_open)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(str(error)) from error
        finally:
            if whole:
                self._idle.keep(connection)
            else:
                connection.close()
        if response.status in REDIRECTS:
            raise self._moved(response.headers.get("location", ""))
        if response.status >= 400:
            raise _error(response.status, data)
        return data

    def _address(self, path: str) -> str:
        return f"{self._parts.path.rstrip('/')}{path}"

    def _unreachable(self, reason: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"the server at {self._parts.geturl()} does not answer ({reason[:200]}). "
            "Start it with `adapters serve`, or unset ADAPTERS_URL to use the embedded registry."
        )

    def _no_registry(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"{self._parts.geturl()} answers as no registry of this release does ({str(error)[:200]}): "
            "is it a registry's address (ADAPTERS_URL), with nothing in between that answers for it?"
        )

    def _moved(self, address: str) -> ServerUnreachable:
        """Never followed: the token is for the server that was named."""
        parts = urlsplit(address)
        there = f"{parts.scheme}://{parts.netloc}" if parts.netloc else address[:200]
        return ServerUnreachable(
            f"{self._parts.geturl()} sends on to {there}, which nobody named: where that is the registry, "
            "set ADAPTERS_URL to it."
        )


def blob_address(adapter: str, file: File) -> str:
    """Where a file is sent."""
    return f"/api/v1/adapters/{adapter}/blobs/{file.digest}?path={quote(file.path)}"


def sketch_address(adapter: str, sketch: Sketch, path: str) -> str:
    """Where a file is sent whose digest is not known yet."""
    return f"/api/v1/adapters/{adapter}/uploads/{sketch}?path={quote(path)}"


class _Idle:
    """Connections that wait for the next question: a new one costs round trips, and more where it is encrypted."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, http.client.HTTPConnection]] = []
        self._process = os.getpid()

    def keep(self, connection: http.client.HTTPConnection) -> None:
        """Keep one that is between two answers."""
        if len(self._kept) < IDLE and os.getpid() == self._process:
            self._kept.append((time.monotonic(), connection))
        else:
            connection.close()

    def taken(self) -> http.client.HTTPConnection | None:
        """The one used last, unless that was too long ago; never one that a forked process has too."""
        while self._kept and os.getpid() == self._process:
            with suppress(IndexError):  # another thread was quicker
                at, connection = self._kept.pop()
                if time.monotonic() - at < IDLE_SECONDS:
                    return connection
                connection.close()
        return None

    def __del__(self) -> None:
        for _, connection in self._kept:
            connection.close()


class _Body(io.RawIOBase):
    """The bytes of an answer; closing it closes the connection."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._response.read(None if size < 0 else size)
        except (OSError, http.client.HTTPException) as error:
            raise ServerUnreachable(f"the server stopped sending a file ({error}); try again.") from error
        if not data and size and self._response.length:
            raise ServerUnreachable(
                f"the server stopped {self._response.length:,} bytes before a file's end; try again."
            )
        return data

    def close(self) -> None:
        self._connection.close()
        super().close()


def _error(status: int, data: bytes) -> RegistryError:
    """The error of the tree that a problem document names."""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
        problems = msgspec.convert(document.get("problems") or [], type=tuple[Problem, ...])
        code, text = str(document["code"]), str(document["detail"])
    except (msgspec.MsgspecError, KeyError):
        return ServerUnreachable(f"the server answered {status} and no reason; is ADAPTERS_URL a registry's address?")
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RegistryError))
    found = next((kind for kind in kinds if getattr(kind, "code", "") == code), errors.InvalidInput)
    error = found.__new__(found)
    RegistryError.__init__(error, text, problems=problems)
    return error
