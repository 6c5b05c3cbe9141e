"""Trusts: which tokens of which OpenID provider may be exchanged for a short-lived token of a service account.

A claim is asked for exactly, or with `*` for any run of characters: `repo:team/sql-lora:*`. Issuers such as GitHub's
sign tokens for everybody, so a trust always asks for a claim that says whose pipeline it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from adapter_registry.domain.errors import InvalidInput, Problem
from adapter_registry.domain.people.access import Grant

Claims = Mapping[str, Any]
"""What a verified token says: names to JSON values."""

DEFAULT_SECONDS = 900
SHORTEST_SECONDS, LONGEST_SECONDS = 60, 3600
MOST_CLAIMS = 20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CHECKED_ANYWAY = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
_CLAIM = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")


@dataclass(frozen=True, slots=True)
class Trust:
    """That tokens of an issuer with these claims are good for a token of a service account.

    Attributes:
        id: 12 hex digits, to name it by.
        issuer: the provider's exact issuer URL.
        audience: what the tokens must be made out to.
        claims: claim -> value it must have, with `*` for any run of characters.
        account: the service account whose token is given.
        limits: what that token narrows the account to; None for everything the account may do.
        seconds: how long that token is good.
        created_by: who declared it.
        created_at: ISO 8601 in UTC.
    """

    id: str
    issuer: str
    audience: str
    claims: dict[str, str]
    account: str
    limits: tuple[Grant, ...] | None
    seconds: int
    created_by: str
    created_at: str


def check_issuer(text: str) -> str:
    """An issuer URL, as given: https, or http on a loopback name, which the server fetches only when it is told to.

    Raises:
        InvalidInput: anything else; an issuer has neither query, fragment nor user.
    """
    try:
        parts = urlsplit(text)
        port_reads = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_reads = urlsplit(""), False
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not (secure and parts.hostname and port_reads) or set(text) & set("?#@ \\") or not text.isprintable():
        raise InvalidInput(f"{text[:200]!r} is no issuer: it is an https:// URL without query, fragment or user.")
    if len(text) > 300:
        raise InvalidInput("an issuer has at most 300 characters.")
    return text


def check_claims(claims: Mapping[str, str]) -> dict[str, str]:
    """The claims a trust asks for, as given.

    Raises:
        InvalidInput: none that says whose pipeline it is, a name that is none, or one that is checked anyway.
    """
    for name, wanted in claims.items():
        if not _CLAIM.fullmatch(name) or not wanted or len(wanted) > 1000 or not wanted.isprintable():
            raise InvalidInput(
                f"{name[:60]!r}={wanted[:60]!r} is no claim: a name and 1 to 1,000 printable characters."
            )
        if name in _CHECKED_ANYWAY:
            raise InvalidInput(f"the claim {name!r} is always checked; ask for claims that say whose pipeline it is.")
    if len(claims) > MOST_CLAIMS:
        raise InvalidInput(f"a trust asks for at most {MOST_CLAIMS} claims.")
    if all(wanted.startswith("*") for wanted in claims.values()):
        raise InvalidInput(
            "a trust asks for at least one claim whose value does not begin with '*', such as sub or repository: "
            "an issuer signs tokens for more pipelines than yours."
        )
    return dict(claims)


def check_seconds(seconds: int) -> int:
    """How long a token is good, as given; raises InvalidInput outside of a minute to an hour."""
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise InvalidInput(f"an exchanged token is good for 1m to {LONGEST_SECONDS // 60}m, not {seconds:,} seconds.")
    return seconds


def differences(trust: Trust, claims: Claims) -> tuple[Problem, ...]:
    """Where a verified token of its issuer is not what a trust asks for; empty when it is."""
    wanted = {"aud": trust.audience, **trust.claims}
    exact = frozenset({"aud"})
    return tuple(
        Problem("claim-mismatch", "", name, repr(pattern), text_of(claims.get(name)), _fix(name))
        for name, pattern in wanted.items()
        if not _meets(pattern, claims.get(name), exact=name in exact)
    )


def text_of(value: Any) -> str:
    """A claim's value for people, shortened."""
    return "nothing" if value is None else (repr(value) if isinstance(value, str) else json.dumps(value))[:200]


def _meets(pattern: str, value: Any, *, exact: bool) -> bool:
    values = value if isinstance(value, list) else [value]
    texts = [text for each in values if (text := _plain(each)) is not None]
    return any(text == pattern if exact else _matches(pattern, text) for text in texts)


def _matches(pattern: str, text: str) -> bool:
    """Whether a text is the pattern, each `*` read as any run of characters; in time linear in the text."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _plain(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _fix(name: str) -> str:
    if name == "aud":
        return "Ask the provider for a token that is made out to this audience."
    return f"Run the pipeline where {name} has this value, or have the trust changed."
