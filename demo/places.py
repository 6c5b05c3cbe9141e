"""Where the demo keeps what it made, keyed by digests, and how it puts finished things there."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
BASE_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
"""Of model.safetensors: converting the GGUF gives these bytes every time, so they can pin the base."""


class DemoError(Exception):
    """Something the demo cannot go on without; the text says what to do."""


def root() -> Path:
    """The demo's folder: ADAPTERS_DEMO_DIR, else `.demo` in the checkout."""
    given = os.environ.get("ADAPTERS_DEMO_DIR")
    return Path(given).expanduser().absolute() if given else Path(__file__).parent.parent / ".demo"


def base_folder() -> Path:
    """The converted base checkpoint."""
    return root() / "base" / f"smollm2-135m-{BASE_SHA256[:12]}"


def text_folder() -> Path:
    """The two texts, cut into training and held-out samples."""
    return root() / "text"


def sha256_of(path: Path) -> str:
    """64 hex digits over the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def threads(*, workers: int = 1) -> int:
    """How many threads each of `workers` processes should use on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // workers))


@contextmanager
def placing(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place when the block ends well, and vanishes when it does not."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    aside.mkdir(parents=True)
    try:
        yield aside
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
