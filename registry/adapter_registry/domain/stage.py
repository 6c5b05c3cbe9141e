"""Stages: ordered rungs that a Version enters by Promotion and by nothing else."""

from __future__ import annotations

import difflib

from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.names import STAGE_NAMES

STAGES = STAGE_NAMES
"""Lowest first. No tag may bear one of these names (see names.check_tag)."""


def check_stage(text: str) -> str:
    """A stage's name, as given.

    Raises:
        InvalidReference: no stage is called that; the text lists those there are and suggests the nearest.
    """
    if text in STAGES:
        return text
    near = difflib.get_close_matches(text.lower(), STAGES, n=1) or _spelled_out(text.lower())
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InvalidReference(f"{text!r} is not a stage; the stages are {', '.join(STAGES)}, lowest first.{hint}")


def rank(stage: str) -> int:
    """0 for the lowest stage; raises InvalidReference for what is not a stage."""
    return STAGES.index(check_stage(stage))


def below(stage: str) -> tuple[str, ...]:
    """The stages under `stage`, lowest first."""
    return STAGES[: rank(stage)]


def _spelled_out(text: str) -> list[str]:
    """`production` and `development` start with the stage's own name."""
    return [stage for stage in STAGES if text.startswith(stage)]
