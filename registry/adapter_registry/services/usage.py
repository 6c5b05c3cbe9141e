"""How the store's bytes are used: by which adapters, what is shared, and what a collection would do and why."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.ports import Backend
from adapter_registry.domain.views.usage import Used
from adapter_registry.services.collect import GRACE_SECONDS, READ_BATCH, batches, before, in_use

MOST = 1_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of what whoever asks may read.

    Attributes:
        items: a line for each adapter, most bytes first; 1,000 at most.
        adapters: how many there are.
        pushed: bytes of all files of all versions, each counted as often as it was pushed.
        stored: bytes that are kept for them, each counted once.
    """

    items: tuple[Used, ...]
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


def usage(backend: Backend) -> Usage:
    """Bytes of each adapter that whoever asks may read; reads every file's row."""
    with backend.catalog.reading() as tx:
        lines, stored = tx.blobs.used(backend.asks.scopes)
    ordered = sorted(lines, key=lambda line: (-line.pushed, line.adapter))
    return Usage(tuple(ordered[:MOST]), len(ordered), sum(line.pushed for line in ordered), stored)


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
