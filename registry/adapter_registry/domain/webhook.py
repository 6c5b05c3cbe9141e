"""Webhooks: who is told of which event, what the message says, how it is signed, and when it is tried again.

Signatures follow Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, spec 1.0.0): HMAC-SHA256
over `id.timestamp.body`, in the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. A message keeps its
id through every attempt and replay, so that receivers recognise duplicates by it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from adapter_registry.domain.digest import canonical_json
from adapter_registry.domain.errors import InvalidInput, Unauthorised
from adapter_registry.domain.event import Entry, Event, Outcome

TYPES: Mapping[tuple[str, Outcome], str] = {
    ("adapter.create", Outcome.DONE): "adapter.created",
    ("push", Outcome.DONE): "version.pushed",
    ("push", Outcome.REFUSED): "version.refused",
    ("remove", Outcome.DONE): "version.removed",
    ("revoke", Outcome.DONE): "version.revoked",
    ("label", Outcome.DONE): "version.labelled",
    ("promote", Outcome.DONE): "stage.moved",
    ("rollback", Outcome.DONE): "stage.moved",
    ("promote", Outcome.REFUSED): "stage.refused",
    ("tag.set", Outcome.DONE): "tag.moved",
    ("tag.remove", Outcome.DONE): "tag.removed",
    ("score.add", Outcome.DONE): "score.added",
    ("base.add", Outcome.DONE): "base.added",
    ("policy.set", Outcome.DONE): "policy.changed",
}
"""What an attempt and its outcome are called in messages. What is not here is told to nobody (accounts and tokens)."""

EVENTS = tuple(sorted(set(TYPES.values())))
EVERYTHING = "*"

_OF_THE_REGISTRY = ("base.", "policy.")
_TOLD = ("stage", "tag", "digest", "base", "semver", "decision", "blockers", "revision")
_BACKOFF_SECONDS = (5, 30, 120, 600, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600)
JITTER = 0.2
WINDOW_SECONDS = 300
LONGEST_URL = 2_048
SECRET_BYTES = range(24, 65)
GONE = 410

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the public mark of a secret, not one
_SCOPE_PART = re.compile(r"[A-Za-z0-9._-]{0,96}\*?[A-Za-z0-9._-]{0,96}")
_URL = re.compile(r"[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_VERSION = re.compile(r"v[1-9][0-9]*")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


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
    """

    id: str
    webhook: str
    event: int
    attempts: int
    due_at: str
    state: State
    status: int | None = None
    error: str = ""


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
    return Delivery(identity, webhook.id, event.sequence, 0, event.entry.at, State.PENDING)


def new_secret(random: bytes) -> str:
    """A signing secret, `whsec_` and base64, of 24 to 64 random bytes (32 are plenty)."""
    if len(random) not in SECRET_BYTES:
        raise InvalidInput(f"a webhook's secret is made of 24 to 64 random bytes, not {len(random)}.")
    return _SECRET_PREFIX + base64.b64encode(random).decode()


def _key(secret: str) -> bytes:
    """The secret's bytes; refusals never repeat any of it."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise InvalidInput("the webhook's secret must be whsec_ and the base64 of 24 to 64 bytes.")
    return key


def signature(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.

    Args:
        secret: as `new_secret` makes it.
        id: the message's id; no dot, so that the three parts can be told apart.
        timestamp: when it is sent, whole seconds since 1970.
        body: the bytes that are posted.

    Raises:
        InvalidInput: a secret or an id of another form.
    """
    if not _ID.fullmatch(id):
        raise InvalidInput(f"{id[:80]!r} is not a message's id: 1 to 64 letters, digits, '_' or '-'.")
    signed = b".".join((id.encode(), str(timestamp).encode(), body))
    return f"v1,{base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()}"


def headers(secrets: Sequence[str], *, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """What is sent along with `body`; with two live secrets (a rotation) both signatures, so either verifies."""
    if not secrets:
        raise InvalidInput("the webhook has no secret, and messages are never sent unsigned; give it one.")
    signatures = [signature(secret, id=id, timestamp=timestamp, body=body) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(headers: Mapping[str, str], body: bytes, *, secrets: Sequence[str], now: float) -> str:
    """The id of a message that is genuine and fresh; for receivers, who then drop ids they have seen.

    Args:
        headers: as received; names in any case.
        body: as received, before any JSON is read.
        secrets: those that are live: one, or two during a rotation.
        now: seconds since 1970.

    Raises:
        Unauthorised: a header is missing or malformed, the message is more than WINDOW_SECONDS old or early, or no
            signature is of any secret.
    """
    given = {name.lower(): value for name, value in headers.items()}
    id, sent, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (_ID.fullmatch(id) and _TIMESTAMP.fullmatch(sent) and signatures):
        raise Unauthorised("the message lacks a well-formed webhook-id, webhook-timestamp or webhook-signature.")
    if abs(now - int(sent)) > WINDOW_SECONDS:
        raise Unauthorised(
            f"the message was sent {abs(now - int(sent)):,.0f} seconds {'ago' if now > int(sent) else 'from now'}; "
            f"more than {WINDOW_SECONDS} is a replay or a wrong clock."
        )
    expected = [signature(secret, id=id, timestamp=int(sent), body=body).encode() for secret in secrets]
    found = [each.encode() for each in signatures.split(" ")]
    # Every pair is compared, each in constant time: how long it takes says nothing about which one was near.
    if not any([hmac.compare_digest(ours, theirs) for ours in expected for theirs in found]):
        raise Unauthorised("the message's signature is of another secret, or the message was changed on the way.")
    return id


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
    after = replace(delivery, attempts=attempts, status=status, error=error)
    if status is not None and 200 <= status < 300:
        return replace(after, state=State.DELIVERED, error="")
    wait = None if status == GONE else backoff(attempts, jitter=jitter)
    if wait is None:
        return replace(after, state=State.DEAD)
    return replace(after, state=State.PENDING, due_at=_later(at, wait))


def replayed(delivery: Delivery, *, at: str) -> Delivery:
    """`delivery` to be sent once more from the start, under its own id: receivers that had it will drop it."""
    return replace(delivery, attempts=0, due_at=at, state=State.PENDING)


def _later(at: str, seconds: float) -> str:
    moment = datetime.fromisoformat(at).astimezone(UTC) + timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
