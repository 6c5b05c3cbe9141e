"""References: `name@v3`, `name@1.2.0`, `name@^1.2`, `name@sha256:...`, `name@prod`, `v3`; and ranges of versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import semver

from adapter_registry.domain import digest, names
from adapter_registry.domain.errors import InvalidReference

_NUMBER = re.compile(r"v([1-9][0-9]{0,8})")
_DIGITS = "[0-9]{1,9}"
_SEMVER = re.compile(rf"{_DIGITS}\.{_DIGITS}\.{_DIGITS}([-+][0-9A-Za-z.+-]{{1,100}})?")
_RANGE = re.compile(rf"[\^~><=*]|^{_DIGITS}(\.({_DIGITS}|x|\*))?(\.(x|\*))?$")
_PART = rf"({_DIGITS}|x|\*)"
_COMPARATOR = re.compile(rf"(\^|~|>=|<=|>|<|=)?\s*{_PART}(?:\.{_PART})?(?:\.{_PART})?(-[0-9A-Za-z.-]{{1,100}})?")


class Kind(StrEnum):
    """What a selector names."""

    NUMBER = "number"
    SEMVER = "semver"
    RANGE = "range"
    DIGEST = "digest"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Reference:
    """An adapter and what selects one of its versions.

    Attributes:
        namespace: the adapter's namespace.
        name: the adapter's name.
        selector: text after the `@`; empty for the adapter itself.
        kind: what the selector names; `name` means a tag or a stage.
    """

    namespace: str
    name: str
    selector: str
    kind: Kind | None

    @property
    def adapter(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return f"{self.adapter}@{self.selector}" if self.selector else self.adapter


def no_version(adapter: str) -> InvalidReference:
    """What is said where `namespace/name` alone was written and one version was asked for."""
    return InvalidReference(
        f"{adapter} names an adapter, not a version: write {adapter}@v3, {adapter}@1.2.0, {adapter}@^1.2 or "
        f"{adapter}@prod."
    )


def parse(text: str, *, namespace: str = names.DEFAULT_NAMESPACE, in_use: str | None = None) -> Reference:
    """The Reference written in `text`.

    Args:
        text: `[namespace/]name[@selector]`, or a bare `v3` or `@selector` of the adapter in use.
        namespace: what an adapter name without one belongs to.
        in_use: `namespace/name` that a bare selector belongs to.

    Raises:
        InvalidReference: not of that grammar, or a bare selector and no adapter in use.
    """
    adapter, separator, selector = text.strip().partition("@")
    if _NUMBER.fullmatch(adapter) and not separator:
        adapter, selector = "", adapter
    if not adapter:
        if not selector:
            raise InvalidReference("an empty reference names nothing; write name@v3, name@1.2.0 or name@prod.")
        if in_use is None:
            raise InvalidReference(
                f"{text!r} does not say which adapter: write name@{selector}, or choose one with `adapters use NAME`."
            )
        adapter = in_use
    elif separator and not selector:
        raise InvalidReference(f"{text!r} ends in '@'; write {adapter}@v3, {adapter}@1.2.0 or {adapter}@prod.")
    owner, name = split_adapter(adapter, namespace=namespace)
    return Reference(owner, name, selector, _kind(selector) if selector else None)


def split_adapter(text: str, *, namespace: str = names.DEFAULT_NAMESPACE) -> tuple[str, str]:
    """(namespace, name) of `name` or `namespace/name`; raises InvalidReference otherwise."""
    parts = text.split("/")
    if len(parts) > 2:
        raise InvalidReference(f"{text!r} is not an adapter: write name or namespace/name.")
    owner = parts[0] if len(parts) == 2 else namespace
    return names.check_namespace(owner), names.check_adapter_name(parts[-1])


def _kind(selector: str) -> Kind:
    if _NUMBER.fullmatch(selector):
        return Kind.NUMBER
    if selector.startswith("sha256:") or re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", selector):
        if len(selector) != 40:
            digest.parse(selector)
        return Kind.DIGEST
    if _SEMVER.fullmatch(selector):
        return Kind.SEMVER
    if _RANGE.search(selector):
        return Kind.RANGE
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", selector):
        raise InvalidReference(
            f"{selector!r} selects nothing: expected v3, 1.2.0, a range such as ^1.2, sha256:..., a tag or a stage."
        )
    return Kind.NAME


def highest_in_range(expression: str, versions: Iterable[str]) -> str | None:
    """The first of `versions` that satisfies `expression`, or None.

    Args:
        expression: npm's range grammar: `^1.2`, `~1.2.3`, `1.x`, `>=1.2 <2`, `1.2 || 2.x`.
        versions: semantic versions, the highest first. Pre-releases match only an expression that names one of the
            same x.y.z.

    Raises:
        InvalidReference: `expression` is not a range.
    """
    alternatives = [_alternative(part) for part in expression.split("||")]
    for version in versions:
        parsed = semver.Version.parse(version)
        if any(accepts(parsed) for accepts in alternatives):
            return version
    return None


def _alternative(text: str) -> Callable[[semver.Version], bool]:
    spelled = re.sub(r"(\^|~|>=|<=|>|<|=)\s+", r"\1", text.replace(",", " ")).split()
    bounds = [bound for comparator in spelled or ["*"] for bound in _bounds(comparator)]
    prereleases = {b.finalize_version() for _, b in bounds if b.prerelease and str(b.prerelease) != "0"}

    def accepts(version: semver.Version) -> bool:
        if version.prerelease and version.finalize_version() not in prereleases:
            return False
        return all(_holds(version, operator, bound) for operator, bound in bounds)

    return accepts


def _holds(version: semver.Version, operator: str, bound: semver.Version) -> bool:
    order = version.compare(bound)
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0, "=": order == 0}[operator]


def _bounds(comparator: str) -> list[tuple[str, semver.Version]]:
    """The comparisons one comparator stands for; `x`, `*` and missing parts are wildcards."""
    found = _COMPARATOR.fullmatch(comparator)
    if not found:
        raise InvalidReference(
            f"{comparator!r} is not a range of versions; ranges look like ^1.2, ~1.2.3, 1.x or >=1.2 <2."
        )
    operator, *parts, pre = found.groups()
    given: list[int] = []
    for part in parts:
        if part is None or not part.isdigit():
            break
        given.append(int(part))
    low = _version(given, prerelease=pre.removeprefix("-") if pre else None)
    if not given:
        return []
    if operator == "^":
        changing = next((i for i, n in enumerate(given) if n), len(given) - 1)
        return [(">=", low), ("<", _next(given[: changing + 1]))]
    if operator == "~":
        return [(">=", low), ("<", _next(given[:2]))]
    if operator in (None, "=") and len(given) < 3:
        return [(">=", low), ("<", _next(given))]
    if operator in (">", "<=") and len(given) < 3:
        return [(">=" if operator == ">" else "<", _next(given))]
    return [(operator or "=", low)]


def _next(prefix: list[int]) -> semver.Version:
    """The lowest version above every version with this prefix."""
    return _version([*prefix[:-1], prefix[-1] + 1], prerelease="0")


def _version(parts: list[int], *, prerelease: str | None) -> semver.Version:
    major, minor, patch = [*parts, 0, 0, 0][:3]
    return semver.Version(major, minor, patch, prerelease)
