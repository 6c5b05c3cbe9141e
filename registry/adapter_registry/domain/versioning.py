"""Which semantic version the next push gets: the rule, and overriding it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

import semver

from adapter_registry.domain.adapter import Description, Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, InvalidReference

FIRST = "1.0.0"


class Bump(StrEnum):
    """Which part of the semantic version rises."""

    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


@dataclass(frozen=True, slots=True)
class Numbered:
    """A chosen semantic version, and why it is that one."""

    semver: str
    because: str


def next_semver(
    description: Description,
    *,
    base: Digest,
    previous: Version | None,
    taken: Collection[str],
    exact: str | None = None,
    bump: Bump | None = None,
) -> Numbered:
    """The semantic version of a push.

    Args:
        description: what is pushed.
        base: digest of the Base it is locked to.
        previous: the adapter's latest Version; None for the first push.
        taken: every label this adapter ever used, removed versions included.
        exact: a label chosen by the user.
        bump: a step chosen by the user.

    Raises:
        InvalidReference: `exact` is not a semantic version.
        Conflict: `exact` was used before; labels are never reused.
    """
    if exact is not None:
        return Numbered(_chosen(exact, taken), "chosen with --version")
    highest = max((semver.Version.parse(label) for label in taken), default=None)
    if highest is None:
        return Numbered(FIRST, "the first version")
    step, because = (bump, "chosen with --bump") if bump else rule(description, base=base, previous=previous)
    raised = {Bump.MAJOR: highest.bump_major, Bump.MINOR: highest.bump_minor, Bump.PATCH: highest.bump_patch}[step]()
    return Numbered(str(raised), because)


def rule(description: Description, *, base: Digest, previous: Version | None) -> tuple[Bump, str]:
    """Another base or vocabulary is major; another rank, target set or method is minor; other weights are patch."""
    if previous is None:
        return Bump.PATCH, "other weights"
    before = previous.description
    changes = (
        (Bump.MAJOR, "another base", previous.base != base),
        (Bump.MAJOR, "another vocabulary", before.vocab_resized != description.vocab_resized),
        (Bump.MINOR, "another method", before.method != description.method),
        (Bump.MINOR, "another rank", before.ranks != description.ranks),
        (Bump.MINOR, "another scaling", before.scaling != description.scaling),
        (Bump.MINOR, "other target modules", before.matched != description.matched),
        (Bump.MINOR, "other saved modules", before.saved_modules != description.saved_modules),
    )
    return next(((step, because) for step, because, changed in changes if changed), (Bump.PATCH, "other weights"))


def _chosen(label: str, taken: Collection[str]) -> str:
    try:
        parsed = semver.Version.parse(label)
    except ValueError as invalid:
        raise InvalidReference(f"--version {label}: not a semantic version; write three numbers, 1.2.0.") from invalid
    if str(parsed) in taken:
        raise Conflict(f"version {label} was used before; labels are never reused, removed versions included.")
    return str(parsed)
