"""Accounts, sign-in and tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthorised
from adapter_registry.domain.names import check_namespace
from adapter_registry.domain.people.access import TOKEN_PREFIX, Grant, Principal, grant_of, token_hash, within
from adapter_registry.domain.people.account import Account, AccountKind, Token
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.views.listing import AccountPage, TokenPage

"""What it may do."""
TOKEN_DAYS = 90
SIGN_IN_HOURS = 12
SHORTEST_PASSWORD = 10
PAGE = 1_000
_ANY_TEXT = "surrogatepass"
"""JSON can hold text that UTF-8 cannot; a password of it is only a password that is wrong."""
STRANGER = "(stranger)"
"""The actor of what somebody did who did not say who they are; no account can have this name."""
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$Ct/1WP3yEsuE4Ql8V7YHVy4sXm7fHCYPmMIlXfhaIUc"
"""A hash that no password matches: signing in under an unknown name takes as long as under a known one."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; `secret` is shown this once and stored nowhere."""

    token: Token
    secret: str


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Whom the registry takes the caller for, and what they may do."""

    name: str
    grants: tuple[Grant, ...]
    limits: tuple[Grant, ...] | None
    token: str | None


def create_account(
    backend: Backend, *, name: str, kind: AccountKind = AccountKind.PERSON, password: str | None = None
) -> Account:
    """Make an account that may do nothing yet.

    Raises:
        Conflict: the name is taken.
        InvalidReference: not a name.
        InvalidInput: a password for a service account, or one that is too short.
    """
    check_namespace(name)
    if password is not None:
        _check_kind(name, kind)
    account = Account(name, kind, (), backend.actor, backend.clock(), signs_in=password is not None)
    hashed = _hashed(password) if password is not None else None
    with backend.catalog.writing() as tx:
        if not tx.accounts.add(account, password=hashed):
            raise Conflict(f"there is an account {name!r} already.")
        tx.events.append(entry(backend, "account.create", name, {"kind": str(kind)}))
    return account


def accounts(backend: Backend, *, after: str = "", limit: int = PAGE) -> AccountPage:
    """Accounts, by name, a page at a time.

    Args:
        backend: the registry.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:
        found = tx.accounts.all(after=after, limit=most + 1)
    return AccountPage(found[:most], found[most - 1].name if len(found) > most else None)


def account(backend: Backend, *, account: str) -> Account:
    """One account."""
    with backend.catalog.reading() as tx:
        return known_account(tx, account)


def grant(backend: Backend, *, account: str, scope: str, verbs: tuple[str, ...]) -> Account:
    """Give an account roles or verbs on a scope, in place of what it had on that scope; none takes it away."""
    with backend.catalog.writing() as tx:
        known = known_account(tx, account)
        _check_places(tx, verbs)
        wanted = (grant_of(scope, verbs),) if verbs else ()
        exact = wanted[0].scope if wanted else grant_of(scope, ("read",)).scope
        grants = (*(g for g in known.grants if g.scope != exact), *wanted)
        tx.accounts.change(account, grants=grants)
        detail = {"scope": exact, "verbs": list(wanted[0].verbs) if wanted else []}
        tx.events.append(entry(backend, "account.grant", account, detail))
        return known_account(tx, account)


def _check_places(tx: Transaction, verbs: Iterable[str]) -> None:
    """Refuse a verb on a stage that there is not: it would give nothing."""
    places = [verb.partition(":")[2] for verb in verbs if ":" in verb]
    ladder = tx.stages.ladder() if places else None
    for place in places:
        if ladder is not None:
            ladder.check(place)


def disable(backend: Backend, *, account: str, disabled: bool = True) -> Account:
    """Shut an account and all its tokens out, or let it in again."""
    with backend.catalog.writing() as tx:
        known_account(tx, account)
        tx.accounts.change(account, disabled_at=backend.clock() if disabled else "")
        tx.events.append(entry(backend, "account.disable", account, {"disabled": disabled}))
        return known_account(tx, account)


def set_password(backend: Backend, *, account: str, password: str) -> Account:
    """Give a person a password to sign in with; their own, or anybody's for who manages access.

    Raises:
        Forbidden: somebody else's, or through a limited token: signing in would undo its limits.
        InvalidInput: a service account's, or a password that is too short.
    """
    own = account == backend.asks.name and backend.asks.limits is None and not backend.asks.exchanged
    if not own and not backend.asks.may("access"):
        raise Forbidden(
            f"setting the password of {account} takes an unlimited token of {account}, or the verb 'access' on '*'."
        )
    hashed = _hashed(password)
    with backend.catalog.writing() as tx:
        _check_kind(account, known_account(tx, account).kind)
        tx.accounts.change(account, password=hashed)
        tx.events.append(entry(backend, "account.password", account, {}))
        return known_account(tx, account)


def create_token(
    backend: Backend,
    *,
    account: str | None = None,
    label: str = "",
    limits: tuple[Grant, ...] | None = None,
    expires_in_seconds: int | None = TOKEN_DAYS * 86_400,
) -> NewToken:
    """Make a token for an account; it can do at most what the account can, and less where `limits` say so.

    Args:
        backend: the registry.
        account: whose; default: the caller's own.
        label: what it is for.
        limits: what it narrows the account to; None for no narrowing.
        expires_in_seconds: how long it is good; None for ever. A limited token makes none that outlives it.

    Raises:
        Forbidden: another account's token without the right to manage access, or wider than the token that asks, or
            the token that asks was exchanged for a short while.
    """
    whose = account or backend.asks.name
    if backend.asks.exchanged:
        raise Forbidden("an exchanged token makes no tokens: they could outlive it. Exchange another one instead.")
    if whose != backend.asks.name and not backend.asks.may("access"):
        raise Forbidden(f"a token for {whose} can be made by {whose}, or by who has the verb 'access' on '*'.")
    checked = None if limits is None else tuple(grant_of(g.scope, g.verbs) for g in limits)
    bound = backend.asks.limits
    if bound is not None and (checked is None or not within(checked, bound)):
        raise Forbidden("the token that asks is itself limited: what it makes must be within its own limits.")
    if expires_in_seconds is not None and expires_in_seconds <= 0:
        raise InvalidInput("a token is good for at least a second; leave the expiry out for one that never ends.")
    with backend.catalog.writing() as tx:
        known_account(tx, whose)
        left = _left(backend, tx) if bound is not None else None
        seconds = left if expires_in_seconds is None else min(expires_in_seconds, left or expires_in_seconds)
        made = issued(backend, tx, whose, label[:200], checked, seconds)
        tx.events.append(entry(backend, "token.create", whose, {"token": made.token.id, "label": made.token.label}))
    return made


def _left(backend: Backend, tx: Transaction) -> int | None:
    """Whole seconds, at least one, that the token which asks is still good; None for one that never ends."""
    mine = tx.accounts.token(backend.asks.token) if backend.asks.token else None
    if mine is None or mine.expires_at is None:
        return None
    left = datetime.fromisoformat(mine.expires_at) - datetime.fromisoformat(backend.clock())
    return max(int(left.total_seconds()), 1)


def tokens(
    backend: Backend, *, account: str | None = None, good: bool = False, before: str = "", limit: int = PAGE
) -> TokenPage:
    """The caller's tokens, newest first, a page at a time; anybody's for who manages access.

    Args:
        backend: the registry.
        account: only this one's.
        good: only those that are neither over nor revoked.
        before: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    whole = backend.asks.may("access")
    if account not in (None, backend.asks.name) and not whole:
        raise NotFound(f"there is no account {account!r}.")
    most, good_at = min(max(limit, 1), PAGE), backend.clock() if good else ""
    with backend.catalog.reading() as tx:
        whose = account if whole else backend.asks.name
        found = tx.accounts.tokens(whose, good_at=good_at, before=before, limit=most + 1)
    return TokenPage(found[:most], found[most - 1].key if len(found) > most else None)


def token(backend: Backend, *, token: str) -> Token:
    """One token by its id; the caller's own, or any for who manages access."""
    with backend.catalog.reading() as tx:
        return _revocable(backend, tx, token)


def revoke_token(backend: Backend, *, token: str) -> Token:
    """Make a token useless from now on; the caller's own, or any for who manages access.

    An exchanged token revokes only itself.
    """
    with backend.catalog.writing() as tx:
        found = _revocable(backend, tx, token)
        tx.accounts.revoke_token(token, at=backend.clock())
        tx.events.append(entry(backend, "token.revoke", found.account, {"token": token}))
        return tx.accounts.token(token) or found


def sign_in(backend: Backend, *, name: str, password: str) -> NewToken:
    """A token good for 12 hours for who knows the password.

    Raises:
        Unauthorised: unknown name or wrong password; the text does not say which.
    """
    with backend.catalog.reading() as tx:
        hashed = tx.accounts.password(name) if name.isprintable() else None
    if not _matches(hashed or _NOBODY, password) or hashed is None:
        raise Unauthorised("the name or the password is wrong.")
    acting = replace(backend, actor=name)
    with backend.catalog.writing() as tx:
        made = issued(acting, tx, name, "sign-in", None, SIGN_IN_HOURS * 3600)
        tx.events.append(entry(acting, "account.sign-in", name, {"token": made.token.id}))
    return made


def who(backend: Backend) -> WhoAmI:
    """Whom the registry takes the caller for."""
    asks = backend.asks
    return WhoAmI(asks.name, asks.grants, asks.limits, asks.token)


def may(backend: Backend, *, verb: str, scope: str | None = None) -> bool:
    """Whether the caller may do `verb` to `namespace/name`, or to the registry as a whole."""
    return backend.asks.may(verb, scope)


def authenticate(backend: Backend, *, secret: str) -> tuple[Principal, bool] | None:
    """Who a token stands for, and whether this minute's use of it is to be noted yet, see `note_use`.

    None when it is unknown, expired, revoked, or its account is shut out. Nothing is written.
    """
    hashed = hash_to_look_up(secret)
    if hashed is None:
        return None
    with backend.catalog.reading() as tx:
        return tx.accounts.principal(hashed, now=backend.clock())


def hash_to_look_up(secret: str) -> str | None:
    """What a token is stored as; None for what has not the form of one."""
    return token_hash(secret) if secret.startswith(TOKEN_PREFIX) else None


def standing(backend: Backend, *, token: str) -> Principal | None:
    """Who the token of this id stands for now; None when it is over, revoked, or its account is shut out."""
    with backend.catalog.reading() as tx:
        return tx.accounts.standing(token, now=backend.clock())


def require_still(backend: Backend, tx: Transaction, verb: str, adapter: str) -> None:
    """Refuse whoever lost a right since their request came in: its token was good then, and gates take their time.

    Raises:
        Forbidden: the token is over or revoked, its account shut out, or neither gives the verb any more.
    """
    if backend.asks.token is None:
        return
    now = tx.accounts.standing(backend.asks.token, now=backend.clock())
    if now is None or not now.may(verb, adapter):
        raise Forbidden(
            f"{backend.actor} may not {verb} on {adapter} any more: the right or the token was taken away while this "
            "was under way. Nothing was changed."
        )


def note_use(backend: Backend, *, token: str) -> None:
    """Note that a token was used just now."""
    with backend.catalog.writing() as tx:
        tx.accounts.used_token(token, at=backend.clock())


def issued(
    backend: Backend,
    tx: Transaction,
    account: str,
    label: str,
    limits: tuple[Grant, ...] | None,
    seconds: int | None,
    *,
    trust: str | None = None,
) -> NewToken:
    """A new token, stored in this transaction; whether it may be made is decided before."""
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    now = backend.clock()
    expires = None
    if seconds is not None:
        moment = datetime.fromisoformat(now).astimezone(UTC) + timedelta(seconds=seconds)
        expires = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    token = Token(secrets.token_hex(6), account, label, limits, backend.actor, now, expires, trust=trust)
    tx.accounts.add_token(token, hashed=token_hash(secret))
    return NewToken(token, secret)


def known_account(tx: Transaction, name: str) -> Account:
    """The account of this name; raises NotFound when there is none."""
    found = tx.accounts.get(name)
    if found is None:
        raise NotFound(f"there is no account {name[:100]!r}; `adapters account ls` lists them.")
    return found


def _revocable(backend: Backend, tx: Transaction, id: str) -> Token:
    """The token of this id, if whoever asks may revoke it."""
    asks, found = backend.asks, tx.accounts.token(id)
    own = found is not None and found.account == asks.name and (not asks.exchanged or id == asks.token)
    if found is None or not (own or asks.may("access")):
        raise NotFound(f"there is no token with the id {id[:12]!r}; `adapters token ls` lists them.")
    return found


def _check_kind(account: str, kind: AccountKind) -> None:
    if kind is AccountKind.SERVICE:
        raise InvalidInput(f"{account} is a service account: it has tokens (`adapters token create`), no password.")


def entry(backend: Backend, action: str, subject: str, detail: dict[str, Any]) -> Entry:
    """The event of something that was done to an account."""
    return Entry(action, subject, Outcome.DONE, backend.actor, backend.clock(), detail)


def _hashed(password: str) -> str:
    if len(password) < SHORTEST_PASSWORD:
        raise InvalidInput(f"a password has at least {SHORTEST_PASSWORD} characters.")
    from argon2 import PasswordHasher  # noqa: PLC0415  an extra of the server

    return PasswordHasher().hash(password.encode(errors=_ANY_TEXT))


def _matches(hashed: str, password: str) -> bool:
    from argon2 import PasswordHasher  # noqa: PLC0415  an extra of the server
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415

    try:
        return PasswordHasher().verify(hashed, password.encode(errors=_ANY_TEXT))
    except (VerificationError, InvalidHashError):
        return False


def denied(backend: Backend, action: str, subject: str, detail: dict[str, Any]) -> None:
    """Record that somebody was refused for want of rights."""
    with backend.catalog.writing() as tx:
        tx.events.append(Entry(action, subject, Outcome.REFUSED, backend.actor, backend.clock(), detail))


def not_let_in(backend: Backend, *, name: str, action: str, detail: dict[str, Any]) -> None:
    """Record that somebody could not sign in.

    What they typed as a name is kept only where it is an account's: else it may be a password in the wrong place.
    """
    with backend.catalog.writing() as tx:
        known = name.isprintable() and tx.accounts.get(name) is not None
        subject = name if known else "*"
        tx.events.append(Entry(action, subject, Outcome.REFUSED, STRANGER, backend.clock(), detail))
