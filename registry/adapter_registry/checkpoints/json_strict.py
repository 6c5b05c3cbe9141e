"""JSON read strictly: bounded in size and depth, no duplicate keys, no NaN or infinity, no integers beyond 2^53."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

LARGEST_INTEGER = 1 << 53

LFS_POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS keeps elsewhere."""


class JsonRefused(ValueError):
    """The text is not JSON by these rules; the message says why."""


def parse(data: bytes, *, max_bytes: int, max_depth: int) -> Any:
    """The JSON value in `data`.

    Raises:
        JsonRefused: too large, too deep, not UTF-8, a duplicate key, NaN, infinity, an integer beyond 2^53, or half a
            surrogate pair (which no UTF-8 text can hold).
    """
    if len(data) > max_bytes:
        raise JsonRefused(f"{len(data):,} bytes, at most {max_bytes:,} are read")
    if data.startswith(b"\xef\xbb\xbf"):
        raise JsonRefused("it begins with a byte order mark, which JSON does not have")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=unique_keys, parse_constant=no_constant, parse_int=_bounded
        )
    except UnicodeDecodeError as error:
        raise JsonRefused(f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise JsonRefused("hundreds of levels of nesting") from error
    except json.JSONDecodeError as error:
        raise JsonRefused(f"{error.msg} in line {error.lineno}, column {error.colno}") from error
    _require_sound(value, max_depth)
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`: the object, or JsonRefused when a key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        counted = Counter(key for key, _ in pairs)
        raise JsonRefused(f"the key {counted.most_common(1)[0][0][:100]!r} stands twice")
    return found


def no_constant(text: str) -> None:
    """For `parse_constant`: NaN and Infinity are not JSON."""
    raise JsonRefused(f"{text} is not JSON")


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > LARGEST_INTEGER:
        raise JsonRefused(f"the integer {text[:24]} is beyond 2^53")
    return int(text)


def _require_sound(value: Any, left: int) -> None:
    if left < 0:
        raise JsonRefused("nested too deeply")
    if isinstance(value, dict):
        for key, each in value.items():
            _require_sound(key, left)
            _require_sound(each, left - 1)
    elif isinstance(value, list):
        for each in value:
            _require_sound(each, left - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise JsonRefused("a number beyond what a float can hold")
    elif isinstance(value, str) and not value.isascii():
        _require_characters(value)


def _require_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise JsonRefused(f"half a surrogate pair in {ascii(text)[:60]}") from error
