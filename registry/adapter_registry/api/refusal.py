"""An error in the form that whoever asked reads: the Hub's for its clients, a problem document for everybody else."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from adapter_registry.api import sessions
from adapter_registry.api.hub_answers import told
from adapter_registry.api.pages import answering
from adapter_registry.api.problems import problem
from adapter_registry.domain.errors import RegistryError


def is_native(scope: Scope) -> bool:
    """Whether a request is one of the native API."""
    return scope["path"] == "/api/v1" or bool(scope["path"].startswith("/api/v1/"))


def refusal(scope: Scope, error: RegistryError) -> Response:
    """The answer to a request that was turned away before any route read it."""
    if sessions.is_page(scope["path"]) and "app" in scope:
        scope.setdefault("state", {})
        return answering.refused(Request(scope), error)
    return problem(error) if is_native(scope) or scope["path"] == "/metrics" else told(error).answer()
