"""What is looked through when decisions are read or made: requests, moves of stages, revisions of policies, the log."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.promotions.promotion import Promotion
from adapter_registry.domain.promotions.request import Request


class Whose(StrEnum):
    """Which requests: open ones that whoever asks may approve and did not yet, those they asked for, or all."""

    WAITING = "waiting"
    MINE = "mine"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A request in a list.

    Attributes:
        request: as it was last judged.
        stale: approver -> what changed since they approved; of open requests alone.
    """

    request: Request
    stale: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Requests, newest first; `next` is what `before` is for the page after, None at the end."""

    items: tuple[RequestLine, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class MovePage:
    """Moves of stages, newest first; `next` is what `before` is for the page after, None at the end."""

    items: tuple[Promotion, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a stage's policy, who set it, and when."""

    revision: int
    policy: Policy
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for in the audit log; empty for everything.

    Attributes:
        actor: exactly this account.
        action: this verb, or the verbs of this scope: `request` for `request.approve`.
        subject: exactly this, or the versions of it.
        outcome: `done` or `refused`.
        since: ISO 8601 in UTC, that moment included.
        until: likewise.
    """

    actor: str = ""
    action: str = ""
    subject: str = ""
    outcome: str = ""
    since: str = ""
    until: str = ""

    def holds(self, event: Event) -> bool:
        """Whether an event is one of those."""
        entry = event.entry
        return (
            self.actor in ("", entry.actor)
            and (self.action in ("", entry.action) or entry.action.startswith(f"{self.action}."))
            and (self.subject in ("", entry.subject) or entry.subject.startswith(f"{self.subject}@"))
            and self.outcome in ("", entry.outcome)
            and (not self.since or entry.at >= self.since)
            and (not self.until or entry.at <= self.until)
        )


@dataclass(frozen=True, slots=True)
class LogPage:
    """Events that were looked for, newest first.

    Attributes:
        items: the events.
        next: what `before` is for the page after; None at the end.
        back_to: the sequence down to which was looked: a long search stops there, and goes on by `next`.
        newest: the last event of the log, by which the whole of it is known; None while it is empty.
    """

    items: tuple[Event, ...]
    next: int | None
    back_to: int
    newest: Event | None


@dataclass(frozen=True, slots=True)
class Chain:
    """A log that was followed from its first event: how many, and the digest of the last."""

    events: int
    head: Digest
