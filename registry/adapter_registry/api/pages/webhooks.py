"""Webhooks: who is told of what, and what came of telling them."""

from __future__ import annotations

import json
from typing import Any

from adapter_registry.api.pages.confirming import Question, asked, confirming
from adapter_registry.api.pages.page import LINES, Answer, Ask, Moved, Page, Shown, listed, with_query
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.views.listing import DeliveryPage
from adapter_registry.domain.webhooks.webhook import EVENTS, State, Webhook
from adapter_registry.services import webhook

LIST = "/ui/webhooks"


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
    return {**listed(ask, LIST, webhook.webhooks), "events": EVENTS, "made": None, "error": None, "given": {}}


def one(ask: Ask) -> Answer:
    """One webhook, and what it was told, newest first."""
    return Shown("webhook.html", _one(ask))


def done(ask: Ask) -> Answer:
    """Send again, pause, or go on."""
    id, what = ask.places["webhook"], ask.form.get("do", "")
    here = with_query(f"{LIST}/{id}", state=ask.query.get("state"))
    if what == "replay":
        again = ask.call(webhook.replay, webhook=id, delivery=ask.form.get("delivery") or None)
        return Moved(here, f"{len(again)} to be sent again." if again else "Nothing was given up, so nothing is sent.")
    if what in ("pause", "resume"):
        ask.call(webhook.change, webhook=id, active=what == "resume")
        return Moved(here, "It goes on; what waited is sent now." if what == "resume" else "Paused.")
    raise InvalidInput("the form did not say what is to be done; nothing was.")


def changing(ask: Ask) -> Answer:
    """What it is told of, and where, as a form."""
    return Shown("webhook-change.html", _change(ask))


def changed(ask: Ask) -> Answer:
    """Tell it of other events, or elsewhere."""
    id, form = ask.places["webhook"], ask.form
    events = tuple(form.get("events", "").replace(",", " ").split()) or ("*",)
    try:
        ask.call(webhook.change, webhook=id, url=form.get("url", "").strip(), events=events)
    except RegistryError as error:
        return Shown("webhook-change.html", {**_change(ask), "error": error, "given": form}, status=error.status)
    return Moved(f"{LIST}/{id}", "Changed; what happens from now on is told so.")


def _change(ask: Ask) -> dict[str, Any]:
    hook = ask.call(webhook.show, webhook=ask.places["webhook"])
    given = {"url": hook.url, "events": " ".join(hook.events)}
    return {"hook": hook, "events": EVENTS, "given": given, "error": None}


def asked_to_rotate(ask: Ask) -> Answer:
    """What a new secret means."""
    hook = ask.call(webhook.show, webhook=ask.places["webhook"])
    return asked(
        ask,
        Question(
            f"New secret for {hook.id}",
            _hit(hook),
            (
                f"Messages are signed by the new secret and, for {webhook.OVERLAP_SECONDS // 3600} hours, by the one "
                "before; a receiver that does not know the new one by then refuses them.",
            ),
            f"New secret for {hook.id}",
            f"{LIST}/{hook.id}",
            alone=True,
        ),
    )


def rotated(ask: Ask) -> Answer:
    """Give it a new secret, which is shown this once."""
    made = ask.call(webhook.rotate, webhook=ask.places["webhook"])
    return Shown("webhook.html", {**_one(ask), "made": made})


def _removal(ask: Ask) -> Question:
    hook = ask.call(webhook.show, webhook=ask.places["webhook"])
    waiting = ask.call(webhook.deliveries, webhook=hook.id, state=State.PENDING)
    dead = ask.call(webhook.deliveries, webhook=hook.id, state=State.DEAD)
    return Question(
        f"Remove webhook {hook.id}",
        (
            *_hit(hook),
            ("Waiting", f"{_count(waiting)} to be sent"),
            ("Given up", f"{_count(dead)} that could be sent again"),
        ),
        ("It is told nothing any more. What waits and what was given up is discarded, and so is its secret.",),
        f"Remove {hook.id}",
        f"{LIST}/{hook.id}",
    )


def _removed(ask: Ask) -> Moved:
    gone = ask.call(webhook.remove, webhook=ask.places["webhook"])
    return Moved(LIST, f"{gone.url} is told nothing any more.")


def _hit(hook: Webhook) -> tuple[tuple[str, str], ...]:
    return ("Receiver", hook.url), ("About", hook.scope)


def _count(page: DeliveryPage) -> str:
    return f"{len(page.items)}{' or more' if page.next else ''}"


def message(ask: Ask) -> Answer:
    """What one delivery says."""
    told = ask.call(webhook.message, webhook=ask.places["webhook"], delivery=ask.places["delivery"])
    body = json.dumps(json.loads(told.body), indent=2, ensure_ascii=False)
    return Shown("webhook-message.html", {"told": told, "body": body, "partial": ask.partial})


def _one(ask: Ask) -> dict[str, Any]:
    id = ask.places["webhook"]
    state = ask.query.get("state", "")
    if state and state not in set(State):
        raise InvalidInput(f"a delivery is {', '.join(State)}; not {state[:40]!r}.")
    wanted = State(state) if state else None
    found = ask.call(webhook.deliveries, webhook=id, state=wanted, before=ask.before(), limit=LINES)
    return {
        "hook": ask.call(webhook.show, webhook=id),
        "found": found,
        "state": state,
        "states": tuple(State),
        "first": ask.before() is None,
        "made": None,
    }


PAGES = (
    Page("/webhooks", listing, added),
    Page("/webhooks/{webhook}", one, done),
    Page("/webhooks/{webhook}/change", changing, changed),
    Page("/webhooks/{webhook}/secret", asked_to_rotate, rotated),
    Page("/webhooks/{webhook}/remove", *confirming(_removal, _removed)),
    Page("/webhooks/{webhook}/deliveries/{delivery}", message),
)
