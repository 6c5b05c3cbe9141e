"""Access: who I am and tokens; every account, for who manages access."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.page import LINES, Answer, Ask, Moved, Page, Shown, listed, with_query
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.people.access import ROLES, VERBS, Grant
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.services import access

ADDRESS, ACCOUNTS = "/ui/access", "/ui/access/accounts"
DAYS = ("1", "7", "30", "90", "365")


def show(ask: Ask) -> Answer:
    """Who asks, and a page of tokens."""
    return Shown("access.html", _tokens(ask))


def sent(ask: Ask) -> Answer:
    """Make a token, or set one's own password; a refusal is shown above both."""
    what = ask.form.get("do")
    try:
        if what == "password":
            ask.call(access.set_password, account=ask.who.name, password=ask.form.get("password", ""))
            return Moved(ADDRESS, "Your password is set. Sessions and tokens stay as they are.")
        if what == "token":
            made = _token(ask)
            return Shown("access.html", {**_tokens(ask), "made": made})
        raise InvalidInput("the form did not say what is to be done; nothing was.")
    except RegistryError as error:
        return Shown("access.html", {**_tokens(ask), "error": error, "given": ask.form}, status=error.status)


def _tokens(ask: Ask) -> dict[str, Any]:
    whose, ended = ask.query.get("account", "").strip() or ask.who.name, "ended" in ask.query
    kept = {"account": whose if whose != ask.who.name else "", "ended": "1" if ended else ""}
    return {
        **listed(ask, ADDRESS, access.tokens, by="before", kept=kept, account=whose, good=not ended),
        "me": ask.call(access.who),
        "manages": ask.may("access"),
        "whose": whose,
        "ended": ended,
        "here": with_query(ADDRESS, **kept),
        "roles": tuple(ROLES),
        "verbs": VERBS,
        "days": DAYS,
        **{"made": None, "error": None, "given": {}},
    }


def _token(ask: Ask) -> access.NewToken:
    form = ask.form
    return ask.call(
        access.create_token,
        account=form.get("account", "").strip() or None,
        label=form.get("label", "").strip(),
        limits=limits_of(form),
        expires_in_seconds=_seconds(form.get("days", "")),
    )


def limits_of(form: Mapping[str, str]) -> tuple[Grant, ...] | None:
    """What a form narrows an account to; None for nothing."""
    scope, verbs = form.get("scope", "").strip(), words(form, "verbs")
    if verbs and not scope:
        raise InvalidInput("verbs alone narrow nothing: say on which scope, `team/*` or `*`. Nothing was made.")
    return (Grant(scope, verbs),) if scope else None


def _seconds(days: str) -> int | None:
    if days == "never":
        return None
    if not (days.isascii() and days.isdigit() and len(days) < 6):
        raise InvalidInput(f"{days[:40]!r} is no number of days. No token was made.")
    return int(days) * 86_400


def words(form: Mapping[str, str], name: str) -> tuple[str, ...]:
    """What a field lists, separated by commas or spaces."""
    return tuple(form.get(name, "").replace(",", " ").split())


def _token_question(ask: Ask) -> Question:
    token = ask.call(access.token, token=ask.places["token"])
    own = token.id == ask.who.token
    return Question(
        f"Revoke token {token.label or token.id}",
        (("Token", token.id), ("Of", token.account), ("Made", f"{token.created_at[:10]} by {token.created_by}")),
        (
            "You are signed out at once: this is your session."
            if own
            else "Whatever uses it is refused from now on, in the midst of what it does. It cannot be let in again.",
        ),
        f"Revoke {token.id}",
        _of(ask, token.account),
        refused="It is revoked already." if token.revoked_at else "",
    )


def _revoke(ask: Ask) -> Moved:
    gone = ask.call(access.revoke_token, token=ask.places["token"])
    return Moved(_of(ask, gone.account), f"Token {gone.id} of {gone.account} is useless from now on.")


def _of(ask: Ask, account: str) -> str:
    return with_query(ADDRESS, account=account if account != ask.who.name else None)


def accounts(ask: Ask) -> Answer:
    """A page of accounts."""
    return Shown("accounts.html", _accounts(ask))


def changed(ask: Ask) -> Answer:
    """Make an account, give it a role, or let it in again."""
    what = {"account": _account, "grant": _grant, "enable": _enable}.get(ask.form.get("do", ""))
    try:
        if what is None:
            raise InvalidInput("the form did not say what is to be done; nothing was.")
        told = what(ask)
        return Moved(_page_of(ask, ask.form.get("account") or ask.form.get("name", "").strip()), told)
    except RegistryError as error:
        return Shown("accounts.html", {**_accounts(ask), "error": error, "given": ask.form}, status=error.status)


def _page_of(ask: Ask, name: str) -> str:
    """The list where somebody is in it: its beginning, or what begins with them."""
    first = ask.call(access.accounts, limit=LINES)
    beyond = first.next and name not in {each.name for each in first.items}
    return with_query(ACCOUNTS, page=name[:-1] if beyond else None)


def _accounts(ask: Ask) -> dict[str, Any]:
    shown = listed(ask, ACCOUNTS, access.accounts)
    return {**shown, "roles": tuple(ROLES), "error": None, "given": {}}


def _account(ask: Ask) -> str:
    form = ask.form
    kind = AccountKind.SERVICE if form.get("kind") == "service" else AccountKind.PERSON
    name, password = form.get("name", "").strip(), form.get("password") or None
    made = ask.call(access.create_account, name=name, kind=kind, password=password)
    return f"{made.name} has an account, which may do nothing yet: give it a role."


def _grant(ask: Ask) -> str:
    scope, verbs = ask.form.get("scope", "").strip(), words(ask.form, "verbs")
    after = ask.call(access.grant, account=ask.form.get("account", ""), scope=scope, verbs=verbs)
    return f"{after.name} has {', '.join(verbs)} on {scope}." if verbs else f"{after.name} has nothing on {scope} now."


def _enable(ask: Ask) -> str:
    return f"{ask.call(access.disable, account=ask.form.get('account', ''), disabled=False).name} may come in."


def _account_question(ask: Ask) -> Question:
    account = ask.call(access.account, account=ask.places["account"])
    tokens = ask.call(access.tokens, account=account.name, good=True)
    count = f"{len(tokens.items)}{' or more' if tokens.next else ''}"
    return Question(
        f"Shut {account.name} out",
        (
            ("Account", f"{account.name}, {account.kind}"),
            ("May", "; ".join(f"{', '.join(each.verbs)} on {each.scope}" for each in account.grants) or "nothing"),
            ("Tokens", f"{count} that are good now, sessions among them"),
        ),
        (
            "Every one of them is refused from now on, and signing in too; what it approved counts no more for open "
            "requests. Let in again, the same tokens are good again.",
        ),
        f"Shut {account.name} out",
        ACCOUNTS,
        refused="It is shut out already." if account.disabled_at else "",
    )


def _shut_out(ask: Ask) -> Moved:
    after = ask.call(access.disable, account=ask.places["account"])
    return Moved(ACCOUNTS, f"{after.name} is shut out, with all tokens.")


PAGES = (
    Page("/access", show, sent),
    Page("/access/tokens/{token}/revoke", *confirming(_token_question, _revoke)),
    Page("/access/accounts", accounts, changed),
    Page("/access/accounts/{account}/shut-out", *confirming(_account_question, _shut_out)),
)
