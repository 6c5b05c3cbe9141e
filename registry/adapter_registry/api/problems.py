"""Errors as RFC 9457 problem details, with the error tree's code and every problem."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from adapter_registry.api.metrics import REFUSALS
from adapter_registry.domain.errors import OutsideFile, RegistryError
from adapter_registry.operation import to_wire


class Problem(JSONResponse):
    """A problem document."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """JSON of domain values."""
        return to_wire(content)


def problem(error: RegistryError) -> Problem:
    """What a native client reads of an error; counted."""
    REFUSALS.labels(error.code).inc()
    document = {
        "type": f"urn:adapters:{error.code}",
        "title": type(error).__name__,
        "status": error.status,
        "code": error.code,
        "detail": error.text,
        "problems": list(error.problems),
    }
    return Problem(document, status_code=error.status, headers=headers_of(error))


def headers_of(error: RegistryError) -> dict[str, str]:
    """The headers that an error comes with, whatever the form of its body."""
    if isinstance(error, OutsideFile):
        return {"content-range": f"bytes */{error.size}"}
    return again_after(error)


def again_after(error: RegistryError) -> dict[str, str]:
    """The header that says when to ask again."""
    seconds = 2 if error.status == 503 else error.wait_seconds
    return {"retry-after": str(seconds)} if seconds else {}
