"""What promotion requests need from the catalog: requests, groups of accounts, holds, freeze windows."""

from __future__ import annotations

from typing import Protocol

from adapter_registry.domain.promotions.passage import Hold, Window
from adapter_registry.domain.promotions.request import Request


class RequestRows(Protocol):
    """Requests, at most one open for each stage of an adapter, and what their judgement looks at."""

    def add(self, request: Request) -> Request:
        """Store it; with its id."""

    def put(self, request: Request) -> None:
        """Store how it is now."""

    def get(self, request: int) -> Request | None: ...

    def open_for(self, adapter: str, stage: str) -> Request | None: ...

    def asked(self, adapter: str, stage: str, *, number: int) -> tuple[Request, ...]:
        """Every request that there ever was for a version to enter a stage, newest first."""

    def listed(
        self, *, adapter: str | None = None, still_open: bool = False, before: int | None = None, limit: int
    ) -> tuple[Request, ...]:
        """Newest first; `before` an id."""

    def groups(self, *, after: str = "", limit: int | None = None) -> dict[str, tuple[str, ...]]:
        """Group -> its members, both by name; at most `limit` groups, beginning behind `after`."""

    def set_member(self, group: str, account: str, *, member: bool) -> None: ...

    def hold(self, adapter: str, stage: str) -> Hold | None: ...

    def set_hold(self, hold: Hold) -> None: ...

    def lift_hold(self, adapter: str, stage: str) -> None: ...

    def freezes(self) -> tuple[Window, ...]:
        """In the order they were declared."""

    def add_freeze(self, window: Window) -> Window:
        """Store it; with its id."""

    def remove_freeze(self, window: int) -> bool:
        """Whether there was one."""
