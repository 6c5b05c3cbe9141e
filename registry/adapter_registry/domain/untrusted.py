"""Values out of JSON that somebody else wrote: each question has an answer whatever type is there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST_TEXT = 200
"""Characters kept of a text that only people read."""


def mapping(value: object) -> Mapping[str, Any]:
    """The object there; empty for anything else."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[Any]:
    """The array there; empty for anything else."""
    return value if isinstance(value, list) else []


def number(value: object) -> float | None:
    """The number there, NaN and infinities included; None for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def amount(value: object) -> float | None:
    """A finite number not below 0, as a standard error is; None for anything else."""
    found = number(value)
    return found if found is not None and math.isfinite(found) and found >= 0 else None


def whole(value: object) -> int | None:
    """A whole number above 0, as a number of samples is; None for anything else."""
    found = amount(value)
    return int(found) if found is not None and 0 < found < 2**53 and found == int(found) else None


def words(value: object) -> str:
    """A scalar as one line of printable text; empty for null, arrays and objects."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value) if not isinstance(value, float) else f"{value:.12g}"
    printable = "".join(
        c if c.isprintable() and not "\ud800" <= c <= "\udfff" else " " for c in text[: 4 * LONGEST_TEXT]
    )
    line = " ".join(printable.split())
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"


def has_nul(value: object) -> bool:
    """Whether there is a NUL character anywhere in a JSON value: PostgreSQL cannot hold one, and no text needs one."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(has_nul(key) or has_nul(each) for key, each in value.items())
    return isinstance(value, list) and any(has_nul(each) for each in value)


def longest(value: object) -> int:
    """Characters of the longest text anywhere in a JSON value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return max((max(longest(key), longest(each)) for key, each in value.items()), default=0)
    return max(map(longest, value), default=0) if isinstance(value, list) else 0


def fingerprint(value: object) -> str:
    """12 hex digits that equal values share, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def without_folders(text: str) -> str:
    """A path's last two parts: the rest says more about the machine than about the model. Names stay as they are."""
    parts = text.replace("\\", "/").split("/")
    is_path = text.startswith(("/", ".", "~")) or "\\" in text or ":" in parts[0]
    return "/".join(parts[-2:]).lstrip("/.~") if is_path and len(parts) > 2 else text
