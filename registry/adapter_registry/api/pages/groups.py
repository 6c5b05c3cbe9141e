"""Groups of accounts, which policies name: who is in them."""

from __future__ import annotations

from typing import Any

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, listed
from adapter_registry.domain.errors import RegistryError
from adapter_registry.services import standstill

ADDRESS = "/ui/access/groups"


def listing(ask: Ask) -> Answer:
    """A page of groups with their members."""
    return Shown("groups.html", _values(ask))


def added(ask: Ask) -> Answer:
    """Put an account into a group, which is there once somebody is in it."""
    group, account = (ask.form.get(name, "").strip() for name in ("group", "account"))
    try:
        ask.call(standstill.set_member, group=group, account=account)
    except RegistryError as error:
        return Shown("groups.html", {**_values(ask), "error": error, "given": ask.form}, status=error.status)
    return Moved(ADDRESS, f"{account} is in {group}.")


def _values(ask: Ask) -> dict[str, Any]:
    return {**listed(ask, ADDRESS, standstill.groups), "error": None, "given": {}}


def _question(ask: Ask) -> Question:
    group, account = ask.places["group"], ask.places["account"]
    return Question(
        f"Take {account} out of {group}",
        (("Account", account), ("Group", group)),
        (f"What it approved as a member of {group} counts no more for requests that are open.",),
        f"Take {account} out",
        ADDRESS,
    )


def _taken_out(ask: Ask) -> Moved:
    group, account = ask.places["group"], ask.places["account"]
    ask.call(standstill.set_member, group=group, account=account, member=False)
    return Moved(ADDRESS, f"{account} is not in {group} any more.")


PAGES = (
    Page("/access/groups", listing, added),
    Page("/access/groups/{group}/members/{account}/remove", *confirming(_question, _taken_out)),
)
