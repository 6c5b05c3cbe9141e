"""Patterns of a config against module names: plain names in this process, everything else in a limited child."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_registry.checkpoints.limited_child import answered

CPU_SECONDS = 1
CHILD = Path(__file__).with_name("pattern_child.py")

_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One question to the regex engine.

    Attributes:
        regex: as PEFT would compile it.
        full: whether the whole name must match, or its beginning.
    """

    regex: str
    full: bool


@dataclass(frozen=True, slots=True)
class Matches:
    """What one Pattern matched.

    Attributes:
        names: each name it matches, with the group `idx` where the pattern has one.
        error: why it is no regular expression; empty when it is one.
    """

    names: dict[str, str | None]
    error: str = ""


def is_plain(text: str) -> bool:
    """Whether a pattern is a dotted name, so that it means the same without a regex engine."""
    return bool(_PLAIN.fullmatch(text))


def match(patterns: Sequence[Pattern], names: Sequence[str]) -> list[Matches]:
    """What each pattern matches among `names`, asked of a child with limits on CPU, memory and time.

    Raises:
        PatternTooExpensive: no answer within the limits.
    """
    if not patterns:
        return []
    question = {"names": names, "patterns": [{"regex": p.regex, "full": p.full} for p in patterns]}
    answer = answered(CHILD, question, cpu_seconds=CPU_SECONDS)
    return [
        Matches({names[i]: group for i, group in found}, error)
        for found, error in zip(answer["answers"], answer["errors"], strict=True)
    ]
