"""The list of adapters."""

from __future__ import annotations

from adapter_registry.api.pages import views
from adapter_registry.api.pages.page import LINES, Answer, Ask, Page, Shown
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.views.listing import AdapterPage, Order
from adapter_registry.services import base, show, stages


def listing(ask: Ask) -> Answer:
    """Everything that the caller may read, a page at a time; all that narrows it stands in the address."""
    query = ask.query
    wanted = {name: query.get(name, "").strip() for name in ("q", "where", "stage", "base")}
    order = Order(query["sort"]) if query.get("sort") in set(Order) else Order.NEWEST
    found, error = AdapterPage((), None), None
    try:
        found = ask.call(
            show.adapters,
            stage=wanted["stage"] or None,
            base=wanted["base"] or None,
            search=wanted["q"] or None,
            where=wanted["where"] or None,
            order=order,
            trends=True,
            after=query.get("after", ""),
            limit=LINES,
        )
    except RegistryError as refused:
        error = refused
    kept = {**wanted, "sort": order.value if "sort" in query else ""}
    values = {
        "found": found,
        "error": error,
        "kept": kept,
        "order": order.value,
        "narrowed": any(wanted.values()),
        "first": not query.get("after"),
        "bases": ask.call(base.known).items,
        "places": ask.call(stages.stages).places,
        **views.beside(ask, "adapters", kept),
    }
    return Shown("adapters.html", values, status=error.status if error else 200)


PAGES = (Page("/adapters", listing),)
