"""sha256 digests, the only identity of content: parse, format, short form, canonical JSON."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NewType

from adapter_registry.domain.errors import InvalidReference

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse(text: str) -> Digest:
    """The Digest written in `text`, with or without `sha256:`.

    Raises:
        InvalidReference: anything but 64 lower-case hex digits.
    """
    candidate = text if text.startswith("sha256:") else f"sha256:{text}"
    if not _DIGEST.fullmatch(candidate):
        raise InvalidReference(f"{text!r} is not a digest: expected sha256: and 64 lower-case hex digits.")
    return Digest(candidate)


def of_bytes(data: bytes) -> Digest:
    """The digest of `data`."""
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def of_json(value: Any) -> Digest:
    """The digest of the canonical JSON of `value`."""
    return of_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, no blanks and no NaN: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def hex_of(digest: str) -> str:
    """The 64 hex digits."""
    return digest.removeprefix("sha256:")


def short(digest: str) -> str:
    """The first 12 hex digits, for people."""
    return hex_of(digest)[:12]
