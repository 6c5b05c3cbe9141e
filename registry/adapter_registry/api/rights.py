"""What whoever asks may do, and the record of those who may not, or could not come in."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool

from adapter_registry.api.requests import Server
from adapter_registry.domain.audit.denial import Denials
from adapter_registry.domain.errors import (
    Forbidden,
    IdentityRefused,
    InvalidInput,
    NotFound,
    RegistryError,
    Unauthorised,
)
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import parse
from adapter_registry.operation import Operation
from adapter_registry.operations import ATTEMPTS
from adapter_registry.services import access

MOST_RECORDED = 300
LOG = logging.getLogger("adapters.audit")


def require(operation: Operation, backend: Backend, given: dict[str, Any]) -> None:
    """Refuse what whoever asks may not do.

    Raises:
        NotFound: the adapter is not theirs to see; the text is that of one that does not exist.
        Forbidden: they see it and may not do this to it.
    """
    try:
        allowed = operation.allows(backend.asks, given)
        verb, adapter = operation.needs(given)
    except KeyError as error:
        raise InvalidInput(f"{operation.name} needs the argument {error.args[0]!r}.") from error
    if allowed:
        return
    if adapter is not None and not backend.asks.sees(adapter) and "namespace" not in given:
        raise NotFound(f"there is no adapter {adapter}. `adapters ls` lists what there is.")
    where = f"on {adapter}" if adapter else "on the whole registry (scope '*')"
    raise Forbidden(f"{backend.asks.name} may not do this: it takes the verb {verb!r} {where}. Nothing was changed.")


def note(denials: Denials, operation: Operation, backend: Backend, given: dict[str, Any], denied: Forbidden) -> None:
    """Put the denial of something that the audit log has on the record, unless this account has many there already."""
    action = ATTEMPTS.get(operation.name)
    if action is None:
        return
    _, adapter = operation.needs(given)
    subject = str(parse(given["reference"])) if "reference" in given else adapter or _place(given)
    left_out = denials.due(backend.asks.name, action, subject)
    if left_out is None:
        return
    named = (name for name in ("stage", "request", "group", "account") if name in given)
    told: dict[str, Any] = {name: str(given[name])[:200] for name in named}
    try:
        access.denied(backend, action, subject, {**told, "because": denied.text, "unrecorded": left_out})
    except RegistryError as error:
        LOG.warning("a denial is not on the record: %s", error.text)


def _place(given: dict[str, Any]) -> str:
    """What events of operations that are about no adapter are about."""
    return str(given.get("stage") or given.get("account") or "*")[:200]


def let_in(server: Server, name: str, password: str) -> access.NewToken:
    """A token for who knows the password; raises Unauthorised, on the record, for who does not."""
    try:
        return access.sign_in(server.backend, name=name, password=password)
    except Unauthorised as refused:
        not_let_in(server, name, refused)
        raise


@asynccontextmanager
async def on_record(server: Server, action: str) -> AsyncIterator[None]:
    """Have it on the record that an OpenID provider's word did not let somebody in; the refusal goes on."""
    try:
        yield
    except IdentityRefused as refused:
        await run_in_threadpool(not_let_in, server, refused.whose, refused, action=action)
        raise


def not_let_in(
    server: Server, name: str, refused: Unauthorised | IdentityRefused, *, action: str = "account.sign-in"
) -> None:
    """Put on the record that somebody could not sign in; all who could not are counted together, as one account is."""
    because = refused.recorded[:MOST_RECORDED] if isinstance(refused, IdentityRefused) else refused.text
    # Who comes from a provider has no name before they are let in, and is told from others by what they were told.
    left_out = server.denials.due(access.STRANGER, action, name[:100] or because)
    if left_out is None:
        return
    detail: dict[str, Any] = {"because": because, "unrecorded": left_out}
    try:
        access.not_let_in(server.backend, name=name, action=action, detail=detail)
    except RegistryError as error:
        LOG.warning("a failed sign-in is not on the record: %s", error.text)
