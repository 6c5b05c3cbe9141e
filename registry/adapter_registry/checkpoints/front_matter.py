"""The front matter of a README: YAML that somebody else wrote, as JSON.

Scalars, lists and mappings; dates become text. No anchors, which a few lines of can stand for gigabytes, and no tags,
which PyYAML's constructors fail on in ways of their own.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from adapter_registry.domain.errors import InvalidInput

MAX_BYTES = 64 * 1024
MAX_DEPTH = 32
_FENCE = "---"
_LARGEST = 2**63


def front_matter(text: str) -> dict[str, Any]:
    """What stands between the first two lines of `---`; empty where there is none.

    Args:
        text: the README, or as much of it as is worth looking at.

    Raises:
        InvalidInput: it is no mapping, or not of the YAML that is read here; the text says why.
    """
    if not text.startswith(_FENCE):
        return {}
    matter = text[len(_FENCE) :].partition(f"\n{_FENCE}")[0]
    try:
        _refuse_anchors(matter)
        found = _plain(yaml.load(matter, Loader=_Texts))  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise InvalidInput(f"the front matter is not YAML: {_shown(error)}") from error
    if not isinstance(found, dict | None):
        raise InvalidInput("the front matter is not a mapping.")
    return found or {}


class _Texts(yaml.SafeLoader):
    """Dates stay the text they are."""


_Texts.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge", ":value"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_anchors(matter: str) -> None:
    if len(matter.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidInput(f"the front matter has more than {MAX_BYTES:,} bytes.")
    depth = 0
    for event in yaml.parse(matter, Loader=yaml.SafeLoader):
        if getattr(event, "anchor", None):
            raise InvalidInput("the front matter has anchors or aliases; write the values out.")
        if getattr(event, "tag", None):
            raise InvalidInput("the front matter has tags (!...); write plain values.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InvalidInput(f"the front matter is nested more than {MAX_DEPTH} deep.")


def _plain(value: Any) -> Any:
    """As JSON holds it."""
    if isinstance(value, dict):
        return {_text(str(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return hex(value)
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode()


def _shown(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
