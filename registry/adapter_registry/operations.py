"""The operations that can be asked of a registry from elsewhere, by name: one table for the server and its client."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import msgspec

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.services import base, collect, mark, promote, push, score, show

Operation = Callable[..., Any]

OPERATIONS: dict[str, Operation] = {
    "base.register": base.register,
    "base.find": base.find,
    "base.recognise": base.recognise,
    "base.known": base.known,
    "base.declare-equivalent": base.declare_equivalent,
    "push.missing": push.missing,
    "push.commit": push.commit,
    "show.adapters": show.adapters,
    "show.versions": show.versions,
    "show.resolve": show.resolve,
    "show.scores": show.scores,
    "show.base-scores": show.base_scores,
    "show.events": show.events,
    "mark.tag": mark.tag,
    "mark.untag": mark.untag,
    "mark.label": mark.label,
    "mark.remove": mark.remove,
    "score.add": score.add,
    "score.add-to-base": score.add_to_base,
    "promote.explain": promote.explain,
    "promote.promote": promote.promote,
    "promote.rollback": promote.rollback,
    "promote.history": promote.history,
    "promote.policy": promote.policy,
    "promote.set-policy": promote.set_policy,
    "collect.check": collect.check,
    "collect.collect": collect.collect,
}
NAMES: Mapping[Operation, str] = {operation: name for name, operation in OPERATIONS.items()}
LOCAL = "progress"
"""The one argument that stays where it is: a callback."""


def to_wire(value: Any) -> bytes:
    """JSON of a domain value; NaN, which JSON lacks, as the text `nan`."""
    return msgspec.json.encode(_without_nan(msgspec.to_builtins(value)))


def arguments_from_wire(operation: Operation, data: bytes) -> dict[str, Any]:
    """The keyword arguments in a request, each of the type its operation declares.

    Raises:
        InvalidInput: not an object, an argument the operation does not have or lacks, or of another type.
    """
    kinds = get_type_hints(operation)
    try:
        given = msgspec.json.decode(data, type=dict[str, Any])
        unknown = sorted(given.keys() - kinds.keys() | given.keys() & {"backend", "return", LOCAL})
        if unknown:
            raise InvalidInput(f"{NAMES[operation]} has no argument {unknown[0][:60]!r}.")
        return {name: msgspec.convert(value, type=kinds[name], strict=False) for name, value in given.items()}
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{NAMES[operation]}: {error}.") from error


def result_from_wire(operation: Operation, data: bytes) -> Any:
    """What an operation answered, of the type it declares."""
    return msgspec.convert(msgspec.json.decode(data), type=get_type_hints(operation)["return"], strict=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return value
