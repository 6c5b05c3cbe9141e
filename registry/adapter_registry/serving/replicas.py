"""Servers that serve adapters over HTTP: asked what they serve, made to load, and asked a prompt."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any, Protocol

import httpx2

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.serving.fingerprint import Fingerprint

SECONDS = 10.0
"""How long a server may take to say what it serves."""
LOAD_SECONDS = 300.0
"""How long it may take to load, unload or answer a prompt; SGLang waits for running requests."""
NOT_NOW = frozenset({429, 502, 503, 504})
"""Answers of a server that has too much to do, or of a proxy before one that is silent: they say nothing of a version.

500 is none of them: vLLM answers it to what it does not load.
"""
MOST_BYTES = 4 << 20
"""Of an answer; a server with ten thousand adapters says so in less."""


class ReplicaRefused(Exception):
    """A server did not do what it was asked; the text says which, what, and its answer."""


class ReplicaSilent(ReplicaRefused):
    """A server did not answer: it may well do so a moment later."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model of a server's `/v1/models`.

    Attributes:
        name: that requests use; EVERY for what every request gets.
        root: the path or name it was loaded from; empty where the server does not say.
        parent: the model that an adapter is of; empty for a base.
    """

    name: str
    root: str
    parent: str = ""


EVERY = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a server asks for.

    Attributes:
        user: its API key, for what serves.
        admin: for what loads, where that takes another.
    """

    user: str | None = None
    admin: str | None = None


class Replica(Protocol):
    """One server; every method but `served` raises ReplicaRefused."""

    url: str

    def served(self) -> tuple[Served, ...]:
        """What it serves; raises StoreUnavailable."""

    def load(self, name: str, path: str, *, instead_of: str | None, stacked: bool = False) -> None:
        """Serve `name` from `path`, which replaces `instead_of`; `stacked`: it is an adapter of stacks of experts."""

    def unload(self, name: str) -> None:
        """Serve `name` no more."""

    def answer(self, name: str | None, prompt: str) -> Fingerprint:
        """What an adapter, or the base alone, answers."""


class Http:
    """What the stacks have in common."""

    def __init__(self, url: str, keys: Keys) -> None:
        self.url, self._keys = url, keys

    def served(self) -> tuple[Served, ...]:
        """What it serves; raises StoreUnavailable."""
        return served_by(self.url, key=self._keys.user)

    def base(self) -> str:
        """The name of the model that adapters are of."""
        try:
            return next(each.name for each in self.served() if not each.parent)
        except StoreUnavailable as error:
            raise ReplicaSilent(error.text) from error
        except StopIteration as error:
            raise ReplicaRefused(f"{self.url}/v1/models names no base model") from error

    def manage(self, route: str, body: Any) -> None:
        """Have it change what it serves."""
        self._post(route, body, self._keys.admin or self._keys.user)

    def read(self, route: str, body: Any) -> Any:
        """The JSON that it answers to a request."""
        try:
            return json.loads(self._post(route, body, self._keys.user))
        except (ValueError, RecursionError) as error:
            raise ReplicaRefused(f"{self.url}{route} answered something other than JSON") from error

    def _post(self, route: str, body: Any, key: str | None) -> bytes:
        try:
            status, data = asked("POST", f"{self.url}{route}", key=key, seconds=LOAD_SECONDS, body=body)
        except (httpx2.HTTPError, TimeoutError) as error:
            raise ReplicaSilent(f"{self.url}{route} does not answer ({_failure(error)})") from error
        if not 200 <= status < 300:
            kind = ReplicaSilent if status in NOT_NOW else ReplicaRefused
            raise kind(f"{self.url}{route} answered {status}: {data[:300].decode(errors='replace')}")
        return data


def served_by(url: str, *, key: str | None = None) -> tuple[Served, ...]:
    """What the server at `url` serves now.

    Raises:
        StoreUnavailable: it does not say.
    """
    found = told_by(url, "/v1/models", key=key)
    try:
        return tuple(
            Served(str(each["id"]), str(each.get("root") or ""), str(each.get("parent") or ""))
            for each in found["data"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _silent(url, f"its answer is no list of models ({type(error).__name__})") from error


def told_by(url: str, route: str, *, key: str | None) -> Any:
    """The JSON that a server answers to a GET; raises StoreUnavailable."""
    try:
        status, data = asked("GET", f"{url}{route}", key=key, seconds=SECONDS)
        if not 200 <= status < 300:
            raise _silent(url, _why(url, route, status, key))
        return json.loads(data)
    except (httpx2.HTTPError, TimeoutError) as error:
        raise _silent(url, _failure(error)) from error
    except (ValueError, RecursionError) as error:
        raise _silent(url, "it answered something other than JSON") from error


def asked(method: str, url: str, *, key: str | None, seconds: float, body: Any = None) -> tuple[int, bytes]:
    """(status, body) of a server's answer, in bounded time and space however it comes.

    Raises:
        httpx2.HTTPError: it does not answer.
        TimeoutError: not all of the answer was there in time, or it has more than MOST_BYTES.
    """
    data = bytearray()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        _within(seconds) as extensions,
        httpx2.Client(timeout=seconds, verify=_trust()) as client,
        client.stream(method, url, json=body, headers=headers, extensions=extensions) as answer,
    ):
        for piece in answer.iter_bytes():
            data += piece
            if len(data) > MOST_BYTES:
                raise TimeoutError(f"its answer has more than {MOST_BYTES:,} bytes")
        return answer.status_code, bytes(data)


@contextmanager
def _within(seconds: float) -> Iterator[dict[str, Any]]:
    """What to send a request with, so that its connection ends after that time, whatever came until then.

    A timeout of httpx2 is of one read, and what comes byte by byte, headers too, never meets it.

    Raises:
        TimeoutError: it ended so.
    """
    streams: list[Any] = []
    over = threading.Event()

    def end() -> None:
        over.set()
        for stream in streams:
            # The plain socket's: a TLS socket would first forget its keys, under the hands of the reader.
            with suppress(OSError):
                socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)

    def trace(event: str, info: dict[str, Any]) -> None:
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            streams[:] = [info["return_value"]]
            if over.is_set():
                end()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield {"trace": trace}
    except httpx2.HTTPError as error:
        if over.is_set():
            raise TimeoutError(f"its answer did not end within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()
    if over.is_set():
        raise TimeoutError(f"its answer did not end within {seconds:g} s")


@cache
def _trust() -> ssl.SSLContext:
    """The certificates that servers are held against; reading them takes longer than a question."""
    return httpx2.create_ssl_context()


def names_in(served: Iterable[Served]) -> frozenset[str]:
    """Every name, and every part of every path, that models are served under: what may not be removed."""
    parts: set[str] = set()
    for each in served:
        parts.update((each.name, *PurePosixPath(each.name).parts, *PurePosixPath(each.root).parts))
        parts.add(each.name.rpartition(":")[2])
    return frozenset(parts)


def _why(url: str, route: str, status: int, key: str | None) -> str:
    """What an answer that says nothing may come of."""
    said = f"it answered {status} to {route}"
    if status in (401, 403):
        return f"{said}, and wants {'another key than it was sent' if key else 'a key, and no key_file is named'}"
    if status == 404 and url.endswith("/v1"):
        return f"{said}: its address is to end before /v1"
    return said


def _failure(error: Exception) -> str:
    """What kept an answer from coming."""
    return str(error)[:200] or type(error).__name__


def _silent(url: str, why: str) -> StoreUnavailable:
    return StoreUnavailable(f"{url} does not say what it serves: {why}.")
