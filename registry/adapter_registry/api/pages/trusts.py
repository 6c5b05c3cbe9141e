"""Trusts: which pipelines are let in by their provider's tokens, and as which service account."""

from __future__ import annotations

from typing import Any

from adapter_registry.api.pages.confirming import Question, confirming
from adapter_registry.api.pages.members import limits_of
from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, listed
from adapter_registry.calls.asking import every
from adapter_registry.domain.errors import InvalidInput, NotFound, RegistryError
from adapter_registry.domain.people.trust import DEFAULT_SECONDS
from adapter_registry.services import trust

ADDRESS = "/ui/access/trusts"
MINUTES = ("5", "15", "30", "60")


def listing(ask: Ask) -> Answer:
    """Every trust."""
    return Shown("trusts.html", _values(ask))


def added(ask: Ask) -> Answer:
    """Declare one."""
    form = ask.form
    try:
        made = ask.call(
            trust.add,
            account=form.get("account", "").strip(),
            issuer=form.get("issuer", "").strip(),
            audience=form.get("audience", "").strip() or ask.address,
            claims=_claims(form.get("claims", "")),
            limits=limits_of(form),
            seconds=60 * int(form["minutes"]) if form.get("minutes") in MINUTES else DEFAULT_SECONDS,
        )
    except RegistryError as error:
        return Shown("trusts.html", {**_values(ask), "error": error, "given": form}, status=error.status)
    return Moved(ADDRESS, f"Trust {made.id}: pipelines with these claims act as {made.account} from now on.")


def _values(ask: Ask) -> dict[str, Any]:
    return {
        **listed(ask, ADDRESS, trust.trusts),
        "minutes": MINUTES,
        "address": ask.address,
        "error": None,
        "given": {},
    }


def _claims(text: str) -> dict[str, str]:
    claims: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or name in claims:
            raise InvalidInput(f"{line[:60]!r} is not NAME=VALUE, or names a claim twice.")
        claims[name] = value
    return claims


def _question(ask: Ask) -> Question:
    declared = every(lambda after: ask.call(trust.trusts, after=after), "")
    found = next((each for each in declared if each.id == ask.places["trust"]), None)
    if found is None:
        raise NotFound(f"there is no trust {ask.places['trust'][:40]!r}.")
    return Question(
        f"End trust {found.id}",
        (
            ("Issuer", found.issuer),
            ("Claims", ", ".join(f"{name}={value}" for name, value in found.claims.items())),
            ("Account", found.account),
        ),
        (f"Every token that it gave is revoked, and its pipelines are {found.account} no more.",),
        f"End {found.id}",
        ADDRESS,
    )


def _ended(ask: Ask) -> Moved:
    gone = ask.call(trust.remove, trust=ask.places["trust"])
    return Moved(ADDRESS, f"Trust {gone.id} of {gone.account} is over; its tokens are revoked.")


PAGES = (
    Page("/access/trusts", listing, added),
    Page("/access/trusts/{trust}/end", *confirming(_question, _ended)),
)
