"""Names that requests and operators write: strict, because a request's model name comes from anybody."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from adapter_registry.domain.errors import InvalidInput, InvalidReference, RegistryError
from adapter_registry.domain.reference import Reference, parse
from adapter_registry.settings import Settings

_SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ASKED = re.compile(rf"(?:{_SEGMENT}/)?{_SEGMENT}@[A-Za-z0-9^~][A-Za-z0-9._:+-]{{0,127}}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Misplaced(RuntimeError):
    """The server is set up so that nothing can be followed; it does not start, rather than serve something else."""


@dataclass(frozen=True, slots=True)
class Follow:
    """A name that vLLM serves an adapter by, and what it is to be kept at.

    Attributes:
        name: that requests use.
        reference: what it is to be.
        adopted: whether a request brought it, and no setting: once it is unloaded it stays so until another one does.
    """

    name: str
    reference: Reference
    adopted: bool = False


def asked(text: str, *, namespace: str) -> Reference | None:
    """The reference that a model name is; None for what is none: no business of ours, and never part of a path."""
    if ".." in text or _ASKED.fullmatch(text) is None:
        return None
    try:
        found = parse(text, namespace=namespace)
    except InvalidReference:
        return None
    return found if found.kind is not None else None


def allowed(adapter: str, patterns: Sequence[str]) -> bool:
    """Whether an adapter, `namespace/name`, may be served here; no patterns allow whatever the token may read."""
    return not patterns or any(fnmatchcase(adapter, pattern) for pattern in patterns)


def follows(texts: Sequence[str], *, namespace: str) -> tuple[Follow, ...]:
    """What ADAPTERS_FOLLOW lists: `sql-lora=team/sql-lora@prod`, or the reference alone, which is then the name.

    Raises:
        InvalidInput: one of them is no reference, or no name; or two have one name.
    """
    found = []
    for text in texts:
        name, equals, reference = text.rpartition("=")
        wanted = asked(reference, namespace=namespace)
        if wanted is None:
            raise InvalidInput(f"ADAPTERS_FOLLOW: {text[:120]!r} is not NAME=NAMESPACE/ADAPTER@STAGE.")
        if equals and _ALIAS.fullmatch(name) is None:
            raise InvalidInput(
                f"ADAPTERS_FOLLOW: {name[:120]!r} is no name to serve an adapter by: at most 100 letters, digits, '.', "
                "'_' and '-', the first a letter or digit."
            )
        found.append(Follow(name or reference, wanted))
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise InvalidInput(f"ADAPTERS_FOLLOW: {max(names, key=names.count)!r} is there twice.")
    return tuple(found)


def wanted(read: Callable[[], Settings]) -> tuple[Settings, tuple[Follow, ...]]:
    """What the follower is to follow, by the settings of its process.

    Raises:
        Misplaced: they cannot be read, or name no server.
    """
    try:
        settings = read()
        found = follows(settings.serving.follow, namespace=settings.namespace)
    except RegistryError as error:
        raise Misplaced(f"adapters: {error.text}") from error
    if not settings.url:
        raise Misplaced("adapters: the follower takes the address of a registry server: set ADAPTERS_URL.")
    return settings, found
