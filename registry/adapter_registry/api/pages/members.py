"""Access: who I am and my tokens; every account, for who manages access."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, with_query
from adapter_registry.domain.access import ROLES, VERBS, Grant
from adapter_registry.domain.account import AccountKind
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.services import access

ADDRESS = "/ui/access"
DAYS = ("1", "7", "30", "90", "365")


def show(ask: Ask) -> Answer:
    """Tokens and accounts."""
    return Shown("access.html", _values(ask))


def done(ask: Ask) -> Answer:
    """What one of its forms asks for; a refusal is shown above them."""
    what = _ACTIONS.get(ask.form.get("do", ""))
    try:
        if what is None:
            raise InvalidInput("the form did not say what is to be done; nothing was.")
        return what(ask)
    except RegistryError as error:
        return Shown("access.html", {**_values(ask), "error": error, "given": ask.form}, status=error.status)


def _values(ask: Ask) -> dict[str, Any]:
    manages = ask.may("access")
    whose = ask.query.get("account", "").strip() or ask.who.name
    return {
        "me": ask.call(access.who),
        "manages": manages,
        "whose": whose,
        "tokens": ask.call(access.tokens, account=whose),
        "ended": "ended" in ask.query,
        "accounts": ask.call(access.accounts) if manages else (),
        "roles": tuple(ROLES),
        "verbs": VERBS,
        "days": DAYS,
        "made": None,
        "error": None,
        "given": {},
    }


def _token(ask: Ask) -> Answer:
    form = ask.form
    scope, verbs = form.get("scope", "").strip(), _words(form, "verbs")
    if verbs and not scope:
        raise InvalidInput("verbs alone narrow nothing: say on which scope, `team/*` or `*`. No token was made.")
    limits = (Grant(scope, verbs),) if scope else None
    made = ask.call(
        access.create_token,
        account=form.get("account", "").strip() or None,
        label=form.get("label", "").strip(),
        limits=limits,
        expires_in_seconds=_seconds(form.get("days", "")),
    )
    return Shown("access.html", {**_values(ask), "made": made})


def _seconds(days: str) -> int | None:
    if days == "never":
        return None
    if not (days.isascii() and days.isdigit() and len(days) < 6):
        raise InvalidInput(f"{days[:40]!r} is no number of days. No token was made.")
    return int(days) * 86_400


def _revoke(ask: Ask) -> Answer:
    gone = ask.call(access.revoke_token, token=ask.form.get("token", ""))
    return Moved(_back(ask), f"Token {gone.id} of {gone.account} is useless from now on.")


def _account(ask: Ask) -> Answer:
    form = ask.form
    kind = AccountKind.SERVICE if form.get("kind") == "service" else AccountKind.PERSON
    made = ask.call(
        access.create_account, name=form.get("name", "").strip(), kind=kind, password=form.get("password") or None
    )
    return Moved(_back(ask), f"{made.name} has an account, which may do nothing yet: give it a role.")


def _grant(ask: Ask) -> Answer:
    form = ask.form
    scope, verbs = form.get("scope", "").strip(), _words(form, "verbs")
    after = ask.call(access.grant, account=form.get("account", ""), scope=scope, verbs=verbs)
    said = f"{after.name} has {', '.join(verbs)} on {scope}." if verbs else f"{after.name} has nothing on {scope} now."
    return Moved(_back(ask), said)


def _disable(ask: Ask) -> Answer:
    shut = ask.form.get("do") == "disable"
    after = ask.call(access.disable, account=ask.form.get("account", ""), disabled=shut)
    return Moved(_back(ask), f"{after.name} is shut out, with all tokens." if shut else f"{after.name} may come in.")


def _words(form: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(form.get(name, "").replace(",", " ").split())


def _back(ask: Ask) -> str:
    return with_query(ADDRESS, account=ask.query.get("account"))


_ACTIONS: Mapping[str, Callable[[Ask], Answer]] = {
    "token": _token,
    "revoke": _revoke,
    "account": _account,
    "grant": _grant,
    "disable": _disable,
    "enable": _disable,
}
PAGES = (Page("/access", show, done),)
