"""Attempts: how often a password may be tried, of one account and from one address."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from adapter_registry.domain.bucket import Bucket
from adapter_registry.domain.errors import TooMany, Unauthorised

OF_ACCOUNT, OF_ADDRESS = (30, 10.0), (10, 20.0)
"""(wrong passwords at once, seconds until one more may be tried). What one address may try is less than what an account
takes, so that nobody keeps another out from one address."""
MOST = 10_000
"""Accounts, and addresses, that are told apart; those that tried longest ago are forgotten."""


class Attempts:
    """The attempts that this process saw; only wrong passwords count."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` answers seconds that never go back."""
        self._clock, self._lock = clock, Lock()
        self._accounts: OrderedDict[str, Bucket] = OrderedDict()
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()

    @contextmanager
    def counted(self, account: str, address: str) -> Iterator[None]:
        """Hold an attempt against both, from its beginning; one that was not wrong (Unauthorised) is given back.

        Raises:
            TooMany: too many were wrong; nothing was tried.
        """
        with self._lock:
            now = self._clock()
            held = (
                _of(self._accounts, account, OF_ACCOUNT, now),
                _of(self._addresses, network_of(address), OF_ADDRESS, now),
            )
            wait = math.ceil(max(bucket.wait(now) for bucket in held))
            if wait:
                raise TooMany(
                    "too many wrong passwords for this account or from this address; nothing was tried. "
                    f"Wait {wait} s, or come in with a token.",
                    wait_seconds=wait,
                )
            for bucket in held:
                bucket.left -= 1
        wrong = False
        try:
            yield
        except Unauthorised:
            wrong = True
            raise
        finally:
            with self._lock:
                for bucket in held:
                    bucket.left += not wrong


def network_of(address: str) -> str:
    """What counts as one address: all of IPv4, the /64 of IPv6, which one household has."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    return str(known.ipv4_mapped or ipaddress.ip_network((int(known) >> 64 << 64, 64)))


def _of(buckets: OrderedDict[str, Bucket], key: str, limit: tuple[int, float], now: float) -> Bucket:
    size, seconds = limit
    found = buckets.setdefault(key, Bucket(size, seconds, now, size))
    buckets.move_to_end(key)
    if len(buckets) > MOST:
        buckets.popitem(last=False)
    return found
