"""Webhooks: who is told of which event, what the message says, and when it is tried again.

A message keeps its id through every attempt and replay, so that receivers recognise duplicates by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from adapter_registry.domain.audit.event import Entry, Event, Outcome
from adapter_registry.domain.digest import canonical_json
from adapter_registry.domain.errors import InvalidInput

TYPES: Mapping[tuple[str, Outcome], str] = {
    ("adapter.create", Outcome.DONE): "adapter.created",
    ("push", Outcome.DONE): "version.pushed",
    ("push", Outcome.REFUSED): "version.refused",
    ("remove", Outcome.DONE): "version.removed",
    ("revoke", Outcome.DONE): "version.revoked",
    ("ancestor.revoke", Outcome.DONE): "version.ancestor_revoked",
    ("label", Outcome.DONE): "version.labelled",
    ("promote", Outcome.DONE): "stage.moved",
    ("rollback", Outcome.DONE): "stage.moved",
    ("promote", Outcome.REFUSED): "stage.refused",
    ("override", Outcome.DONE): "stage.overridden",
    ("request.draft", Outcome.DONE): "request.opened",
    ("request.waiting", Outcome.DONE): "request.waiting",
    ("request.approve", Outcome.DONE): "request.approved",
    ("request.applied", Outcome.DONE): "request.ended",
    ("request.refused", Outcome.REFUSED): "request.ended",
    ("request.declined", Outcome.REFUSED): "request.ended",
    ("request.expired", Outcome.REFUSED): "request.ended",
    ("request.failed", Outcome.REFUSED): "request.ended",
    ("request.superseded", Outcome.DONE): "request.ended",
    ("request.cancelled", Outcome.DONE): "request.ended",
    ("hold.lift", Outcome.DONE): "hold.lifted",
    ("tag.set", Outcome.DONE): "tag.moved",
    ("tag.remove", Outcome.DONE): "tag.removed",
    ("score.add", Outcome.DONE): "score.added",
    ("base.add", Outcome.DONE): "base.added",
    ("policy.set", Outcome.DONE): "policy.changed",
    ("deploy", Outcome.DONE): "fleet.deployed",
    ("deploy", Outcome.REFUSED): "fleet.failed",
    ("job.submit", Outcome.DONE): "job.submitted",
    ("job.succeed", Outcome.DONE): "job.succeeded",
    ("job.fail", Outcome.DONE): "job.failed",
    ("job.cancel", Outcome.DONE): "job.cancelled",
}
"""What an attempt and its outcome are called in messages. What is not here is told to nobody (accounts and tokens)."""

EVENTS = tuple(sorted(set(TYPES.values())))
EVERYTHING = "*"

_OF_THE_REGISTRY = ("base.", "policy.")
_TOLD = (
    "stage",
    "tag",
    "digest",
    "base",
    "semver",
    "decision",
    "blockers",
    "revision",
    "job",
    "kind",
    "request",
    "state",
    "ancestor",
    "severity",
    "fleet",
    "name",
    "rules",
    "ticket",
)
_BACKOFF_SECONDS = (5, 30, 120, 600, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600)
JITTER = 0.2
LONGEST_URL = 2_048
GONE = 410

_SCOPE_PART = re.compile(r"[A-Za-z0-9._-]{0,96}\*?[A-Za-z0-9._-]{0,96}")
_URL = re.compile(r"[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_VERSION = re.compile(r"v[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver that asked to be told; its secrets are kept apart from it.

    Attributes:
        id: at most 12 letters and digits.
        url: where messages are posted, see `check_url`.
        scope: which adapters it is told about, see `check_scope`.
        events: of EVENTS, or EVERYTHING alone, see `check_events`.
        active: whether it is told at all.
        created_by: who set it up.
        created_at: when, ISO 8601 in UTC.
    """

    id: str
    url: str
    scope: str
    events: tuple[str, ...]
    active: bool
    created_by: str
    created_at: str

    @property
    def key(self) -> str:
        """What lists of webhooks are sorted by, oldest first."""
        return f"{self.created_at} {self.id}"


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one Webhook.

    Attributes:
        id: the message's id, see `message_id`.
        webhook: id of the Webhook.
        event: sequence of the Event it tells.
        attempts: how often it was sent.
        due_at: when it is sent next, ISO 8601 in UTC; means nothing unless pending.
        state: pending, delivered, or dead: given up, and sent again only by hand (`replayed`).
        status: HTTP status of the last answer; None when there was none.
        error: why the last attempt failed; empty when it did not.
        kind: what happened, of EVENTS.
        about: the adapter, base or stage it happened to; messages about the same one arrive in order.
        attempted_at: when it was last sent, ISO 8601 in UTC; None when never.
    """

    id: str
    webhook: str
    event: int
    attempts: int
    due_at: str
    state: State
    status: int | None = None
    error: str = ""
    kind: str = ""
    about: str = ""
    attempted_at: str | None = None


def check_url(text: str) -> str:
    """A URL that messages may be posted to, as given; which addresses its host may have is asked when sending.

    Raises:
        InvalidInput: not http or https, credentials or a fragment in it, no plain host, a port out of range, longer
            than LONGEST_URL, or characters that a URL does not have.
    """
    if len(text) > LONGEST_URL:
        raise InvalidInput(f"the webhook's URL has {len(text):,} characters; {LONGEST_URL:,} is the most.")
    if not _URL.fullmatch(text):
        raise InvalidInput("the webhook's URL is empty or has characters that URLs escape, such as blanks or accents.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidInput(f"the webhook's URL has no valid host and port: {error}.") from error
    if parts.scheme not in ("http", "https"):
        raise InvalidInput(f"the webhook's URL must start with https:// or http://, not {parts.scheme or 'nothing'!r}.")
    if "@" in parts.netloc:
        raise InvalidInput("the webhook's URL has credentials in it; messages are signed instead, so leave them out.")
    if not _HOST.fullmatch(host) or port == 0 or parts.netloc.endswith(":"):
        raise InvalidInput("the webhook's URL must name a host, as in https://example.org/hook.")
    if "#" in text:
        raise InvalidInput("the webhook's URL has a fragment (#...), which no server would see; leave it out.")
    return text


def check_scope(text: str) -> str:
    """A scope, as given: `acme/sql`, `acme/*`, `*/sql-*`; `*` alone is everything, bases and policies included.

    Raises:
        InvalidInput: anything else; each half may have one `*`, which stands for any text without a slash.
    """
    halves = text.split("/")
    if text != EVERYTHING and (len(halves) != 2 or not all(half and _SCOPE_PART.fullmatch(half) for half in halves)):
        raise InvalidInput(
            f"{text[:100]!r} is not a scope: write namespace/name, with at most one * in each half, or * alone."
        )
    return text


def check_events(events: Sequence[str]) -> tuple[str, ...]:
    """Events to be told of, sorted, each once; raises InvalidInput for what is none, and for an empty list."""
    unknown = [event for event in events if event not in (*EVENTS, EVERYTHING)]
    if unknown or not events:
        found = f"{unknown[0][:100]!r} is not an event" if unknown else "no event was given"
        raise InvalidInput(f"{found}; they are {', '.join(EVENTS)}, or {EVERYTHING} for all of them.")
    return (EVERYTHING,) if EVERYTHING in events else tuple(sorted(set(events)))


def type_of(entry: Entry) -> str | None:
    """What messages call it, of EVENTS; None for what is told to nobody."""
    return TYPES.get((entry.action, entry.outcome))


def adapter_of(entry: Entry) -> str | None:
    """The adapter it is about, `namespace/name`; None when it is about a base, a policy or the registry."""
    adapter, at, version = entry.subject.partition("@")
    if (type_of(entry) or "").startswith(_OF_THE_REGISTRY) or adapter.count("/") != 1:
        return None
    return adapter if not at or _VERSION.fullmatch(version) else None


def matches(webhook: Webhook, entry: Entry) -> bool:
    """Whether `webhook` is to be told of `entry`."""
    kind = type_of(entry)
    if not webhook.active or kind is None or not {kind, EVERYTHING} & set(webhook.events):
        return False
    adapter = adapter_of(entry)
    if webhook.scope == EVERYTHING or adapter is None:
        return webhook.scope == EVERYTHING
    return all(_fits(*pair) for pair in zip(webhook.scope.split("/"), adapter.split("/"), strict=True))


def _fits(pattern: str, name: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return name == pattern
    return len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)


def payload(event: Event) -> bytes:
    """The message's body: canonical JSON, `{"type", "timestamp", "data"}` as Standard Webhooks recommends.

    `data` has `sequence` (the order of events; gaps are events that are told to others), `event` (its digest in the
    audit log), `actor`, `action`, `subject`, `adapter`, what of the detail names versions and reasons, and for a
    pointer that moved `from` and `to`: references, None for nowhere.

    Raises:
        InvalidInput: an event that is told to nobody.
    """
    entry, kind = event.entry, type_of(event.entry)
    if kind is None:
        raise InvalidInput(f"{entry.action} ({entry.outcome}) is not told to webhooks.")
    data: dict[str, Any] = {
        "sequence": event.sequence,
        "event": event.digest,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "adapter": adapter_of(entry),
    }
    data |= {key: entry.detail[key] for key in _TOLD if key in entry.detail}
    if reason := entry.detail.get("reason") or entry.detail.get("because"):
        data["reason"] = reason
    if kind in ("stage.moved", "tag.moved", "tag.removed"):
        data["from"] = entry.detail.get("from")
        data["to"] = entry.subject if kind != "tag.removed" else None
    return canonical_json({"type": kind, "timestamp": entry.at, "data": data})


def message_id(webhook: str, sequence: int) -> str:
    """The id of the message that tells `webhook` of event `sequence`: the same however often it is made or sent."""
    return f"msg_{webhook}_{sequence}"


def scheduled(webhook: Webhook, event: Event) -> Delivery:
    """The delivery that `event` causes, due at once."""
    identity = message_id(webhook.id, event.sequence)
    entry = event.entry
    return Delivery(
        identity,
        webhook.id,
        event.sequence,
        0,
        entry.at,
        State.PENDING,
        kind=type_of(entry) or "",
        about=adapter_of(entry) or entry.subject,
    )


def backoff(attempt: int, *, jitter: float) -> float | None:
    """Seconds to wait after the failed attempt number `attempt` (1, 2, ...); None: give up.

    Args:
        attempt: how many attempts have failed by now.
        jitter: -1 to 1, drawn by the caller; moves the wait by up to JITTER of itself either way, so that messages
            that failed together do not return together.
    """
    if attempt > len(_BACKOFF_SECONDS):
        return None
    return _BACKOFF_SECONDS[attempt - 1] * (1 + JITTER * jitter)


def attempted(delivery: Delivery, *, status: int | None, error: str, at: str, jitter: float) -> Delivery:
    """`delivery` after one more attempt.

    Args:
        delivery: as it was.
        status: HTTP status of the answer; None when there was none.
        error: why it failed; empty when it did not.
        at: when the attempt ended, ISO 8601 in UTC.
        jitter: see `backoff`.
    """
    attempts = delivery.attempts + 1
    after = replace(delivery, attempts=attempts, status=status, error=error, attempted_at=at)
    if status is not None and 200 <= status < 300:
        return replace(after, state=State.DELIVERED, error="")
    wait = None if status == GONE else backoff(attempts, jitter=jitter)
    if wait is None:
        return replace(after, state=State.DEAD)
    return replace(after, state=State.PENDING, due_at=later(at, wait))


def replayed(delivery: Delivery, *, at: str) -> Delivery:
    """`delivery` to be sent once more from the start, under its own id: receivers that had it will drop it."""
    return replace(delivery, attempts=0, due_at=at, state=State.PENDING)


def later(at: str, seconds: float) -> str:
    """A moment `seconds` after another, both ISO 8601 in UTC."""
    moment = datetime.fromisoformat(at).astimezone(UTC) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
