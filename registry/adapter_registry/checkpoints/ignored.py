"""Which files a pusher's own `.gitignore` leaves out, asked of a child with limits: they may be anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapter_registry.checkpoints.limited_child import answered
from adapter_registry.domain.errors import InvalidInput

CPU_SECONDS = 2
MAX_BYTES = 100_000
CHILD = Path(__file__).with_name("ignored_child.py")


def ignored(gitignore: str, paths: Sequence[str]) -> frozenset[str]:
    """Those of `paths` that a `.gitignore` at the root leaves out, as git reads it.

    Raises:
        InvalidInput: a line is no pattern, or the file is too long.
        PatternTooExpensive: no answer within the limits.
    """
    if len(gitignore) > MAX_BYTES:
        raise InvalidInput(f".gitignore has more than {MAX_BYTES:,} characters; leave it out of the push.")
    question = {"gitignore": gitignore, "paths": list(paths)}
    answer = answered(CHILD, question, cpu_seconds=CPU_SECONDS, packages=True)
    if answer["error"]:
        raise InvalidInput(f".gitignore: {answer['error']}"[:300])
    return frozenset(answer["ignored"])
