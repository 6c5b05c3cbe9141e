"""How the store's bytes are used: by which adapters, what is shared, and what a collection would do and why."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.views.usage import Used
from adapter_registry.services.collect import GRACE_SECONDS, READ_BATCH, batches, before, in_use

PAGE = 1_000
"""Lines of a page at most."""
LONGEST_PLACE = 20
"""Digits of a number of bytes."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of what whoever asks may read.

    Attributes:
        items: a line for each adapter, most bytes first.
        next: where the page after begins; None after the last.
        adapters: how many adapters with versions there are.
        pushed: bytes of all files of all versions, each counted as often as it was pushed.
        stored: the same, equal files of one adapter counted once. What two adapters share counts for both.
    """

    items: tuple[Used, ...]
    next: str | None
    adapters: int
    pushed: int
    stored: int


@dataclass(frozen=True, slots=True)
class Share:
    """Blobs of one fate: why they stay, or `free` for what a collection removes."""

    why: str
    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a collection would do now, by the reason; what is kept for several counts for the first of them."""

    shares: tuple[Share, ...]
    grace_seconds: float


def usage(backend: Backend, *, after: str = "", limit: int = PAGE) -> Usage:
    """Bytes of each adapter that whoever asks may read, most first, a page at a time.

    Args:
        backend: the registry.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.

    Raises:
        InvalidInput: `after` is no such place.
    """
    most, (digits, space, _) = min(max(limit, 1), PAGE), after.partition(" ")
    if after and not (space and digits.isascii() and digits.isdigit() and len(digits) < LONGEST_PLACE):
        raise InvalidInput(f"{after[:40]!r} is no place in this list; begin at its start, or with `next` of a page.")
    with backend.catalog.reading() as tx:
        lines = tx.blobs.used(backend.asks.scopes, after=after, limit=most + 1)
        total = tx.blobs.used_in_all(backend.asks.scopes)
    further = lines[most - 1].place if len(lines) > most else None
    return Usage(lines[:most], further, total.adapters, total.pushed, total.stored)


def plan(backend: Backend, *, grace_seconds: float = GRACE_SECONDS) -> Plan:
    """What `collect` would free, and why the rest is kept; nothing is changed. Lists the whole store.

    Raises:
        InvalidInput: a grace that is none.
    """
    cutoff = before(backend, grace_seconds)
    ages = dict(backend.blobs.each())
    found: dict[str, list[int]] = {}
    with backend.catalog.reading() as tx:
        for some in batches(list(ages), READ_BATCH):
            uses = in_use(tx, some, cutoff)
            for digest in some:
                young = ages[digest] < grace_seconds
                why = next((name for name, digests in uses.items() if digest in digests), "")
                found.setdefault(why or ("just arrived" if young else "free"), []).append(
                    backend.blobs.size(digest) or 0
                )
    shares = (Share(why, len(sizes), sum(sizes)) for why, sizes in found.items())
    return Plan(tuple(sorted(shares, key=lambda share: (share.why != "free", -share.bytes))), grace_seconds)
