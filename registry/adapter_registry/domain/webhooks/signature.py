"""How messages are signed, and how a receiver verifies them.

Signatures follow Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, spec 1.0.0): HMAC-SHA256
over `id.timestamp.body`, in the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput, Unauthorised
from adapter_registry.domain.webhooks.webhook import later

WINDOW_SECONDS = 300
SECRET_BYTES = range(24, 65)

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the public mark of a secret, not one
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Secret:
    """What messages are signed with.

    Attributes:
        value: see `new_secret`.
        until: when it stops being used, ISO 8601 in UTC; None for the newest.
    """

    value: str
    until: str | None = None


def live(secrets: Sequence[Secret], *, at: str) -> tuple[str, ...]:
    """The values that sign at this moment, newest first."""
    return tuple(secret.value for secret in secrets if secret.until is None or secret.until > at)


def rotated(secrets: Sequence[Secret], *, value: str, at: str, overlap_seconds: float) -> tuple[Secret, ...]:
    """`secrets` with a new one in front; the one before signs along until receivers had time to learn the new one."""
    until = later(at, overlap_seconds)
    return (Secret(value), *(Secret(old.value, until) for old in secrets if old.until is None))


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
