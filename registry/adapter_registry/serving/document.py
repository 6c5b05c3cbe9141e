"""Documents of `adapters sync` and `adapters deploy`: what is wrong is told with the line and column it stands at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import yaml
from pydantic import ValidationError

from adapter_registry.domain.document_file import Part, brief, parsed, problem, told
from adapter_registry.domain.errors import InvalidInput, InvalidServing, Problem

CODE = "serving-invalid"
Kind = TypeVar("Kind", bound=Part)


def read(text: str, name: str, kind: type[Kind], *, what: str, parts: Sequence[type[Part]]) -> Kind:
    """What a document says.

    Args:
        text: YAML or TOML.
        name: of its file.
        kind: what the whole of it is.
        what: the same as a word, for messages.
        parts: every mapping in it, for keys that are nearly right.

    Raises:
        InvalidServing: with everything that is wrong with it.
    """
    try:
        found = parsed(text, name)
    except InvalidInput as error:
        mark = getattr(error.__cause__, "problem_mark", None)
        place = _place(mark) if mark else ""
        raise refused(name, [replace(each, file=f"{name}{place}") for each in error.problems], what) from error
    if not isinstance(found, dict):
        raise refused(name, [problem(name, "", "a mapping", brief(found))], what)
    try:
        return kind.model_validate(found)
    except ValidationError as invalid:
        places = dict(_places(text))
        wrong = [(_nearest(each["loc"], places), each) for each in invalid.errors()]
        raise refused(name, [told(f"{name}{place}", each, parts=parts) for place, each in wrong], what) from invalid


def refused(name: str, problems: Iterable[Problem], what: str) -> InvalidServing:
    """The refusal of a document with everything that is wrong."""
    coded = [replace(each, code=CODE) for each in problems]
    listed = "".join(f"\n  {each}" for each in coded)
    return InvalidServing(f"{name} is not a {what}; nothing was changed:{listed}", problems=coded)


def _places(text: str) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path, `:line:column`) of every value of a YAML document, counted from 1; of TOML, which tells none, nothing."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return
    waiting: list[tuple[tuple[str | int, ...], yaml.Node]] = [((), root)] if isinstance(root, yaml.MappingNode) else []
    while waiting:
        path, node = waiting.pop()
        yield path, _place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            waiting += [((*path, str(key.value)), value) for key, value in node.value]
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*path, index), value) for index, value in enumerate(node.value)]


def _place(mark: yaml.Mark) -> str:
    return f":{mark.line + 1}:{mark.column + 1}"


def _nearest(path: tuple[str | int, ...], places: dict[tuple[str | int, ...], str]) -> str:
    """Where a value stands, or, for one that is missing, what it is missing from."""
    while path not in places and path:
        path = path[:-1]
    return places.get(path, "")
