"""Refusals on the record: what was attempted and not done is an event too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import (
    Conflict,
    Forbidden,
    InUse,
    InvalidInput,
    PromotionRefused,
    RegistryError,
    Revoked,
    SignatureRefused,
)
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import Reference
from adapter_registry.services.references import version_of

About = Callable[[Transaction], tuple[str, dict[str, Any]]]
"""(subject, detail) of the event, looked up when it comes to one."""

_REFUSALS = (Conflict, Forbidden, InUse, InvalidInput, PromotionRefused, Revoked, SignatureRefused)
"""What stands in the log when it is attempted in vain; what names nothing that exists is about nothing there."""


@contextmanager
def recorded(backend: Backend, action: str, about: About) -> Iterator[None]:
    """Pass refusals of what is done inside on, each after an event of it.

    What is done inside has to end its own transaction: the event is written in another.
    """
    try:
        yield
    except _REFUSALS as refused:
        with backend.catalog.writing() as tx:
            subject, detail = about(tx)
            told = {**detail, "because": refused.text}
            tx.events.append(Entry(action, subject, Outcome.REFUSED, backend.actor, backend.clock(), told))
        raise


def of_version(reference: Reference, **detail: Any) -> About:
    """About the version that a reference means; about its adapter when it means none."""

    def about(tx: Transaction) -> tuple[str, dict[str, Any]]:
        try:
            version = version_of(tx, reference)
        except RegistryError:
            return reference.adapter, detail
        return version.reference, {"digest": version.digest, **detail}

    return about


def of_request(tx: Transaction, request: int, adapter: str, **detail: Any) -> tuple[str, dict[str, Any]]:
    """About a request's version; about the adapter when there is no such request for it."""
    found = tx.requests.get(request)
    if found is None or found.adapter != adapter:
        return adapter, detail
    return found.reference, {"request": found.name, "digest": found.version, **detail}
