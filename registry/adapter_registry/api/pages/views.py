"""Views that somebody kept of a list: opening, sharing, renaming and removing them, and keeping what is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, with_query
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.views.saved import LISTS, View
from adapter_registry.services import views

KEPT = "kept."
"""What stands before the names of fields that hold what the list's address says."""


def beside(ask: Ask, of: str, query: Mapping[str, str]) -> dict[str, Any]:
    """What `parts/views.html` shows above a list that is narrowed and sorted so."""
    known = {name: query[name] for name in LISTS[of] if query.get(name)}
    found = ask.call(views.views, of=of)
    shown = [(each.name, address(each), each.query == known) for each in found]
    return {"views": {"of": of, "shown": shown, "query": {f"{KEPT}{name}": known[name] for name in known}}}


def address(view: View) -> str:
    """The address of a list as a view has it; whoever may read the list may open it."""
    return with_query(f"/ui/{view.of}", **view.query)


def listing(ask: Ask) -> Answer:
    """Every view of a list."""
    return Shown("views.html", _values(ask))


def sent(ask: Ask) -> Answer:
    """Keep one, call it otherwise, or forget it."""
    of, form, what = ask.places["of"], ask.form, ask.form.get("do")
    name = form.get("name", "")
    here = f"/ui/views/{of}"
    try:
        if what == "save":
            query = {key.removeprefix(KEPT): value for key, value in form.items() if key.startswith(KEPT)}
            view = ask.call(views.save, of=of, name=name, query=query)
            return Moved(address(view), f"Kept as {view.name}.")
        if what == "rename":
            view = ask.call(views.rename, of=of, name=name, to=form.get("to", ""))
            return Moved(here, f"{name} is called {view.name} now.")
        if what == "remove":
            return Moved(here, f"{ask.call(views.remove, of=of, name=name).name} is forgotten.")
        raise InvalidInput("the form did not say what is to be done; nothing was.")
    except RegistryError as error:
        return Shown("views.html", {**_values(ask), "error": error}, status=error.status)


def _values(ask: Ask) -> dict[str, Any]:
    of = ask.places["of"]
    found = [(view, address(view)) for view in ask.call(views.views, of=of)]
    return {"of": of, "found": found, "at": ask.address, "error": None}


PAGES = (Page("/views/{of}", listing, sent),)
