"""Webhooks: who is told of what, and what came of telling them."""

from __future__ import annotations

import json
from typing import Any

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, with_query
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.webhook import EVENTS, State
from adapter_registry.services import webhook

LIST = "/ui/webhooks"
LINES = 50


def listing(ask: Ask) -> Answer:
    """The webhooks that the caller could set up."""
    return Shown("webhooks.html", _list(ask))


def added(ask: Ask) -> Answer:
    """Set one up; its secret is shown this once."""
    form = ask.form
    events = tuple(form.get("events", "").replace(",", " ").split()) or ("*",)
    try:
        made = ask.call(
            webhook.register, url=form.get("url", "").strip(), scope=form.get("scope", "").strip(), events=events
        )
    except RegistryError as error:
        return Shown("webhooks.html", {**_list(ask), "error": error, "given": form}, status=error.status)
    return Shown("webhooks.html", {**_list(ask), "made": made})


def _list(ask: Ask) -> dict[str, Any]:
    return {"found": ask.call(webhook.webhooks), "events": EVENTS, "made": None, "error": None, "given": {}}


def one(ask: Ask) -> Answer:
    """One webhook, and what it was told, newest first."""
    return Shown("webhook.html", _one(ask))


def done(ask: Ask) -> Answer:
    """Replay, pause, go on, a new secret, or remove it."""
    id, what = ask.places["webhook"], ask.form.get("do", "")
    here = with_query(f"{LIST}/{id}", state=ask.query.get("state"))
    if what == "replay":
        again = ask.call(webhook.replay, webhook=id, delivery=ask.form.get("delivery") or None)
        return Moved(here, f"{len(again)} to be sent again." if again else "Nothing was given up, so nothing is sent.")
    if what in ("pause", "resume"):
        ask.call(webhook.change, webhook=id, active=what == "resume")
        return Moved(here, "It goes on; what waited is sent now." if what == "resume" else "Paused.")
    if what == "rotate":
        return Shown("webhook.html", {**_one(ask), "made": ask.call(webhook.rotate, webhook=id)})
    if what == "remove":
        gone = ask.call(webhook.remove, webhook=id)
        return Moved(LIST, f"{gone.url} is told nothing any more.")
    raise InvalidInput("the form did not say what is to be done; nothing was.")


def message(ask: Ask) -> Answer:
    """What one delivery says."""
    told = ask.call(webhook.message, webhook=ask.places["webhook"], delivery=ask.places["delivery"])
    body = json.dumps(json.loads(told.body), indent=2, ensure_ascii=False)
    return Shown("webhook-message.html", {"told": told, "body": body, "partial": ask.partial})


def _one(ask: Ask) -> dict[str, Any]:
    id = ask.places["webhook"]
    hook = next((each for each in ask.call(webhook.webhooks) if each.id == id), None)
    state = ask.query.get("state", "")
    if state and state not in set(State):
        raise InvalidInput(f"a delivery is {', '.join(State)}; not {state[:40]!r}.")
    wanted = State(state) if state else None
    found = ask.call(webhook.deliveries, webhook=id, state=wanted, before=ask.before(), limit=LINES)
    return {
        "hook": hook,
        "found": found,
        "state": state,
        "states": tuple(State),
        "first": ask.before() is None,
        "made": None,
    }


PAGES = (
    Page("/webhooks", listing, added),
    Page("/webhooks/{webhook}", one, done),
    Page("/webhooks/{webhook}/deliveries/{delivery}", message),
)
