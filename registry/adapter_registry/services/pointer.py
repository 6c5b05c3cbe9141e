"""What a stage points to, signed; and waiting for it to move."""

from __future__ import annotations

import time

from adapter_registry.domain.ports import Backend
from adapter_registry.domain.promotions.pointer import Pointer, SignedPointer, expiring, public_key, signed
from adapter_registry.services.first_admin import server_secret
from adapter_registry.services.references import no_adapter, nothing_there

LONGEST_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.25
SECRET = "pointers"  # noqa: S105  the name of one


def pointer(
    backend: Backend, *, adapter: str, stage: str, after: int | None = None, wait_seconds: float = 0.0
) -> SignedPointer:
    """What a stage points to now, signed, counted and expiring; or as soon as it moved on.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        stage: `prod`.
        after: wait for a sequence above this one.
        wait_seconds: how long, up to 60; what is true then is answered, moved or not.

    Raises:
        NotFound: the stage points to nothing.
    """
    with backend.catalog.reading() as tx:
        tx.stages.ladder().check(stage, adapter)
    deadline = time.monotonic() + min(wait_seconds, LONGEST_WAIT_SECONDS)
    while not moved(backend, adapter=adapter, stage=stage, after=after) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return signed(_pointer(backend, adapter, stage), seed=_seed(backend))


def moved(backend: Backend, *, adapter: str, stage: str, after: int | None) -> bool:
    """Whether the stage's sequence is above `after`."""
    if after is None:
        return True
    with backend.catalog.reading() as tx:
        current = tx.stages.current(adapter, stage)
    return current is not None and current.sequence > after


def key(backend: Backend) -> str:
    """The public key, in hex, that pointers of this registry are signed with."""
    return public_key(_seed(backend))


def _pointer(backend: Backend, adapter: str, stage: str) -> Pointer:
    with backend.catalog.reading() as tx:
        current = tx.stages.current(adapter, stage)
        version = tx.versions.numbered(adapter, current.number) if current else None
        if current is None or version is None:
            if tx.versions.spelled(adapter) != adapter:
                raise no_adapter(tx, adapter)
            raise nothing_there(adapter, stage)
    now = backend.clock()
    return Pointer(
        adapter,
        stage,
        current.sequence,
        version.number,
        version.digest,
        version.base,
        moved_at=current.at,
        issued_at=now,
        expires_at=expiring(now),
    )


def _seed(backend: Backend) -> str:
    return server_secret(backend, name=SECRET)
