"""Which semantic version the next push gets: the rule, and overriding it."""

from __future__ import annotations

from collections.abc import Callable
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
    highest: str | None,
    given: Callable[[str], bool],
    exact: str | None = None,
    bump: Bump | None = None,
) -> Numbered:
    """The semantic version of a push.

    Args:
        description: what is pushed.
        base: digest of the Base it is locked to.
        previous: the adapter's latest Version; None for the first push.
        highest: of the labels that this adapter ever used, removed versions included; None for none.
        given: whether it ever used a label.
        exact: a label chosen by the user.
        bump: a step chosen by the user.

    Raises:
        InvalidReference: `exact` is not a semantic version.
        Conflict: `exact` was used before; labels are never reused.
    """
    if exact is not None:
        return Numbered(_chosen(exact, given), "chosen with --version")
    if highest is None:
        return Numbered(FIRST, "the first version")
    last = semver.Version.parse(highest)
    step, because = (bump, "chosen with --bump") if bump else rule(description, base=base, previous=previous)
    raised = {Bump.MAJOR: last.bump_major, Bump.MINOR: last.bump_minor, Bump.PATCH: last.bump_patch}[step]()
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


def precedence(label: str) -> bytes:
    """Bytes that sort as semantic versions do: a database finds the highest in an index of them.

    Numbers stand behind their length. A release comes after its pre-releases, whose identifiers end with a space,
    which sorts before whatever they are made of, so that fewer of them come first. Build metadata counts for nothing.

    Source: Semantic Versioning 2.0.0, section 11.
    """
    parsed = semver.Version.parse(label)
    core = "".join(map(_sorted_number, (parsed.major, parsed.minor, parsed.patch)))
    if parsed.prerelease is None:
        return f"{core}~".encode()
    parts = (
        f"0{_sorted_number(int(part))} " if part.isdigit() else f"1{part} " for part in parsed.prerelease.split(".")
    )
    return (core + "".join(parts)).encode()


def _sorted_number(number: int) -> str:
    return f"{len(str(number)):03d}{number}"


def _chosen(label: str, given: Callable[[str], bool]) -> str:
    try:
        parsed = semver.Version.parse(label)
    except ValueError as invalid:
        raise InvalidReference(f"--version {label}: not a semantic version; write three numbers, 1.2.0.") from invalid
    if given(str(parsed)):
        raise Conflict(f"version {label} was used before; labels are never reused, removed versions included.")
    return str(parsed)
