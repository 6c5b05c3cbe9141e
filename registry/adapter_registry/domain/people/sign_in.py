"""Signing people in by an OpenID provider: what its claims mean here.

A person is recognised by (issuer, sub) alone. Name and e-mail address are the provider's to change and anybody's to
choose, so neither ever leads to an account that exists already.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adapter_registry.domain.errors import IdentityRefused, InvalidInput
from adapter_registry.domain.people.access import EVERYTHING, Grant, grant_of
from adapter_registry.domain.people.trust import Claims

MINUTES = 10
"""How long a sign-in may take."""
MOST_TRIES = 5
CODE_LETTERS = "BCDFGHJKMPQRTVWXY2346789"
CODE_LENGTH = 8
RESERVED_NAMES = frozenset({"system", "admin"})
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_RUNS = re.compile(r"-{2,}|\.{2,}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What membership of a group gives; the group `*` is everybody who signs in."""

    group: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Provider:
    """The OpenID provider that people sign in by.

    Attributes:
        issuer: its exact issuer URL.
        client_id: what it knows this server as.
        client_secret: this server's secret there; None for a public client.
        scopes: what is asked for, space-separated.
        groups_claim: the claim that lists a person's groups.
        rules: what groups give.
        domains: e-mail domains that may sign in; empty for every one.
    """

    issuer: str
    client_id: str
    client_secret: str | None = None
    scopes: str = "openid profile email"
    groups_claim: str = "groups"
    rules: tuple[Rule, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a provider knows an account as.

    Attributes:
        issuer: the provider.
        subject: its `sub`: never given to anybody else.
        account: the account here.
        grants: what the provider's groups gave at the last sign-in.
    """

    issuer: str
    subject: str
    account: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that has begun: at most one browser comes back for it, and one client fetches its token.

    Attributes:
        link: hash of the address that the person opens.
        secret: hash of what the client that began it holds.
        state: what the provider hands back.
        nonce: what the identity token must hold.
        verifier: of PKCE.
        redirect_uri: where the provider sends the browser.
        expires_at: ISO 8601 in UTC.
        account: who signed in; None until the browser is back.
        code: hash of the code that the browser showed; None until then.
        tries: codes that were tried.
        returned: whether a browser came back.
    """

    link: str
    secret: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    expires_at: str
    account: str | None = None
    code: str | None = None
    tries: int = 0
    returned: bool = False


def rules_of(text: str) -> tuple[Rule, ...]:
    """The rules in `GROUP = SCOPE ROLE|VERB ...; ...`, as in `ml-admins = * admin; search = search/* writer`.

    Raises:
        InvalidInput: a rule that is none, an unknown role or verb.
        InvalidReference: a scope that is none.
    """
    found = []
    for line in filter(None, map(str.strip, re.split(r"[;\n]", text))):
        group, equals, given = line.partition("=")
        scope, *verbs = given.split() or [""]
        if not equals or not group.strip() or not verbs:
            raise InvalidInput(f"{line[:100]!r} is no rule: write GROUP = SCOPE ROLE, as in search = search/* writer.")
        found.append(Rule(group.strip(), grant_of(scope, verbs)))
    return tuple(found)


def grants_for(provider: Provider, claims: Claims) -> tuple[Grant, ...]:
    """What a person's groups give."""
    listed = claims.get(provider.groups_claim)
    groups = (
        {listed} if isinstance(listed, str) else set(filter(_is_text, listed)) if isinstance(listed, list) else set()
    )
    return tuple(dict.fromkeys(rule.grant for rule in provider.rules if rule.group in {EVERYTHING, *groups}))


def refreshed(held: Iterable[Grant], *, before: Iterable[Grant], now: Iterable[Grant]) -> tuple[Grant, ...]:
    """The grants of an account when what its provider gives changes; what people gave stays."""
    own = [grant for grant in held if grant not in tuple(before)]
    return tuple(dict.fromkeys((*own, *now)))


def check_identity(provider: Provider, claims: Claims, *, nonce: str) -> str:
    """The `sub` of a verified identity token that is for this server, this sign-in and an allowed person.

    Raises:
        IdentityRefused: it is for another client or another sign-in, or the e-mail domain is not allowed.
    """
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if provider.client_id not in audiences or claims.get("azp", provider.client_id) != provider.client_id:
        raise IdentityRefused("the identity token is made out to another client than this server. Nobody is signed in.")
    if not claims.get("nonce") == nonce:
        raise IdentityRefused("the identity token belongs to another sign-in (its nonce differs). Begin again.")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise IdentityRefused("the identity token does not say who it is about (sub). Nobody is signed in.")
    _check_domain(provider, claims)
    return subject


def _check_domain(provider: Provider, claims: Claims) -> None:
    if not provider.domains:
        return
    email = claims.get("email")
    domain = email.rpartition("@")[2].lower() if isinstance(email, str) else ""
    if domain not in provider.domains or claims.get("email_verified") is not True:
        raise IdentityRefused(
            f"only verified e-mail addresses of {', '.join(provider.domains)} may sign in here; the provider says "
            f"{str(email)[:100]!r}, {'verified' if claims.get('email_verified') is True else 'not verified'}.",
            recorded=f"the provider says no verified e-mail address of {', '.join(provider.domains)}.",
        )


def name_for(claims: Claims) -> str:
    """A name for the account of somebody new, of what the provider calls them."""
    for claim in ("preferred_username", "email", "name", "sub"):
        text = claims.get(claim)
        if isinstance(text, str):
            name = _RUNS.sub("-", _UNFIT.sub("-", text.partition("@")[0]))[:60].strip("-._")
            if name and not name.lower().endswith((".git", ".lock")):
                return name
    return "person"


def plain_code(text: str) -> str:
    """A code as it is compared: without what people put between its letters."""
    return re.sub(r"[\s-]", "", text).upper()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
