"""Requests: what waits for whom, and one of them as a checklist that is approved, declined or taken back."""

from __future__ import annotations

from typing import Any

from adapter_registry.api.pages import views
from adapter_registry.api.pages.page import LINES, Answer, Ask, Moved, Page, Shown, Unchanged, of_adapter, with_query
from adapter_registry.domain.digest import of_json
from adapter_registry.domain.errors import InvalidInput, RegistryError, Revoked
from adapter_registry.domain.promotions.promotion import Promotion
from adapter_registry.domain.promotions.request import Request, State
from adapter_registry.domain.views.record import Whose
from adapter_registry.operation import to_wire
from adapter_registry.services import inbox, promote, record, request
from adapter_registry.services.judgement import Judged


def listing(ask: Ask) -> Answer:
    """Requests that wait for whoever asks; theirs; or all."""
    values = _listed(ask)
    narrowed = {name: value for name, value in values["kept"].items() if value and name in ask.query}
    return Shown("requests.html", {**values, **views.beside(ask, "requests", values["kept"] if narrowed else {})})


def table(ask: Ask) -> Answer:
    """The lines alone, for the part of the page that looks after itself."""
    values = _listed(ask)
    return Unchanged() if values["mark"] == ask.query.get("seen") else Shown("parts/requests-table.html", values)


def _listed(ask: Ask) -> dict[str, Any]:
    asked = ask.query.get("whose", "")
    whose = Whose(asked) if asked in set(Whose) else Whose.WAITING
    ended, adapter = bool(ask.query.get("ended")), ask.query.get("adapter", "").strip()
    found = ask.call(
        inbox.inbox,
        whose=whose,
        still_open=not ended,
        adapter=adapter or None,
        before=ask.before(),
        limit=LINES,
    )
    return {
        "found": found,
        "whose": whose.value,
        "ended": ended,
        "adapter": adapter,
        "kept": {"whose": whose.value, "ended": "1" if ended else "", "adapter": adapter},
        "before": ask.before(),
        "first": ask.before() is None,
        "mark": _mark(found),
    }


def _mark(shown: object) -> str:
    """What tells whether a part would show anything else."""
    return of_json(to_wire(shown).decode()).partition(":")[2][:16]


def show(ask: Ask) -> Answer:
    """One request: every rule with what it found, and what whoever asks can do about it."""
    return Shown("request.html", _values(ask, _named(ask)))


def checklist(ask: Ask) -> Answer:
    """The part of the page that looks after itself."""
    values = _values(ask, _named(ask))
    if values["mark"] == ask.query.get("seen"):
        return Unchanged()
    return Shown("parts/checklist.html", values)


def acted(ask: Ask) -> Answer:
    """Approve it as it was seen, or take it back; a refusal is shown above the checklist."""
    found = _named(ask)
    where = {"adapter": found.adapter, "stage": found.stage, "request": found.name}
    try:
        if ask.form.get("do") == "cancel":
            ask.call(request.cancel, **where)
            return Moved(address(found), f"{found.name} is cancelled; {found.stage} did not move.")
        if ask.form.get("do") != "approve":
            raise InvalidInput("a request is approved, declined or cancelled; nothing was done.")
        seen, comment = ask.form.get("seen") or None, ask.form.get("comment", "")
        judged = ask.call(request.approve, **where, seen=seen, comment=comment)
    except RegistryError as error:
        return Shown("request.html", {**_values(ask, _named(ask)), "error": error}, status=error.status)
    went = f"{found.reference} is in {found.stage} now." if judged.promotion else "It still waits for something else."
    return Moved(address(found), f"You approved {found.name}. {went}")


def declining(ask: Ask) -> Answer:
    """Why it is declined, asked in a dialog."""
    return Shown("request-decline.html", _decline_values(ask, _named(ask)))


def declined(ask: Ask) -> Answer:
    """Decline it, with a comment that the requester can act on."""
    found = _named(ask)
    where = {"adapter": found.adapter, "stage": found.stage, "request": found.name}
    try:
        after = ask.call(request.decline, **where, reason=ask.form.get("reason", ""))
    except RegistryError as error:
        values = {**_decline_values(ask, found), "error": error}
        return Shown("request-decline.html", values, status=200 if ask.partial else error.status)
    said = "It stays open: its policy says so." if after.state.is_open else f"{found.stage} did not move."
    return Moved(address(found), f"You declined {found.name}. {said}")


def address(found: Request) -> str:
    """The address of a request."""
    return f"/ui/requests/{found.name}"


def _named(ask: Ask) -> Request:
    return ask.call(request.show, request=ask.places["request"])


def _decline_values(ask: Ask, found: Request) -> dict[str, object]:
    reason = ask.form.get("reason", "")
    return {"asked": found, "address": address(found), "partial": ask.partial, "error": None, "reason": reason}


def _values(ask: Ask, found: Request) -> dict[str, object]:
    judged = _judged(ask, found)
    moved = {each.by: each.binding.moved(judged.binding) for each in found.approvals} if judged else {}
    stale = {by: changed for by, changed in moved.items() if changed}
    may = {verb: ask.may(f"{verb}:{found.stage}", found.adapter) for verb in ("approve", "promote")}
    return {
        "asked": found,
        "judged": judged,
        "moved": _move(ask, found),
        "stale": stale,
        "may": may,
        "mine": ask.who.name in moved.keys() - stale.keys(),
        "mark": _mark((found, judged)),
        "bound": ask.query.get("bound") or (judged.seen if judged else ""),
        "address": address(found),
        "error": None,
        "adapter_page": of_adapter(found.adapter),
        "others": with_query("/ui/requests", whose="all", adapter=found.adapter, ended=1),
    }


def _judged(ask: Ask, found: Request) -> Judged | None:
    """What every rule says of it now; None once it is over, or while it cannot be judged."""
    if not found.state.is_open:
        return None
    over = "\n".join(found.override.rules) if found.override else ""
    try:
        judged = ask.call(
            promote.explain, reference=found.reference, stage=found.stage, hotfix=found.hotfix, override=over
        )
    except (InvalidInput, Revoked):
        return None
    return judged if judged.request.id == found.id else None


def _move(ask: Ask, found: Request) -> Promotion | None:
    """The move that it became."""
    if found.state is not State.APPLIED:
        return None
    page = ask.call(record.moves, adapter=found.adapter, stage=found.stage, limit=record.MOST)
    since = (each for each in reversed(page.items) if each.at >= found.opened_at)
    return next((each for each in since if each.version == found.version), None)


PAGES = (
    Page("/requests", listing),
    Page("/requests/table", table),
    Page("/requests/{request}", show, acted),
    Page("/requests/{request}/now", checklist),
    Page("/requests/{request}/decline", declining, declined),
)
