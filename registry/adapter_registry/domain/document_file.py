"""Documents that people write, as YAML or TOML: parsed safely, and told apart from what they should be, all at once."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict
from pydantic_core import ErrorDetails

from adapter_registry.domain.errors import InvalidInput, Problem

LARGEST_TEXT = 64 * 1024
"""Characters of a document; real ones have a few hundred."""

DEEPEST = 12
"""Levels of nesting; a policy has six."""

_TOML_START = re.compile(r"\s*(\[{1,2}[\w.\"' -]+\]|[\"'\w.-]+\s*=)")


class Part(BaseModel):
    """A mapping of a document: nothing it does not know, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def parsed(text: str, name: str, what: str = "policy") -> object:
    """What the text of a document holds.

    Args:
        text: YAML or TOML; which of them, the ending of its name says, or how it begins.
        name: the file's name.
        what: what it should be, for the refusal.

    Raises:
        InvalidInput: not YAML without anchors, aliases and tags, or TOML; or too large.
    """
    if len(text) > LARGEST_TEXT:
        size = f"{len(text):,} characters"
        raise refused(name, [problem(name, "", f"at most {LARGEST_TEXT:,} characters", size)], what)
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    is_toml = name.endswith(".toml") or _TOML_START.match(first)
    try:
        return tomllib.loads(text) if is_toml else _yaml(text, name, what)
    except tomllib.TOMLDecodeError as invalid:
        raise refused(name, [problem(name, "", "TOML", str(invalid))], what) from invalid
    except (yaml.YAMLError, ValueError) as invalid:
        raise refused(name, [problem(name, "", "YAML", " ".join(str(invalid).split()))], what) from invalid


def _yaml(text: str, name: str, what: str) -> object:
    problems = list(_unsafe(text, name))
    if not problems:
        problems = list(_repeated(yaml.compose(text, Loader=yaml.SafeLoader), name, ""))
    if problems:
        raise refused(name, problems, what)
    return yaml.safe_load(text)


def _unsafe(text: str, name: str) -> Iterator[Problem]:
    """What is read from the flat stream of events, before anything is built from it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = f"line {event.start_mark.line + 1}" if event.start_mark else ""
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor:
            yield problem(name, line, "no anchors and aliases", repr(anchor), "write the value out")
        if tag:
            yield problem(name, line, "plain values without tags", repr(tag), "remove the tag")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            yield problem(name, line, f"at most {DEEPEST} levels of nesting", "more")
            return


def _repeated(node: yaml.Node | None, name: str, path: str) -> Iterator[Problem]:
    """Keys that stand twice in one mapping, of which a parser would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            yield from _repeated(entry, name, _join(path, index))
    if isinstance(node, yaml.MappingNode):
        keys = Counter(str(key.value) for key, _ in node.value)
        for key in (key for key, times in keys.items() if times > 1 or key == "<<"):
            yield problem(name, _join(path, key), "each key once, none of them <<", f"{keys[key]} times {key!r}")
        for key, value in node.value:
            yield from _repeated(value, name, _join(path, key.value))


def told(
    name: str, error: ErrorDetails, *, parts: Sequence[type[Part]], instead: Mapping[str, str] | None = None
) -> Problem:
    """What pydantic found wrong, in our words.

    Args:
        name: the file's name.
        error: one of its errors.
        parts: every mapping of the document, for keys that are nearly right.
        instead: keys that people expect and that there are not -> what to write in their place.
    """
    location = [part for part in error["loc"] if not str(part).startswith(("function-", "literal[", "list["))]
    if location[-1:] == ["[key]"]:
        del location[-2:]  # what was found is the key itself
    path = ".".join(str(part) for part in location)
    key = str(location[-1]) if location else ""
    if error["type"] == "extra_forbidden":
        return _unknown(name, path, key, parts, instead or {})
    if error["type"] == "missing":
        return problem(name, path, f"a value for {key}", "nothing", f"add {_EXAMPLES.get(key, key + ': ...')}")
    expected = _KINDS.get(error["type"]) or error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    context = error.get("ctx", {})
    if error["type"] in _SIZES:
        expected = _SIZES[error["type"]].format(**context)
    found = context.get("found")  # of what does not fit together, whose input is all of it
    return problem(name, path, expected, found or brief(error["input"]))


_KINDS = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "is_instance_of": "a path",
}
_SIZES = {
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "{max_length} characters at most",
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} entries at most",
}
_EXAMPLES = {"apiVersion": "apiVersion: adapters/v1", "kind": "kind: StagePolicy", "stage": "stage: prod"}


def _unknown(name: str, path: str, key: str, parts: Sequence[type[Part]], instead: Mapping[str, str]) -> Problem:
    if key in instead:
        return problem(name, path, "a rule that there is", f"{key}, which is none", instead[key])
    known = sorted({field for part in parts for field in part.model_fields})
    near = difflib.get_close_matches(key, known, n=1)
    return problem(name, path, "a known key", repr(key), f"did you mean {near[0]}?" if near else "remove it")


def problem(name: str, field: str, expected: str, found: str, fix: str = "correct it") -> Problem:
    """One thing wrong with a document."""
    return Problem(
        "policy-invalid", name, field, expected, found, fix[0].upper() + fix[1:] + ("" if fix.endswith("?") else ".")
    )


def refused(name: str, problems: list[Problem], what: str = "policy") -> InvalidInput:
    """The refusal of a document with everything that is wrong."""
    listed = "".join(f"\n  {problem}" for problem in problems)
    return InvalidInput(f"{name} is not a {what}; nothing was changed:{listed}", problems=problems)


def brief(value: object) -> str:
    """A value as text, shortened."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
