"""Trusts, and tokens of an OpenID provider exchanged for short-lived ones of a service account."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Ambiguous, IdentityRefused, InvalidInput, NotFound
from adapter_registry.domain.people.access import Grant, grant_of
from adapter_registry.domain.people.account import AccountKind, Token
from adapter_registry.domain.people.trust import (
    DEFAULT_SECONDS,
    Claims,
    Trust,
    check_claims,
    check_issuer,
    check_seconds,
    differences,
    text_of,
)
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.ports.identity import Identities
from adapter_registry.domain.views.listing import TrustPage, parts_of
from adapter_registry.services.access import issued, known_account

LAST_MOMENT = 253_370_764_800
"""The first second of the year 9999, in Unix time."""
REMEMBERED_AFTER = timedelta(minutes=5)
"""How long after its end an exchanged token is remembered: clocks differ."""
LISTED_AFTER = timedelta(days=7)
"""How long after its end an exchanged token is listed: every run of a pipeline leaves one."""
_UNKNOWN = (
    "no trust of this registry accepts tokens of this issuer. Nothing was given out. "
    "An administrator declares one: `adapters trust add`."
)

PAGE = 1_000
"""Items of a page at most."""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A token given for a provider's token; `secret` is shown this once and stored nowhere."""

    token: Token
    secret: str
    expires_in: int


def add(
    backend: Backend,
    *,
    account: str,
    issuer: str,
    audience: str,
    claims: dict[str, str],
    limits: tuple[Grant, ...] | None = None,
    seconds: int = DEFAULT_SECONDS,
) -> Trust:
    """Let tokens of an issuer that have these claims be exchanged for tokens of a service account.

    Args:
        backend: the registry.
        account: the service account.
        issuer: the provider's exact issuer URL.
        audience: what its tokens must be made out to.
        claims: claim -> value, with `*` for any run of characters.
        limits: what narrows the account; None for everything it may do.
        seconds: how long an exchanged token is good, at most an hour.

    Raises:
        InvalidInput: a person's account, an issuer that is no https URL, claims that would let anybody in.
    """
    if not 0 < len(audience) <= 300 or not audience.isprintable():
        raise InvalidInput("an audience has 1 to 300 printable characters.")
    checked = None if limits is None else tuple(grant_of(g.scope, g.verbs) for g in limits)
    trust = Trust(
        *(secrets.token_hex(6), check_issuer(issuer), audience, check_claims(claims), account, checked),
        *(check_seconds(seconds), backend.actor, backend.clock()),
    )
    with backend.catalog.writing() as tx:
        if known_account(tx, account).kind is not AccountKind.SERVICE:
            raise InvalidInput(
                f"{account} is a person: a pipeline acts as a service account. "
                "Make one with `adapters account create NAME --service`."
            )
        tx.identities.add_trust(trust)
        tx.events.append(_entry(backend, "trust.add", trust, {"issuer": issuer, "claims": trust.claims}))
    return trust


def trusts(backend: Backend, *, after: str = "", limit: int = PAGE) -> TrustPage:
    """Trusts, in the order they were declared, a page at a time.

    Args:
        backend: the registry.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most, place = min(max(limit, 1), PAGE), parts_of(after, 2)
    with backend.catalog.reading() as tx:
        found = tx.identities.trusts(after=place, limit=most + 1)
    last = found[most - 1] if len(found) > most else None
    return TrustPage(found[:most], f"{last.created_at} {last.id}" if last else None)


def remove(backend: Backend, *, trust: str) -> Trust:
    """End a trust and every token that it gave.

    Raises:
        NotFound: there is none of this id.
    """
    with backend.catalog.writing() as tx:
        found = next((each for each in tx.identities.trusts() if each.id == trust), None)
        if found is None:
            raise NotFound(f"there is no trust {trust[:40]!r}; `adapters trust ls` lists them.")
        tx.identities.remove_trust(trust, at=backend.clock())
        tx.events.append(_entry(backend, "trust.remove", found, {}))
        return found


def exchange(
    backend: Backend, identities: Identities, *, issuer: str, subject_token: str, trust: str | None = None
) -> Exchanged:
    """A token of the service account that the one trust with these claims names.

    Args:
        backend: the registry.
        identities: the providers.
        issuer: the one that the token names; it is asked only when a trust names it, too.
        subject_token: the provider's token; good once.
        trust: which trust is meant; what differs from it is told. None for the one that fits.

    Raises:
        IdentityRefused: no trust names the issuer, the token is not the issuer's or is over, or its claims differ.
        Ambiguous: several trusts fit.
        IssuerUnavailable: its keys cannot be had.
    """
    with backend.catalog.reading() as tx:
        known = tx.identities.trusts(issuer) if issuer.isprintable() else ()
    if not known:
        raise IdentityRefused(_UNKNOWN)
    claims = identities.claims(issuer, subject_token)
    with backend.catalog.writing() as tx:
        chosen = _fitting(tx.identities.trusts(issuer), claims, trust)
        if known_account(tx, chosen.account).disabled_at:
            raise IdentityRefused(
                f"the service account {chosen.account} is shut out. Nothing was given out.", whose=chosen.account
            )
        _spend(backend, tx, claims, subject_token)
        tx.identities.forget_exchanged(before=_moment(datetime.fromisoformat(backend.clock()) - LISTED_AFTER))
        subject = text_of(claims.get("sub"))
        label = f"exchange by trust {chosen.id}: {subject}"[:200]
        acting = replace(backend, actor=chosen.account)
        made = issued(acting, tx, chosen.account, label, chosen.limits, chosen.seconds, trust=chosen.id)
        detail = {"token": made.token.id, "issuer": issuer, "sub": subject}
        asked = {name: text_of(claims.get(name)) for name in chosen.claims}
        tx.events.append(_entry(acting, "token.exchange", chosen, {**detail, "claims": asked}))
    return Exchanged(made.token, made.secret, chosen.seconds)


def _fitting(known: tuple[Trust, ...], claims: Claims, wanted: str | None) -> Trust:
    """The one trust that claims fit.

    What a trust asks for is told only to who names it by its id: an issuer signs tokens for strangers, too.
    """
    if wanted is not None:
        named = next((each for each in known if each.id == wanted), None)
        if named is None:
            raise IdentityRefused(
                f"there is no trust {wanted[:40]!r} for tokens of this issuer. Nothing was given out.",
                recorded="the token names a trust that there is not for its issuer.",
            )
        problems = differences(named, claims)
        if problems:
            lines = "\n".join(f"  {problem}" for problem in problems)
            raise IdentityRefused(
                f"the token does not fit trust {named.id}; nothing was given out:\n{lines}",
                problems=problems,
                whose=named.account,
                recorded=f"the token does not fit trust {named.id}: {', '.join(each.field for each in problems)}.",
            )
        return named
    fitting = [each for each in known if not differences(each, claims)]
    if len(fitting) > 1:
        raise Ambiguous(
            f"the token fits several trusts ({', '.join(each.id for each in fitting)}): name one (--trust)."
        )
    if not fitting:
        said = ", ".join(
            f"{name}={text_of(claims[name])}" for name in sorted(claims) if name not in ("exp", "iat", "nbf")
        )
        raise IdentityRefused(
            "the token is genuine, but no trust fits its claims; nothing was given out. Name the trust that you mean "
            f"(--trust ID) to be told what differs. The token says: {said[:1500]}.",
            recorded="the token is genuine, but no trust fits its claims.",
        )
    return fitting[0]


def _spend(backend: Backend, tx: Transaction, claims: Claims, token: str) -> None:
    """Remember what was signed, not the signature: some algorithms have several signatures of the same text."""
    signed = hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
    until = _moment(datetime.fromtimestamp(min(float(claims["exp"]), LAST_MOMENT), UTC) + REMEMBERED_AFTER)
    if not tx.identities.spend(signed, until=until, at=backend.clock()):
        raise IdentityRefused("this token was exchanged before, and each is good once. Ask the provider for a new one.")


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _entry(backend: Backend, action: str, trust: Trust, detail: dict[str, Any]) -> Entry:
    return Entry(action, trust.account, Outcome.DONE, backend.actor, backend.clock(), {"trust": trust.id, **detail})
