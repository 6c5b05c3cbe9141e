"""How a question is carried out: on the embedded registry in this process, or by the server that ADAPTERS_URL names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from adapter_registry.domain.ports import Backend
from adapter_registry.settings import Settings

if TYPE_CHECKING:
    from adapter_registry.domain.promotions.request import Request
    from adapter_registry.transport.remote import Remote

P = ParamSpec("P")
T = TypeVar("T")


STIRRING = frozenset(
    (
        *("score.add", "score.add_to_base", "score.invalidate", "score.invalidate_of_base", "mark.label"),
        *("signing.sign", "signing.revoke", "scan.scan", "scan.report", "promote.set_policy"),
        *("promote.promote", "standstill.thaw", "standstill.lift", "mark.revoke"),
    )
)
"""Brings what requests wait for, or what ends them: a server looks at them every few seconds, here nobody else does."""


def _named(operation: Callable[..., object]) -> str:
    return f"{operation.__module__.rpartition('.')[2]}.{operation.__name__}"


class Asking:
    """What can ask: it has settings, and opens or reaches a registry when it first has to; `backend` is one opened."""

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        self._settings = replace(settings, url=None) if backend is not None else settings
        self._opened = backend
        self._reached: Remote | None = None
        self.moved_on: tuple[Request, ...] = ()
        """Requests that what was asked last moved on, without a server; one looks at them by itself."""

    @property
    def settings(self) -> Settings:
        """Where things are, and who asks."""
        return self._settings

    def _ask(self, operation: Callable[Concatenate[Backend, P], T], *args: P.args, **given: P.kwargs) -> T:
        if self._settings.url:
            return cast("T", self._remote().call(operation, given))
        if self._opened is None:
            from adapter_registry import app  # noqa: PLC0415  importing a database takes half of a command's time

            self._opened = app.embedded(self._settings)
        answer = operation(self._opened, *args, **given)
        if _named(operation) in STIRRING:
            from adapter_registry.services import request  # noqa: PLC0415

            self.moved_on = request.stirred(self._opened)
        return answer

    def require_server(self, *, seconds: float) -> None:
        """Raise ServerUnreachable where the server is silent for so long; the embedded registry always answers."""
        if self._settings.url:
            self._remote().require(seconds)

    def _remote(self) -> Remote:
        if self._reached is None:
            from adapter_registry.transport.remote import Remote  # noqa: PLC0415  not needed by the embedded registry

            settings = self._settings
            self._reached = Remote(settings.url or "", settings.token, answer_seconds=settings.answer_seconds)
        return self._reached


def every(page_after: Callable[[Any], Any], first: Any) -> Iterator[Any]:
    """The items of every page, from the one that begins at `first`."""
    start = first
    while True:
        page = page_after(start)
        yield from page.items
        if page.next is None:
            return
        start = page.next
