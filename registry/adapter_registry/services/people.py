"""People signing in by an OpenID provider.

A client begins; the person opens a link of this server, which leads to the provider and back; the page they come back
to shows a code; the client that knows the code and its own secret gets a token. Whoever only lured somebody to a link
never sees the code, and whoever only saw the code has no secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import IdentityRefused
from adapter_registry.domain.people.access import token_hash
from adapter_registry.domain.people.account import Account, AccountKind
from adapter_registry.domain.people.sign_in import (
    CODE_LENGTH,
    CODE_LETTERS,
    MINUTES,
    MOST_TRIES,
    RESERVED_NAMES,
    Attempt,
    Identity,
    Provider,
    check_identity,
    grants_for,
    name_for,
    plain_code,
    refreshed,
)
from adapter_registry.domain.people.trust import Claims
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.ports.identity import Identities
from adapter_registry.services.access import SIGN_IN_HOURS, NewToken, issued, known_account

_RANDOM = re.compile(r"[A-Za-z0-9_-]{20,100}")
_OVER = "this sign-in is over, was used, or never began here. Begin again: `adapters login`."


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in under way.

    Attributes:
        link: the last part of the address that the person opens.
        secret: what the client shows with the code; never in an address.
        expires_in: seconds.
    """

    link: str
    secret: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """Where the browser goes, and the state it has to come back with."""

    address: str
    state: str


def begin(backend: Backend, *, redirect_uri: str) -> Begun:
    """Begin a sign-in.

    Args:
        backend: the registry.
        redirect_uri: the address of this server that the provider sends the browser back to.
    """
    link, secret = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
    now = backend.clock()
    attempt = Attempt(
        link=token_hash(link),
        secret=token_hash(secret),
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
        redirect_uri=redirect_uri,
        expires_at=(datetime.fromisoformat(now) + timedelta(minutes=MINUTES)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )
    with backend.catalog.writing() as tx:
        tx.identities.add_attempt(attempt, at=now)
    return Begun(link, secret, MINUTES * 60)


def leave(backend: Backend, identities: Identities, provider: Provider, *, link: str) -> Leaving:
    """Where the browser that opened the link of a sign-in goes.

    Raises:
        IdentityRefused: there is no such sign-in any more.
        IssuerUnavailable: the provider cannot be asked where people sign in.
    """
    with backend.catalog.reading() as tx:
        attempt = tx.identities.attempt(link=token_hash(link))
    if attempt is None or attempt.returned or attempt.expires_at < backend.clock():
        raise IdentityRefused(_OVER)
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": attempt.redirect_uri,
        "scope": provider.scopes,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": _challenge(attempt.verifier),
        "code_challenge_method": "S256",
    }
    endpoint = identities.authorization_endpoint(provider.issuer)
    return Leaving(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", attempt.state)


def come_back(
    backend: Backend, identities: Identities, provider: Provider, *, state: str, left_with: str, code: str
) -> tuple[Account, str]:
    """Who came back from the provider, and the code that the page shows; a state is good once.

    Args:
        backend: the registry.
        identities: the providers.
        provider: the one that people sign in by.
        state: what the provider handed back.
        left_with: the state this browser left with.
        code: what the provider gave for the person.

    Raises:
        IdentityRefused: not the browser that left, or the provider, or the person's account, does not let them in.
    """
    if not (_RANDOM.fullmatch(state) and _RANDOM.fullmatch(left_with) and hmac.compare_digest(state, left_with)):
        raise IdentityRefused("this browser did not begin that sign-in (state differs). Begin again: `adapters login`.")
    attempt = _taken(backend, state)
    claims = identities.redeemed(provider, code=code, verifier=attempt.verifier, redirect_uri=attempt.redirect_uri)
    subject = check_identity(provider, claims, nonce=attempt.nonce)
    shown = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
    with backend.catalog.writing() as tx:
        account = _known_person(backend, tx, provider, subject, claims)
        now = tx.identities.attempt(state=state) or attempt
        tx.identities.change_attempt(replace(now, account=account.name, code=token_hash(shown)))
    return account, f"{shown[:4]}-{shown[4:]}"


def finish(backend: Backend, *, secret: str, code: str) -> NewToken:
    """The token of who signed in, good for 12 hours; once.

    Raises:
        IdentityRefused: another code, too often another code, or no such sign-in any more.
    """
    with backend.catalog.writing() as tx:
        attempt = tx.identities.attempt(secret=token_hash(secret))
        gone = attempt is None or attempt.expires_at < backend.clock() or attempt.tries >= MOST_TRIES
        wrong = False
        if attempt is not None and not gone:
            given = token_hash(plain_code(code))
            wrong = attempt.code is None or not hmac.compare_digest(given, attempt.code)
            if wrong:
                tx.identities.change_attempt(replace(attempt, tries=attempt.tries + 1))
            else:
                tx.identities.remove_attempt(attempt)
                return _let_in(backend, tx, attempt.account or "")
    raise IdentityRefused("that is not the code that the browser shows; nobody is signed in." if wrong else _OVER)


def _let_in(backend: Backend, tx: Transaction, account: str) -> NewToken:
    if known_account(tx, account).disabled_at:
        raise IdentityRefused(f"the account {account} is shut out.", whose=account)
    acting = replace(backend, actor=account)
    made = issued(acting, tx, account, "sign-in", None, SIGN_IN_HOURS * 3600)
    tx.events.append(_entry(acting, "account.sign-in", account, {"token": made.token.id}))
    return made


def _taken(backend: Backend, state: str) -> Attempt:
    """The sign-in of a state, which no other browser can come back for any more."""
    with backend.catalog.writing() as tx:
        attempt = tx.identities.attempt(state=state)
        if attempt is None or attempt.returned or attempt.expires_at < backend.clock():
            raise IdentityRefused(_OVER)
        tx.identities.change_attempt(replace(attempt, returned=True))
    return attempt


def _known_person(backend: Backend, tx: Transaction, provider: Provider, subject: str, claims: Claims) -> Account:
    """The account of (issuer, subject): made at its first sign-in, with what its groups give now."""
    given = grants_for(provider, claims)
    identity = tx.identities.identity(provider.issuer, subject)
    if identity is None:
        account = _made(backend, tx, provider, claims)
        identity = Identity(provider.issuer, subject, account.name, ())
    account = known_account(tx, identity.account)
    if account.disabled_at:
        text = f"the account {account.name} is shut out; an administrator can let it in again."
        raise IdentityRefused(text, whose=account.name)
    grants = refreshed(account.grants, before=identity.grants, now=given)
    if grants != account.grants:
        tx.accounts.change(account.name, grants=grants)
        detail = {"by": provider.issuer, "grants": [{"scope": g.scope, "verbs": list(g.verbs)} for g in grants]}
        tx.events.append(_entry(backend, "account.grant", account.name, detail))
    tx.identities.put_identity(replace(identity, grants=given), at=backend.clock())
    return known_account(tx, account.name)


def _made(backend: Backend, tx: Transaction, provider: Provider, claims: Claims) -> Account:
    """A new account, never one that exists: a name says nothing about who somebody is."""
    wanted = name_for(claims)
    taken = {each.name.lower() for each in tx.accounts.all()} | RESERVED_NAMES
    names = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(taken) + 2))
    name = next(each for each in names if each.lower() not in taken)
    account = Account(name, AccountKind.PERSON, (), backend.actor, backend.clock())
    tx.accounts.add(account, password=None)
    detail = {"kind": "person", "issuer": provider.issuer, "sub": str(claims["sub"])[:255]}
    tx.events.append(_entry(backend, "account.create", name, detail))
    return account


def _challenge(verifier: str) -> str:
    """S256 of RFC 7636."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _entry(backend: Backend, action: str, subject: str, detail: dict[str, Any]) -> Entry:
    return Entry(action, subject, Outcome.DONE, backend.actor, backend.clock(), detail)
