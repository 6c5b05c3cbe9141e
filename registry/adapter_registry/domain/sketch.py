"""Sketches: what tells most files apart without reading them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NewType

from adapter_registry.domain.digest import parse

Sketch = NewType("Sketch", str)
"""64 hex digits. Files whose sketches differ are different; files whose sketches are equal may be equal."""

PIECES = 5
PIECE = 16 << 10


def sketch_of(size: int, read: Callable[[int, int], bytes]) -> Sketch:
    """SHA-256 of a file's size and of five pieces of it, from its beginning to its end.

    Args:
        size: of the file, in bytes.
        read: at most so many bytes (second) from so far on (first).
    """
    hasher = hashlib.sha256(f"{size}\n".encode())
    last = max(size - PIECE, 0)
    for i in range(PIECES):
        hasher.update(read(PIECE, last * i // (PIECES - 1)))
    return Sketch(hasher.hexdigest())


def parsed(text: str) -> Sketch:
    """The Sketch written in `text`; raises InvalidReference when it is none."""
    return Sketch(parse(text).removeprefix("sha256:"))
