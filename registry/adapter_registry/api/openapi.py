"""The native API described for programs: OpenAPI 3.1, made from the table of operations and the types they declare."""

from __future__ import annotations

import inspect
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from adapter_registry.api.openapi_examples import EXAMPLES, PLACES, PLACES_OF
from adapter_registry.api.openapi_others import OTHERS
from adapter_registry.domain.errors import Problem
from adapter_registry.operation import LOCAL, REFERENCE, Operation, kinds_of
from adapter_registry.operations import OPERATIONS

_REFERENCE = "#/components/schemas/{name}"


@cache
def document() -> dict[str, Any]:
    """The description; the same for every server of this version."""
    _, _, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS.values():
        paths.setdefault(f"/api/v1{operation.route}", {})[operation.method.lower()] = _described(operation)
    paths |= OTHERS
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "adapter-registry",
            "version": "1",
            "description": "Errors are RFC 9457 problem documents with a stable `code`. Writes take an "
            "Idempotency-Key. Lists end in `next`, which begins the page after. Reads carry an ETag.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {"Refused": _refused()},
        },
    }


def _types() -> list[Any]:
    found: list[Any] = [Problem]
    for operation in OPERATIONS.values():
        found += [kind for kind in kinds_of(operation).values() if kind is not type(None)]
    return found


@cache
def _schemas() -> tuple[list[Any], list[Any], dict[str, Any]]:
    """(types, their schemas in the same order, what these refer to): together, so that names agree."""
    kinds = _types()
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    return kinds, list(schemas), components


def _schema(kind: Any) -> Any:
    kinds, schemas, _ = _schemas()
    return schemas[kinds.index(kind)]


def _described(operation: Operation) -> dict[str, Any]:
    doc = inspect.getdoc(operation.call) or operation.name
    summary, _, rest = doc.partition("\n")
    kinds = {name: kind for name, kind in kinds_of(operation).items() if name != "return"}
    inside = _inside(operation)
    parameters = [_place(operation, name, kinds) for name in inside]
    left = {n: k for n, k in kinds.items() if n not in (*inside, *_bound(operation))}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.name.partition(".")[0]],
        "summary": summary.replace("`", ""),
        "description": (rest.strip() + f"\n\nTakes: {operation.verb or 'any good token'}.").strip(),
        "responses": {
            "201" if operation.method == "POST" else "200": _answer(kinds_of(operation)["return"]),
            "default": {"$ref": "#/components/responses/Refused"},
        },
    }
    if operation.method in ("GET", "DELETE"):
        parameters += [_query(operation, name, kind) for name, kind in left.items()]
    else:
        parameters.append(_header())
        described["requestBody"] = _body(operation, left)
    return {**described, "parameters": parameters}


def _inside(operation: Operation) -> list[str]:
    return [part.strip("{}") for part in operation.route.split("/") if part.startswith("{")]


def _bound(operation: Operation) -> tuple[str, ...]:
    """Arguments that the parts of the path make up."""
    return tuple(name for name in ("adapter", "reference") if f"{{{name}}}" in operation.path)


def _place(operation: Operation, name: str, kinds: dict[str, Any]) -> dict[str, Any]:
    text, example = PLACES.get(name, (name, name))
    example = PLACES_OF.get((operation.name, name), example)
    schema = {"type": "string"} if name in REFERENCE else _schema(kinds[name])
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema, "example": example}


def _query(operation: Operation, name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": _required(operation, name), "schema": _schema(kind)}


def _required(operation: Operation, name: str) -> bool:
    return inspect.signature(operation.call).parameters[name].default is inspect.Parameter.empty


def _header() -> dict[str, Any]:
    text = "the same write again with the same key happens once and answers the same"
    return {"name": "Idempotency-Key", "in": "header", "description": text, "schema": {"type": "string"}}


def _body(operation: Operation, kinds: dict[str, Any]) -> dict[str, Any]:
    required = [name for name in kinds if _required(operation, name)]
    properties = {name: _schema(kind) for name, kind in kinds.items() if name != LOCAL}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    content: dict[str, Any] = {"schema": {**schema, "required": required} if required else schema}
    content["example"] = EXAMPLES[operation.name] if properties else {}
    return {"required": bool(required), "content": {"application/json": content}}


def _answer(kind: Any) -> dict[str, Any]:
    nothing = kind is type(None) or (get_origin(kind) in (Union, UnionType) and not get_args(kind))
    schema: Any = {"type": "null"} if nothing else _schema(kind)
    return {"description": "done", "content": {"application/json": {"schema": schema}}}


def _refused() -> dict[str, Any]:
    problems = {"type": "array", "items": {"$ref": _REFERENCE.format(name="Problem")}}
    text = {"type": "string"}
    properties = {
        **{name: text for name in ("type", "title", "code", "detail")},
        "status": {"type": "integer"},
        "problems": problems,
    }
    schema = {"type": "object", "properties": properties, "required": ["code", "status", "detail"]}
    example = {
        "type": "urn:adapters:not-found",
        "title": "NotFound",
        "status": 404,
        "code": "not-found",
        "detail": "there is no adapter search/sql-lorra.",
        "problems": [],
    }
    content = {"application/problem+json": {"schema": schema, "example": example}}
    return {"description": "refused, with the reason", "content": content}
