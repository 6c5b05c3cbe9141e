"""What cannot be undone is asked first, in a dialog or on a page of its own: what is hit, and what stops working."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapter_registry.api.pages.page import Answer, Ask, Moved, Shown, View, with_query
from adapter_registry.domain.errors import RegistryError


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before something is done.

    Attributes:
        title: `Revoke token laptop`.
        hit: (what, value) of the thing that is hit: its name, its digest, whose it is.
        means: what stops working, and what stays.
        button: what the button says; it names the thing.
        back: the address that the page leads back to.
        reason: what the field for a reason is called; empty for no field.
        refused: why it cannot be done now; empty when it can.
        alone: whether the answer is a page that shows something once, so that no dialog can hold it.
    """

    title: str
    hit: tuple[tuple[str, str], ...]
    means: tuple[str, ...]
    button: str
    back: str
    reason: str = ""
    refused: str = ""
    alone: bool = False


def confirming(question: Callable[[Ask], Question], act: Callable[[Ask], Moved]) -> tuple[View, View]:
    """The two views of a `Page` that asks and then acts; a refusal stands above the question."""

    def confirmed(ask: Ask) -> Answer:
        try:
            return act(ask)
        except RegistryError as error:
            return asked(ask, question(ask), error)

    return lambda ask: asked(ask, question(ask)), confirmed


def asked(ask: Ask, question: Question, error: RegistryError | None = None) -> Shown:
    """The question as a dialog or a page."""
    values = {
        "question": question,
        "error": error,
        "address": with_query(ask.path, **ask.query),
        "partial": ask.partial,
        "given": ask.form.get("reason", ""),
    }
    return Shown("confirm.html", values, status=error.status if error and not ask.partial else 200)
