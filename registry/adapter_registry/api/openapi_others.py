"""What the description says of routes that are no operations: coming in, files as raw bytes, health and metrics.

A test holds this against the application's own routes: one that is not described here nor an operation fails it.
"""

from __future__ import annotations

from typing import Any

_TEXT, _SIZE = {"type": "string"}, {"type": "integer", "minimum": 0}
_REFUSED = {"$ref": "#/components/responses/Refused"}
_ADAPTER = "/api/v1/adapters/{adapter_namespace}/{adapter_name}"
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({"example": example} if example is not None else {})}}


def _made(schema: dict[str, Any]) -> dict[str, Any]:
    return {"201": {"description": "done", "content": _json(schema)}, "default": _REFUSED}


def _place(name: str, text: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": _TEXT, "example": example}


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": text, "schema": _SIZE}


_NEW_TOKEN = _object(secret=_TEXT, token={"$ref": "#/components/schemas/Token"})
_OPEN: dict[str, Any] = {"security": [], "tags": ["sign-in"]}
_PLACES = [
    _place("adapter_namespace", "namespace of the adapter", "search"),
    _place("adapter_name", "name of the adapter", "sql-lora"),
]
_BLOB = [*_PLACES, _place("digest", "SHA-256 of the bytes, in hex", "0" * 64)]
_AHEAD = [*_PLACES, _place("sketch", "what the bytes are announced by before their digest is known", "0" * 64)]
_OFFSET = {"Upload-Offset": {"description": "how many bytes are there now", "schema": _SIZE}}
_PROGRESS = [
    _header("Upload-Offset", "the byte that the body begins at"),
    _header("Upload-Length", "bytes of the whole file"),
]
_ARRIVED = _object(digest=_TEXT, size=_SIZE, received=_SIZE)

OTHERS: dict[str, dict[str, Any]] = {
    "/api/v1/sign-in": {
        "post": {
            **_OPEN,
            "operationId": "sign-in.password",
            "summary": "A token good for 12 hours for who knows the password.",
            "requestBody": {
                "required": True,
                "content": _json(_object(name=_TEXT, password=_TEXT), {"name": "ann", "password": "correct horse"}),
            },
            "responses": _made(_NEW_TOKEN),
        }
    },
    "/api/v1/sign-in/browser": {
        "post": {
            **_OPEN,
            "operationId": "sign-in.browser",
            "summary": "Begin to sign in by the server's OpenID provider: the address that the person opens.",
            "requestBody": {"required": True, "content": _json({"type": "object"}, {})},
            "responses": _made(_object(open=_TEXT, secret=_TEXT, expires_in=_SIZE)),
        }
    },
    "/api/v1/sign-in/code": {
        "post": {
            **_OPEN,
            "operationId": "sign-in.code",
            "summary": "A token for the code that the person's browser ended with.",
            "requestBody": {
                "required": True,
                "content": _json(
                    _object(secret=_TEXT, code=_TEXT), {"secret": "what `open` came with", "code": "ABCD"}
                ),
            },
            "responses": _made(_NEW_TOKEN),
        }
    },
    "/api/v1/tokens/exchange": {
        "post": {
            **_OPEN,
            "operationId": "tokens.exchange",
            "summary": "A short-lived token of a service account for a pipeline's own (RFC 8693).",
            "description": "By form or by JSON; `trust` names one, so that a refusal says what was expected.",
            "requestBody": {
                "required": True,
                "content": {
                    kind: {
                        "schema": {**_object(subject_token=_TEXT, trust=_TEXT), "required": ["subject_token"]},
                        "example": {"subject_token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.e30.c2ln"},
                    }
                    for kind in ("application/x-www-form-urlencoded", "application/json")
                },
            },
            "responses": _made(
                _object(
                    access_token=_TEXT,
                    issued_token_type=_TEXT,
                    token_type=_TEXT,
                    expires_in=_SIZE,
                    token={"$ref": "#/components/schemas/Token"},
                )
            ),
        }
    },
    f"{_ADAPTER}/blobs/{{digest}}": {
        "put": {
            "operationId": "blobs.put",
            "tags": ["push"],
            "summary": "Send a file's bytes; refused unless they have this digest. Takes: push.",
            "parameters": _BLOB,
            "requestBody": {"required": True, "content": _BYTES},
            "responses": _made(_object(digest=_TEXT, size=_SIZE)),
        },
        "head": {
            "operationId": "blobs.offset",
            "tags": ["push"],
            "summary": "How much of an upload of one's own is there. Takes: push.",
            "parameters": _BLOB,
            "responses": {"200": {"description": "there", "headers": _OFFSET}, "default": _REFUSED},
        },
        "patch": {
            "operationId": "blobs.append",
            "tags": ["push"],
            "summary": "Go on with an upload where it was cut off. Takes: push.",
            "parameters": [*_BLOB, *_PROGRESS],
            "requestBody": {"required": True, "content": _BYTES},
            "responses": {
                "200": {"description": "there now; stored, if that is all of it", "headers": _OFFSET},
                "default": _REFUSED,
            },
        },
    },
    f"{_ADAPTER}/uploads/{{sketch}}": {
        "head": {
            "operationId": "uploads.offset",
            "tags": ["push"],
            "summary": "How much of an upload of one's own is there. Takes: push.",
            "parameters": _AHEAD,
            "responses": {"200": {"description": "there", "headers": _OFFSET}, "default": _REFUSED},
        },
        "patch": {
            "operationId": "uploads.append",
            "tags": ["push"],
            "summary": "Send a file whose digest is not known yet, or go on where it was cut off. Takes: push.",
            "parameters": [*_AHEAD, *_PROGRESS],
            "requestBody": {"required": True, "content": _BYTES},
            "responses": {
                "200": {"description": "there now", "headers": _OFFSET},
                "201": {"description": "all of it, stored under `digest`", "content": _json(_ARRIVED)},
                "default": _REFUSED,
            },
        },
    },
    f"{_ADAPTER}/versions/{{selector}}/files/{{path}}": {
        "get": {
            "operationId": "files.get",
            "tags": ["pull"],
            "summary": "The bytes of a file of a version, whole or a Range of them. Takes: read.",
            "parameters": [
                *_PLACES,
                _place("selector", "v3, 1.2.0, ^1.2, sha256:..., a tag or a stage", "prod"),
                _place("path", "of the file, slashes as they are", "adapter_config.json"),
            ],
            "responses": {
                "200": {"description": "all of it", "content": _BYTES},
                "206": {"description": "the range", "content": _BYTES},
                "302": {"description": "where the bucket has it, for 15 minutes"},
                "default": _REFUSED,
            },
        }
    },
    "/api/v1/lorax/{adapter_namespace}/v2/repos/{adapter_name}/version/{selector}": {
        "get": {
            "operationId": "lorax.version",
            "tags": ["pull"],
            "summary": "What LoRAX asks its control plane: where the files of `name/version` lie. Takes: read.",
            "parameters": [*_PLACES, _place("selector", "7, v7, 1.2.0, sha256:..., a tag or a stage", "prod")],
            "responses": {
                "200": {
                    "description": "a folder below the bucket and folder that LoRAX knows",
                    "content": _json(_object(status=_TEXT, adapterPath=_TEXT)),
                },
                "default": _REFUSED,
            },
        }
    },
    "/health": {
        "get": {
            "operationId": "health",
            "tags": ["watching"],
            "security": [],
            "summary": "The process lives; nothing else is asked.",
            "responses": {"200": {"description": "it does"}},
        }
    },
    "/ready": {
        "get": {
            "operationId": "ready",
            "tags": ["watching"],
            "security": [],
            "summary": "Database and blobs answer, and the server was not told to stop.",
            "responses": {"200": {"description": "they do"}, "503": {"description": "which does not"}},
        }
    },
    "/metrics": {
        "get": {
            "operationId": "metrics",
            "tags": ["watching"],
            "summary": "Counts for Prometheus.",
            "responses": {"200": {"description": "in its text format", "content": {"text/plain": {"schema": _TEXT}}}},
        }
    },
}
NOT_DESCRIBED = ("/api/v1/openapi.json", "/api/v1/uploads/{permission}", "/auth/callback", "/auth/{link}")
"""This description, and addresses that the server itself hands out."""
