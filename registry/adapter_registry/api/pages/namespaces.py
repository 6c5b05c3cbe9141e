"""A namespace and its settings."""

from __future__ import annotations

from typing import Any

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown
from adapter_registry.domain.errors import RegistryError
from adapter_registry.services import base, draft


def show(ask: Ask) -> Answer:
    """Which base pushes to it mean when their config names none that is registered."""
    return Shown("namespace.html", _values(ask))


def sent(ask: Ask) -> Answer:
    """Set that base, or forget it."""
    namespace, chosen = ask.places["namespace"], ask.form.get("base", "").strip()
    try:
        ask.call(draft.set_default_base, namespace=namespace, base=chosen or None)
    except RegistryError as error:
        return Shown("namespace.html", {**_values(ask), "error": error}, status=error.status)
    said = f"Pushes to {namespace} that name no base mean {chosen}." if chosen else f"{namespace} has no default base."
    return Moved(f"/ui/namespaces/{namespace}", said)


def _values(ask: Ask) -> dict[str, Any]:
    namespace = ask.places["namespace"]
    return {
        "namespace": namespace,
        "default": ask.call(draft.default_base, namespace=namespace),
        "bases": ask.call(base.known).items,
        "may": ask.may("namespace.write", f"{namespace}/*"),
        "error": None,
    }


PAGES = (Page("/namespaces/{namespace}", show, sent),)
