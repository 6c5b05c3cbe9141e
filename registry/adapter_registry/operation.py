"""One operation: what it takes, and how its arguments and answers travel.

A path holds `{adapter}`, which is `{namespace}/{name}` in an address, or `{reference}`, which is
`{namespace}/{name}/versions/{selector}`. Arguments that are not in the path travel in the query of a GET or DELETE and
in the JSON body of everything else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

import msgspec

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.reference import no_version, parse, split_adapter
from adapter_registry.domain.untrusted import has_nul, longest

Function = Callable[..., Any]

LOCAL = "progress"
"""The one argument that stays where it is: a callback."""
ANYONE = ""
"""No verb: whoever has a good token. What the answer holds still depends on who asks."""
ADAPTER = ("adapter_namespace", "adapter_name")
REFERENCE = (*ADAPTER, "selector")
LONGEST_TEXT = 20_000
"""Characters of one text in a request; what operations keep is less, and they say so."""
LONG_TEXTS = frozenset((("signing.sign", "envelope"),))
"""(operation, argument) whose text is longer: a signature comes with all that it is of."""
_PLACE = re.compile(r"\{(\w+)(?::path)?\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked.

    Attributes:
        name: `push.commit`.
        method: of HTTP.
        path: below /api/v1.
        call: the service function.
        verb: what it takes; `{stage}` stands for that argument; empty for whoever is signed in.
        anywhere: whether holding the verb on any scope is enough, because what is asked for belongs to no adapter.
        repeatable: whether asking twice is the same as asking once, so that no answer is kept for a key.
        small: whether it reads a few rows, however much is stored.
        secret: whether question or answer holds a secret: neither is ever kept, so an idempotency key does nothing.
    """

    name: str
    method: str
    path: str
    call: Function
    verb: str
    anywhere: bool = False
    secret: bool = False
    repeatable: bool = False
    small: bool = False

    @property
    def writes(self) -> bool:
        """Whether it changes something."""
        return self.method not in ("GET", "HEAD")

    @property
    def once(self) -> bool:
        """Whether an idempotency key keeps it from happening twice."""
        return self.writes and not self.secret and not self.repeatable

    @property
    def route(self) -> str:
        """The path with the parts of an adapter and of a reference spelled out."""
        adapter = "{adapter_namespace}/{adapter_name}"
        return self.path.replace("{adapter}", adapter).replace("{reference}", f"{adapter}/versions/{{selector}}")

    def needs(self, given: Mapping[str, Any]) -> tuple[str, str | None]:
        """(verb, `namespace/name` or None for the registry as a whole) that these arguments take.

        Raises:
            InvalidReference: the adapter or reference is not one.
        """
        verb = self.verb.format(stage=given["stage"]) if "{stage}" in self.verb else self.verb
        if given.get("adapter"):
            return verb, "/".join(split_adapter(given["adapter"]))
        if given.get("reference") and self.path != "/bases/find":
            return verb, parse(given["reference"]).adapter
        if given.get("namespace"):
            return verb, f"{given['namespace']}/*"
        return verb, None

    def allows(self, who: Principal, given: Mapping[str, Any]) -> bool:
        """Whether `who` may ask this."""
        verb, adapter = self.needs(given)
        if verb == ANYONE:
            return True
        return who.may_somewhere(verb) if self.anywhere else who.may(verb, adapter)


def to_wire(value: Any) -> bytes:
    """JSON of a domain value; NaN, which JSON lacks, as the text `nan`."""
    return msgspec.json.encode(_without_nan(msgspec.to_builtins(value)))


@cache
def kinds_of(operation: Operation) -> dict[str, Any]:
    """Argument -> type, and `return`, without what stays inside the process."""
    return {name: kind for name, kind in get_type_hints(operation.call).items() if name not in ("backend", LOCAL)}


def arguments_from_wire(
    operation: Operation, path: Mapping[str, str], query: Mapping[str, str], data: bytes
) -> dict[str, Any]:
    """The keyword arguments in a request, each of the type its operation declares.

    Raises:
        InvalidInput: not an object, an argument the operation does not have or lacks, or of another type.
    """
    kinds = kinds_of(operation)
    try:
        body = msgspec.json.decode(data, type=dict[str, Any]) if data else {}
        given = {**body, **query, **_from_path(path)}
        unknown = sorted(given.keys() - kinds.keys() | given.keys() & {"return"})
        if unknown:
            raise InvalidInput(f"{operation.name} has no argument {unknown[0][:60]!r}.")
        if has_nul(given):
            raise InvalidInput(f"{operation.name}: an argument holds a NUL character, which nothing here may have.")
        too_long = next((name for name, value in given.items() if longest(value) > LONGEST_TEXT), None)
        if too_long is not None and (operation.name, too_long) not in LONG_TEXTS:
            size = longest(given[too_long])
            raise InvalidInput(f"{too_long} holds a text of {size:,} characters; at most {LONGEST_TEXT:,} are taken.")
        return {name: msgspec.convert(value, type=kinds[name], strict=False) for name, value in given.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{operation.name}: {error}.") from error


def _from_path(path: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in path.items() if name not in REFERENCE}
    if ADAPTER[0] in path:
        adapter = "/".join(path[part] for part in ADAPTER)
        selector = path.get("selector")
        found["reference" if selector else "adapter"] = f"{adapter}@{selector}" if selector else adapter
    return found


def address(operation: Operation, given: Mapping[str, Any]) -> tuple[str, bytes | None]:
    """(path with query, JSON body) that asks `operation` with these arguments.

    Raises:
        InvalidReference: an adapter is named where a version is.
    """
    left = {name: value for name, value in given.items() if name != LOCAL}
    parts = dict(left)
    if "{adapter}" in operation.path:
        parts.update(zip(ADAPTER, left.pop("adapter").split("/"), strict=True))
    if "{reference}" in operation.path:
        adapter, _, selector = left.pop("reference").partition("@")
        if not selector:
            raise no_version(adapter)
        parts.update(zip(REFERENCE, (*adapter.split("/"), selector), strict=True))
    names = _PLACE.findall(operation.route)
    path = "/api/v1" + _PLACE.sub(lambda found: quote(str(parts[found[1]]), safe=""), operation.route)
    rest = {name: value for name, value in left.items() if name not in names}
    if operation.method in ("GET", "DELETE"):
        query = urlencode({name: msgspec.to_builtins(value) for name, value in rest.items() if value is not None})
        return (f"{path}?{query}" if query else path), None
    return path, to_wire(rest)


def result_from_wire(operation: Operation, data: bytes) -> Any:
    """What an operation answered, of the type it declares."""
    return msgspec.convert(msgspec.json.decode(data), type=kinds_of(operation)["return"], strict=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value
