"""What a page is made of: who asks and what, what is shown, and where it leads.

A page is a synchronous function of an `Ask`, carried out in a thread. It asks the registry through `Ask.call`, which
asks for the same rights as the native API does; it knows no rows, no rules and no cookies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote, urlencode

from adapter_registry.api import rights
from adapter_registry.domain.audit.denial import Denials
from adapter_registry.domain.errors import Forbidden, InvalidInput
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.ports import Backend
from adapter_registry.operations import BY_FUNCTION

P = ParamSpec("P")
T = TypeVar("T")
LINES = 50
"""Of a page of a list."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a form brought: what its sender calls it, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """A question for a page.

    Attributes:
        backend: the registry on behalf of who asks.
        denials: which refusals for want of rights go on the record.
        path: the address, below the server's root.
        places: what stands in the places of the route.
        query: what stands behind the `?`, the last of each name.
        pairs: the same, all of it, in order.
        form: what was sent by a form; empty for a GET.
        files: the files that it brought, by the name of the field.
        partial: whether a script asks for a part of a page, not a browser for a whole one.
        address: how this server is reached, `https://adapters.example.org`: for snippets that people copy.
    """

    backend: Backend
    denials: Denials
    path: str
    places: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[Upload, ...]] = field(default_factory=dict)
    partial: bool = False
    address: str = ""

    @property
    def who(self) -> Principal:
        """Who asks."""
        return self.backend.asks

    @property
    def adapter(self) -> str:
        """The adapter that the address names."""
        return f"{self.places['adapter_namespace']}/{self.places['adapter_name']}"

    @property
    def reference(self) -> str:
        """The version that the address names."""
        return f"{self.adapter}@v{self.number('number')}"

    def number(self, place: str) -> int:
        """A whole number in the address, as `3` or as `v3`; raises InvalidInput for anything else."""
        text = self.places[place].removeprefix("v")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InvalidInput(f"{text[:40]!r} is not a number, as the address of this page has one.")
        return int(text)

    def before(self, name: str = "before") -> int | None:
        """Where a page of a list by number begins, from the query; None for its start."""
        text = self.query.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None

    def seen(self) -> int | None:
        """The number by which a form says what its page showed; None where it does not say.

        Raises:
            InvalidInput: it is none.
        """
        text = self.form.get("seen", "")
        if text and not (text.isascii() and text.isdigit() and len(text) < 16):
            raise InvalidInput(f"{text[:40]!r} is not what a page of this server says it showed; nothing was done.")
        return int(text) if text else None

    def every(self, name: str) -> tuple[str, ...]:
        """Everything in the query of one name, in order, each once, without what is empty."""
        return tuple(dict.fromkeys(text for key, value in self.pairs if key == name and (text := value.strip())))

    def call(self, function: Callable[P, T], **given: Any) -> T:
        """What an operation answers, if who asks may ask it.

        Raises:
            NotFound: what it is about is not theirs to see; the text is that of what does not exist.
            Forbidden: they see it and may not do this.
        """
        operation = BY_FUNCTION[function]
        try:
            rights.require(operation, self.backend, given)
        except Forbidden as denied:
            rights.note(self.denials, operation, self.backend, given, denied)
            raise
        carried_out: Callable[..., T] = function
        return carried_out(self.backend, **given)

    def may(self, verb: str, adapter: str | None = None) -> bool:
        """Whether a button for it makes sense."""
        return self.who.may(verb, adapter)


@dataclass(frozen=True, slots=True)
class Shown:
    """A page to show: its template and what stands in it."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Moved:
    """Where to go on, with a sentence that says what was done."""

    to: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Nothing new since what is shown already: the answer to a part that looks after itself."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to keep: its name and what stands in it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """A domain value as JSON, for a script of the page that draws it."""

    value: object


Answer = Shown | Moved | Unchanged | File | Data
View = Callable[[Ask], Answer]


@dataclass(frozen=True, slots=True)
class Page:
    """A route of the web pages.

    Attributes:
        path: below `/ui`, with places in braces.
        view: what answers a GET.
        sent: what answers a form sent to the same address; None where there is none.
    """

    path: str
    view: View
    sent: View | None = None


def listed(
    ask: Ask,
    path: str,
    question: Callable[..., Any],
    *,
    by: str = "after",
    kept: Mapping[str, object] | None = None,
    **given: Any,
) -> dict[str, Any]:
    """What templates show of a list by name, a page at a time: `found`, where `after` leads, whether it is the `first`.

    Args:
        ask: whose `page` says where it begins.
        path: of the list.
        question: the service function, whose answer has `items` and `next`.
        by: what that calls where it begins.
        kept: what the address of the next page has beside.
        given: the function's other arguments.
    """
    at = ask.query.get("page", "")
    found = ask.call(question, **{by: at}, **given, limit=LINES)
    after = with_query(path, **(kept or {}), page=found.next) if found.next else ""
    return {"found": found, "after": after, "first": not at}


def of_adapter(adapter: str, *parts: object) -> str:
    """The address of a page about an adapter."""
    return "/".join(["/ui/adapters", *(quote(str(part), safe="/@") for part in (adapter, *parts))])


def of_version(adapter: str, number: int, *parts: object) -> str:
    """The address of a page about a version."""
    return of_adapter(adapter, "versions", f"v{number}", *parts)


def with_query(path: str, **values: object) -> str:
    """An address with a query; what is None or empty is left out, several values of one name stand one by one."""
    kept = {name: value for name, value in values.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept, doseq=True)}" if kept else path
