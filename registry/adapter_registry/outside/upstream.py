"""Asking the hub that repositories which are not here are passed on to: bounded in time, constant in memory.

Only the configured token is ever sent, and only to the hub's own origin. What the hub redirects to elsewhere, as hubs
do with large files, is fetched here; a hub with a public address cannot lead to a private one.
"""

from __future__ import annotations

import http.cookiejar
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio
import httpx2

from adapter_registry.domain.errors import InvalidReference, RegistryError
from adapter_registry.outside.delivery import refusal

CONNECT_SECONDS = 4.0
HEADERS_SECONDS = 8.0
"""Until an answer begins, redirects included: clients give a HEAD ten seconds, and then use their cache in silence."""
SILENCE_SECONDS = 30.0
"""How long a body may pause."""
MOST_REDIRECTS = 5
MOST_CONNECTIONS = 256
MOST_HUBS = 4
"""Registries in a row that pass a request on, before it is taken for going in a circle."""
VIA = "adapter-registry"
_REDIRECTS = (301, 302, 303, 307, 308)
_KEPT = ("x-repo-commit", "etag", "x-linked-etag", "x-linked-size")
_TOTAL = re.compile(r"bytes \d+-\d+/(\d+)")


class UpstreamFailed(RegistryError):
    """The hub that repositories are passed on from does not answer, or not as a hub does.

    No 5xx: Hub clients would ask again for half a minute per file before they say so, or use what they have.
    """

    code: ClassVar[str] = "upstream-failed"
    status: ClassVar[int] = 424
    exit_code: ClassVar[int] = 1


class UpstreamErred(UpstreamFailed):
    """The hub that repositories are passed on from has an error of its own; it may be gone when it is asked again."""

    code: ClassVar[str] = "upstream-erred"
    status: ClassVar[int] = 502


@dataclass(slots=True)
class Reply:
    """The beginning of an answer.

    Attributes:
        status: of HTTP, after redirects.
        headers: of the last answer.
        told: what the hub itself said of the file, whoever sends its bytes: commit, entity tags, size.
        response: for the body; closed by `close`.
    """

    status: int
    headers: Mapping[str, str]
    told: dict[str, str]
    response: httpx2.Response

    async def close(self) -> None:
        """Hang up; whatever was not read is not sent any more."""
        with anyio.CancelScope(shield=True):
            await self.response.aclose()

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, undecoded."""
        return self.response.aiter_raw()

    async def read(self, limit: int) -> bytes:
        """The whole body, and hang up.

        Raises:
            UpstreamFailed: more than `limit` bytes, or it broke off or took too long.
        """
        held = bytearray()
        try:
            with anyio.fail_after(SILENCE_SECONDS):
                async for piece in self.response.aiter_bytes():
                    held += piece
                    if len(held) > limit:
                        raise UpstreamFailed(f"its answer has more than {limit:,} bytes.")
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError) as error:
            raise UpstreamFailed(f"its answer broke off ({type(error).__name__}).") from error
        finally:
            await self.close()
        return bytes(held)


def check_hub(url: str) -> str:
    """A hub's address without a slash at its end.

    Raises:
        InvalidReference: not http(s)://host[:port][/path].
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or parts.username or parts.query or parts.fragment:
        raise InvalidReference(
            f"ADAPTERS_UPSTREAM_HUB is {url[:200]!r}; it is an address such as https://huggingface.co."
        )
    return url.rstrip("/")


class Upstream:
    """The hub at a URL.

    Args:
        url: its address.
        token: sent to it and to nobody else; None to ask without one.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = check_hub(url)
        self.name = urlsplit(self.url).netloc
        self._token = token
        self._client: httpx2.AsyncClient | None = None

    @property
    def has_token(self) -> bool:
        """Whether it is asked with a token."""
        return self._token is not None

    async def ask(
        self, method: str, target: str, *, headers: Mapping[str, str], via: str = "", content: bytes | None = None
    ) -> Reply:
        """The answer to a request, redirects followed; the caller closes it.

        Args:
            method: of HTTP.
            target: path below the hub's address, encoded, with query.
            headers: sent to every host on the way: no secrets.
            via: the `Via` header that the request came with; how many registries it names is passed on.
            content: the body.

        Raises:
            UpstreamFailed: no answer in time, a redirect to where none may lead, a circle.
        """
        passed = via.count(VIA)
        if passed >= MOST_HUBS:
            raise UpstreamFailed("the request goes in a circle: one of these registries has another's address.")
        own = {"Accept-Encoding": "identity", "User-Agent": VIA, "Via": ", ".join([f"1.1 {VIA}"] * (passed + 1))}
        sent = {**headers, **own}
        try:
            with anyio.fail_after(HEADERS_SECONDS):
                return await self._followed(method, f"{self.url}{target}", sent, content)
        except TimeoutError as error:
            raise UpstreamFailed(f"it did not answer within {HEADERS_SECONDS:.0f} seconds.") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = str(error)[:200] or type(error).__name__
            raise UpstreamFailed(f"it cannot be reached, or its answer is no HTTP ({reason}).") from error

    async def _followed(self, method: str, url: str, headers: dict[str, str], content: bytes | None) -> Reply:
        told: dict[str, str] = {}
        for _ in range(MOST_REDIRECTS + 1):
            own = _origin(url) == _origin(self.url)
            response = await self._sent(method, url, headers, content, own=own)
            if own:
                told |= {name: response.headers[name] for name in _KEPT if name in response.headers}
            if response.status_code not in _REDIRECTS:
                return await self._ended(response, told, own=own)
            await response.aclose()
            url = await self._next(url, response.headers.get("location", ""))
            if method == "HEAD" and _origin(url) != _origin(self.url):
                if "x-linked-size" in told:
                    return Reply(200, {}, told, response)
                # An address that is signed for GET refuses HEAD; its first byte tells the size.
                method, headers = "GET", {**headers, "Range": "bytes=0-0"}
        raise UpstreamFailed(f"it redirects more than {MOST_REDIRECTS} times.")

    async def _ended(self, response: httpx2.Response, told: dict[str, str], *, own: bool) -> Reply:
        total = _TOTAL.fullmatch(response.headers.get("content-range", ""))
        if total:
            told["size"] = total[1]
        elif own and response.request.method == "HEAD" and "content-length" in response.headers:
            told["size"] = response.headers["content-length"]
        return Reply(response.status_code, response.headers, told, response)

    async def _sent(
        self, method: str, url: str, headers: dict[str, str], content: bytes | None, *, own: bool
    ) -> httpx2.Response:
        secret = {"Authorization": f"Bearer {self._token}"} if own and self._token else {}
        client = self._opened()
        request = client.build_request(method, url, headers={**headers, **secret}, content=content if own else None)
        try:
            return await client.send(request, stream=True, follow_redirects=False)
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            # A kept connection that the other side closed meanwhile; what is asked here can be asked twice.
            return await client.send(request, stream=True, follow_redirects=False)

    def _opened(self) -> httpx2.AsyncClient:
        """One client for all requests of this process, made in its event loop; it keeps connections, and no cookies."""
        if self._client is None:
            timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=HEADERS_SECONDS)
            limits = httpx2.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=32)
            none = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
            self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, cookies=none)
        return self._client

    async def _next(self, url: str, location: str) -> str:
        """Where a redirect leads.

        Raises:
            UpstreamFailed: nowhere that may be asked.
        """
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            downgraded = urlsplit(url).scheme == "https" and parts.scheme != "https"
            if not location or parts.scheme not in ("http", "https") or not parts.hostname or downgraded:
                raise UpstreamFailed(f"it redirects to {target[:100]!r}, which is not followed.")
            outside = _origin(target) != _origin(self.url)
        except ValueError as error:
            raise UpstreamFailed(f"it redirects to {location[:100]!r}, which is no address.") from error
        if outside:
            await self._require_allowed(parts)
        return target

    async def _require_allowed(self, parts: SplitResult) -> None:
        private = any(refusal(address, allow_private=False) for address in await _addresses(urlsplit(self.url)))
        for address in await _addresses(parts):
            if reason := refusal(address, allow_private=private):
                raise UpstreamFailed(f"it redirects to {parts.hostname}, {reason}: that is not followed.")


async def _addresses(parts: SplitResult) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses of a host; none when this machine cannot tell, as behind a proxy."""
    try:
        found = await anyio.getaddrinfo(parts.hostname or "", parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found]


def _origin(url: str) -> tuple[Any, ...]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
