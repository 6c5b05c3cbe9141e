"""Storage: how many bytes each adapter has, what is shared, and what a collection would free."""

from __future__ import annotations

from adapter_registry.api.pages.page import Answer, Ask, Page, Shown, listed
from adapter_registry.services import usage


def show(ask: Ask) -> Answer:
    """Bytes by adapter; with `plan` in the address, what a collection would do, for who may collect."""
    maintains = ask.may("maintain")
    values = {
        **listed(ask, "/ui/storage", usage.usage),
        "maintains": maintains,
        "plan": ask.call(usage.plan) if maintains and "plan" in ask.query else None,
    }
    return Shown("storage.html", values)


PAGES = (Page("/storage", show),)
