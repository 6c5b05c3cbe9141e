"""Requests byte by byte, as no well-behaved client sends them, and what every answer has to be whatever was asked."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from adapter_registry.domain.errors import RegistryError

SECONDS = 30
"""An answer that takes longer is a hang."""
CODES = {kind.code for kind in RegistryError.__subclasses__()}
HUB_CODES = {None, "RepoNotFound", "RevisionNotFound", "EntryNotFound"}


@dataclass(frozen=True)
class Answer:
    """One response; `status` 0 when the server hung up instead."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def lasting(self) -> tuple[int, dict[str, str], bytes]:
        """What two answers to the same question have in common."""
        passing = ("date", "x-request-id")
        return self.status, {k: v for k, v in self.headers.items() if k not in passing}, self.body


def speak(url: str, data: bytes | Iterable[bytes], *, method: str = "GET", keep_open: bool = True) -> Answer:
    """Send bytes, read one answer."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as channel:
        try:
            for piece in (data,) if isinstance(data, bytes) else data:
                channel.sendall(piece)
            if not keep_open:
                channel.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it answered before it had read everything
        return _read(channel, method)


def _read(channel: socket.socket, method: str) -> Answer:
    response = http.client.HTTPResponse(channel, method=method)
    try:
        response.begin()
        body = response.read()
    except (http.client.BadStatusLine, ConnectionResetError):
        return Answer(0, {}, b"")
    except http.client.IncompleteRead as error:
        body = error.partial
    return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, body)


def ask(
    url: str,
    method: str,
    target: str | bytes,
    *,
    token: str = "",
    body: bytes | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Answer:
    """One request with exactly this target; nothing is escaped, merged or added beside Host and Content-Length."""
    lines = [(name, value) for name, value in headers]
    names = {name.lower() for name, _ in lines}
    if "host" not in names:
        lines.insert(0, ("Host", urlsplit(url).netloc))
    if token:
        lines.append(("Authorization", f"Bearer {token}"))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(("Content-Length", str(len(body))))
    lines.append(("Connection", "close"))
    raw = target if isinstance(target, bytes) else target.encode("utf-8", "surrogateescape")
    head = b"%s %s HTTP/1.1\r\n" % (method.encode(), raw)
    head += b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in lines)
    return speak(url, head + b"\r\n" + (body or b""), method=method)


def proper(answer: Answer, method: str, target: str | bytes) -> Answer:
    """The answer, if it is one that a program may meet: never a defect, and errors in the form of their protocol."""
    shown = (method, target, answer)
    assert 200 <= answer.status < 500, shown
    assert "x-request-id" in answer.headers, shown
    assert answer.headers.get("x-content-type-options") == "nosniff", shown
    assert b"Traceback" not in answer.body, shown
    path = target.decode("latin-1") if isinstance(target, bytes) else target
    if unquote(path).startswith("/ui/"):
        assert "default-src 'none'" in answer.headers.get("content-security-policy", ""), shown
        return answer
    assert not answer.headers.get("content-type", "").startswith("text/html"), shown
    if answer.status < 400 or method == "HEAD":
        return answer
    if unquote(path.partition("?")[0]).startswith("/api/v1/"):
        native(answer, shown)
    else:
        hub(answer, shown)
    return answer


def native(answer: Answer, shown: object) -> None:
    """A problem document, RFC 9457, with a code that the docs list."""
    if answer.headers["content-type"] == "application/vnd.git-lfs+json":
        assert answer.json["message"], shown
        return
    assert answer.headers["content-type"] == "application/problem+json", shown
    document = answer.json
    assert document["status"] == answer.status, shown
    assert document["code"] in CODES, shown
    assert document["detail"], shown


def hub(answer: Answer, shown: object) -> None:
    """What Hub clients read: a text in the body and, unless it is a list, in a header; a code they know or none."""
    assert answer.headers["content-type"] == "application/json", shown
    document = answer.json
    assert answer.headers.get("x-error-code") in HUB_CODES, shown
    assert document.get("error") or document.get("errors"), shown
    if "\n-" not in document.get("error", "\n-"):
        assert answer.headers["x-error-message"], shown


def several_answers(url: str, data: bytes, *, seconds: float) -> list[int]:
    """The statuses of everything that is answered on one connection until it is closed."""
    address = urlsplit(url)
    received = io.BytesIO()
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as channel:
        try:
            channel.sendall(data)
            while piece := channel.recv(65536):
                received.write(piece)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received.getvalue())]


def head(url: str, token: str, first: str, *headers: str) -> bytes:
    """The head of a request, written as it is."""
    lines = [
        first,
        f"Host: {urlsplit(url).netloc}",
        f"Authorization: Bearer {token}",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")
