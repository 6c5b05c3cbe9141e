"""The first administrator, the way back in for who reaches the store itself, and secrets that its processes share."""

from __future__ import annotations

import secrets

from adapter_registry.domain.audit.event import Entry
from adapter_registry.domain.people.access import SYSTEM, grant_of
from adapter_registry.domain.people.account import Account, AccountKind
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.services.access import NewToken, entry, issued

ADMIN = "admin"
_ALL = (grant_of("*", ("admin",)),)


def bootstrap(backend: Backend) -> str | None:
    """The one-time token of a fresh registry's administrator; None when there is an account already."""
    with backend.catalog.writing() as tx:
        if tx.accounts.all(limit=1):
            return None
        made = _first_admin(backend, tx, label="first start")
    return made.secret


def rescue(backend: Backend) -> NewToken:
    """A token of the administrator for who can reach the store itself, so for nobody through a server.

    The account is made where there is none, and gets its rights and its way in back where they were taken.
    """
    with backend.catalog.writing() as tx:
        known = tx.accounts.get(ADMIN)
        if known is None:
            return _first_admin(backend, tx, label="adapters admin token")
        if known.grants != _ALL:
            tx.accounts.change(ADMIN, grants=_ALL)
            tx.events.append(_all_granted(backend))
        if known.disabled_at:
            tx.accounts.change(ADMIN, disabled_at="")
            tx.events.append(entry(backend, "account.disable", ADMIN, {"disabled": False}))
        made = issued(backend, tx, ADMIN, "adapters admin token", None, None)
        tx.events.append(entry(backend, "token.create", ADMIN, {"token": made.token.id, "label": made.token.label}))
    return made


def _first_admin(backend: Backend, tx: Transaction, *, label: str) -> NewToken:
    tx.accounts.add(Account(ADMIN, AccountKind.PERSON, _ALL, SYSTEM.name, backend.clock()), password=None)
    made = issued(backend, tx, ADMIN, label, None, None)
    tx.events.append(entry(backend, "account.create", ADMIN, {"kind": "person", "token": made.token.id}))
    tx.events.append(_all_granted(backend))
    return made


def _all_granted(backend: Backend) -> Entry:
    """The event that the administrator's account has every right, and none beside."""
    grants = [{"scope": each.scope, "verbs": list(each.verbs)} for each in _ALL]
    return entry(backend, "account.grant", ADMIN, {"grants": grants})


def server_secret(backend: Backend, *, name: str) -> str:
    """A random secret that every process of this registry shares; made on first use."""
    with backend.catalog.reading() as tx:
        known = tx.accounts.secret(name)
    if known is None:
        with backend.catalog.writing() as tx:
            tx.accounts.keep_secret(name, secrets.token_hex(32))
            known = tx.accounts.secret(name)
    return known or ""
