"""Fingerprints of weight files read before, found again by the identity of the file: device, inode, size and times.

The change time counts beside the modification time, as in git's index: it cannot be set back, so that a file edited
in place under its old modification time is read again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from adapter_registry.checkpoints.header import Header

FORMAT = "adapters.fingerprint/2"
RACY_NANOSECONDS = 2_000_000_000
"""A file changed this shortly before it was hashed might change again within the clock's step: not cached."""

_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests of one weight file.

    Attributes:
        sha256: of the whole file, 64 hex digits.
        tensors: tensor name -> BLAKE3-256 of its bytes, 64 hex digits.
    """

    sha256: str
    tensors: dict[str, str]


def cached(cache: Path | None, header: Header, status: os.stat_result) -> Fingerprint | None:
    """What was kept for the file with this identity; None when nothing was, or when the entry is damaged.

    Args:
        cache: the folder that `keep` was given.
        header: of the file, as read now.
        status: of the file, as it is now.
    """
    if cache is None:
        return None
    try:
        document: Any = json.loads(_entry(cache, status).read_bytes())
        found = Fingerprint(document["sha256"], document["tensors"])
        digests = [found.sha256, *found.tensors.values()]
        sound = document["format"] == FORMAT and document["size"] == status.st_size == header.size
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # A damaged entry is as good as none: the file is read again and the entry rewritten.
        return None
    sound = sound and found.tensors.keys() == {entry.name for entry in header.tensors}
    return found if sound and all(isinstance(d, str) and _HEX.fullmatch(d) for d in digests) else None


def keep(cache: Path | None, read: Fingerprint, status: os.stat_result) -> None:
    """Keep a Fingerprint for the file with this identity; a cache that cannot be written is left as it is."""
    if cache is None or time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < RACY_NANOSECONDS:
        return
    entry = _entry(cache, status)
    document = {"format": FORMAT, "size": status.st_size, "sha256": read.sha256, "tensors": read.tensors}
    aside = entry.with_suffix(f".{secrets.token_hex(4)}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(document), encoding="utf-8")
        aside.replace(entry)
    except OSError:
        # A cache that cannot be written costs time, not correctness.
        with suppress(OSError):
            aside.unlink()


def _entry(cache: Path, status: os.stat_result) -> Path:
    times = f"{status.st_mtime_ns}:{status.st_ctime_ns}"
    identity = f"{FORMAT}:{status.st_dev}:{status.st_ino}:{status.st_size}:{times}"
    return cache / "fingerprints" / f"{blake3(identity.encode()).hexdigest()[:40]}.json"
