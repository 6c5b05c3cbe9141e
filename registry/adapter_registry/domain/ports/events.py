"""What is needed of the audit log in the catalog."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from adapter_registry.domain.audit.event import Entry, Event


class EventRows(Protocol):
    """The audit log."""

    def append(self, entry: Entry) -> Event: ...

    def newest(self) -> int:
        """The sequence of the newest; 0 when there is none."""

    def all(self, *, subject: str | None = None, after: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        """In order, beginning after sequence `after`; `subject` keeps those about it and about its versions."""

    def backwards(
        self, *, subject: str = "", words: Iterable[str] = (), before: int, after: int = 0, limit: int
    ) -> tuple[Event, ...]:
        """Newest first, between two sequences; `subject` as of `all`, at least those with all `words` in the entry."""

    def attempts(self, subjects: Sequence[str], *, limit: int) -> tuple[Event, ...]:
        """Of the newest `limit` about exactly these versions, the attempts to promote and the ways of requests.

        Newest first.
        """
