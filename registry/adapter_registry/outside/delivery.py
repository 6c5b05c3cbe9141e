"""Posting a message to a URL that somebody else chose: to public addresses only, once, briefly.

The host is resolved once; every address it has is checked, and the connection goes to an address that was checked, so
neither spelling (decimal, octal, IPv4 in IPv6) nor a second answer of the name server leads elsewhere. Redirects are
failures. Environment proxies are not used. The whole exchange has one deadline.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.webhooks.webhook import check_url

TIMEOUT_SECONDS = 10.0
LONGEST_ANSWER = 4_096
"""Bytes of an answer that are read, headers included."""
DRAIN_SECONDS = 1.0
"""How long the rest of an answer is awaited once its status is known."""
MOST_ADDRESSES = 4
"""Addresses of one host that are tried."""

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""(host, port) -> addresses as text; raises OSError or UnicodeError when there is none."""

_NETWORK = ipaddress.ip_network
_METADATA = tuple(
    map(
        _NETWORK,
        # Link-local (AWS, GCP, Azure, ...), AWS over IPv6, Alibaba, Oracle, Azure's wire server.
        (
            "169.254.0.0/16",
            "fe80::/10",
            "fd00:ec2::254/128",
            "100.100.100.200/32",
            "192.0.0.192/32",
            "168.63.129.16/32",
        ),
    )
)
_PRIVATE = tuple(
    map(
        _NETWORK,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"),
    )
)
PRIVATE = "a private address"
_GLOBAL_IPV6 = _NETWORK("2000::/3")
_RESERVED = tuple(
    map(
        _NETWORK,
        # Protocol assignments and Teredo, documentation, 6to4 and its relays: registered by IANA for no one's server.
        ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_NAT64 = _NETWORK("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of sending.

    Attributes:
        status: HTTP status; None when there was no answer.
        error: why it counts as failed, one sentence; empty for 2xx.
    """

    status: int | None
    error: str = ""


class _Refused(Exception):
    """The message is not sent; the text says why, and never which address a name has."""


def send(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    timeout_seconds: float = TIMEOUT_SECONDS,
    resolve: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Post `body` to `url`; never raises for what the other side or the network does.

    Args:
        url: as `webhook.check_url` accepts it.
        body: what is posted.
        headers: what `webhook.headers` made; Host, Content-Length, Connection and User-Agent are set here.
        allow_private: whether loopback and private networks (RFC 1918, RFC 6598, unique local) may be reached, for
            receivers in one's own network. Link-local, metadata, multicast and reserved addresses never are.
        timeout_seconds: for everything together: resolving, connecting, sending and the answer's status.
        resolve: (host, port) -> addresses; default: the system's.
        tls: for https; default: the system's certificate authorities, host name checked.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        parts = urlsplit(check_url(url))
        addresses = _checked(_resolved(parts, resolve or _look_up, deadline), allow_private=allow_private)
        with contextlib.closing(_connected(addresses, parts, tls, deadline)) as channel:
            return _judged(_exchange(channel, parts, body, headers))
    except _Refused as error:
        return Answer(None, str(error))
    except InvalidInput as error:
        return Answer(None, error.text)
    except TimeoutError:
        return Answer(None, f"no answer within {timeout_seconds:g} seconds.")
    except ssl.SSLError as error:
        return Answer(None, f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or error}."[:300])
    except OSError as error:
        return Answer(None, f"the connection failed: {error.strerror or error or type(error).__name__}."[:300])
    except http.client.HTTPException:
        # Without what it said: the greeting of something that is no web server is nobody's to read from here.
        return Answer(None, "what answered does not speak HTTP.")


def refusal(address: Address, *, allow_private: bool) -> str:
    """Why nothing is sent to `address`, e.g. `a private address`; empty when something may be."""
    inner = _inside(address)
    if any(inner in network for network in _METADATA):
        return "a link-local or metadata address"
    if any(inner in network for network in _PRIVATE):
        return "" if allow_private else PRIVATE
    if inner.is_multicast or inner.is_unspecified or inner.is_reserved or any(inner in each for each in _RESERVED):
        return "a multicast or reserved address"
    if not inner.is_global or (inner.version == 6 and inner not in _GLOBAL_IPV6):
        return "an address that is not public"
    return ""


def _inside(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for (mapped, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _left(deadline: float) -> float:
    """Seconds until `deadline`; TimeoutError when it has passed (0 would mean "do not block")."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _look_up(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


def _resolved(parts: SplitResult, resolve: Resolver, deadline: float) -> Sequence[str]:
    """The host's addresses. In a thread of its own: the system's resolver knows no deadline."""
    answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()
    host, port = parts.hostname or "", _port(parts)

    def ask() -> None:
        try:
            answers.put(resolve(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=_left(deadline))
    except queue.Empty:
        raise _Refused(f"{host} was not resolved in time.") from None
    if isinstance(answer, Exception) or not answer:
        raise _Refused(f"{host} cannot be resolved.")
    return answer


def _checked(texts: Sequence[str], *, allow_private: bool) -> list[Address]:
    """The addresses, each once; refused as soon as one of them is: a name with both kinds is an attack or a mistake."""
    addresses = list(dict.fromkeys(ipaddress.ip_address(text.partition("%")[0]) for text in texts))
    for address in addresses:
        if reason := refusal(address, allow_private=allow_private):
            way_out = " (ADAPTERS_WEBHOOKS_PRIVATE=1 on the server allows it)" if reason == PRIVATE else ""
            raise _Refused(f"the URL's host has {reason}, which no webhook is sent to{way_out}.")
    return addresses[:MOST_ADDRESSES]


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


class _Channel:
    """A connected socket whose sending and reading share one deadline; stands in for a socket in http.client."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self.deadline = deadline

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(_left(self.deadline))
            rest = rest[self._socket.send(rest[:16_384]) :]

    def receive(self, buffer: memoryview) -> int:
        self._socket.settimeout(_left(self.deadline))
        return self._socket.recv_into(buffer)

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Bounded(self))

    def close(self) -> None:
        self._socket.close()


class _Bounded(io.RawIOBase):
    """The first LONGEST_ANSWER bytes of what arrives; after them, the end."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._rest = LONGEST_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = self._channel.receive(memoryview(buffer)[: self._rest]) if self._rest else 0
        self._rest -= count
        return count


def _connected(
    addresses: Sequence[Address], parts: SplitResult, tls: ssl.SSLContext | None, deadline: float
) -> _Channel:
    raw = _dialled(addresses, _port(parts), deadline)
    if parts.scheme == "http":
        return _Channel(raw, deadline)
    try:
        raw.settimeout(_left(deadline))
        # The handshake as a whole has the socket's timeout, unlike single reads.
        wrapped = (tls or ssl.create_default_context()).wrap_socket(raw, server_hostname=parts.hostname)
    except BaseException:
        raw.close()
        raise
    return _Channel(wrapped, deadline)


def _dialled(addresses: Sequence[Address], port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes it; each gets its share of the time."""
    failure: OSError = OSError("no address")
    for index, address in enumerate(addresses):
        try:
            share = _left(deadline) / (len(addresses) - index)
            return socket.create_connection((str(address), port), timeout=share)
        except OSError as error:
            failure = error
    raise failure


def _exchange(channel: _Channel, parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> int:
    """The answer's status. What follows the status is awaited for politeness and decides nothing."""
    connection = http.client.HTTPConnection(parts.hostname or "", _port(parts))
    connection.sock = channel
    sent = {**headers, "Host": parts.netloc, "Connection": "close", "User-Agent": "adapter-registry"}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("POST", target, body=body, headers=sent)
    answer = http.client.HTTPResponse(channel, method="POST")  # type: ignore[arg-type]
    with contextlib.closing(answer):
        answer.begin()
        channel.deadline = min(channel.deadline, time.monotonic() + DRAIN_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            answer.read(LONGEST_ANSWER)
        return answer.status


def _judged(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(status)
    if 300 <= status < 400:
        return Answer(status, f"answered {status}, a redirect; none is followed. Register the URL it leads to.")
    return Answer(status, f"answered {status}.")
