"""Who asks: every request carries a good token, except to the few routes that are listed here.

A request without one is turned away before any route is looked at, so a new route is never open by accident.
"""

from __future__ import annotations

import base64
import binascii
import re

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adapter_registry.api import hub_paths, sessions
from adapter_registry.api.lookups import authenticated
from adapter_registry.api.pages import sign_in
from adapter_registry.api.pages.answering import HEADERS
from adapter_registry.api.pages.page import of_adapter
from adapter_registry.api.problems import problem
from adapter_registry.api.refusal import is_native, refusal
from adapter_registry.domain.errors import InvalidReference, RegistryError, Unauthorised
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import split_adapter
from adapter_registry.services import access

PUBLIC = (
    ("GET", r"/health"),
    ("GET", r"/ready"),
    ("GET", r"/api/v1/openapi\.json"),
    ("POST", r"/api/v1/sign-in"),
    # Signing in by an OpenID provider: the client begins and ends it, the person's browser goes there and comes back.
    ("POST", r"/api/v1/sign-in/(browser|code)"),
    ("GET", r"/auth/[A-Za-z0-9_-]+"),
    # The door of the web pages, and what it is painted with.
    ("GET|HEAD", r"/"),
    ("GET|HEAD|POST", r"/ui/sign-in"),
    ("POST", r"/ui/sign-in/provider"),
    ("GET|HEAD", r"/ui/static/.*"),
    # A pipeline shows its provider's token, which is verified in place of ours.
    ("POST", r"/api/v1/tokens/exchange"),
    # What Hub clients ask before they have a token, answered with nothing of the registry's.
    ("GET", r"/api/agent-harnesses"),
    ("HEAD", r"/api/telemetry/.*"),
    # A card says nothing of the registry's either: `ModelCard.push_to_hub` asks about it without the token it has.
    ("POST", r"/api/validate-yaml"),
    ("POST", r"/v1/telemetry"),
    # These carry a permission of their own, signed by this server and good for a short while.
    ("PUT", r"/api/v1/uploads/[^/]+"),
    ("(GET|POST)", r"/xet/.*"),
)
"""(method, path) of every route that answers without a token, as regular expressions."""
_PUBLIC = tuple((re.compile(verb), re.compile(pattern)) for verb, pattern in PUBLIC)

WRONG_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105  the text that Hub clients know a bad token by


def is_public(method: str, path: str) -> bool:
    """Whether a request needs no token."""
    return any(verb.fullmatch(method) and pattern.fullmatch(path) for verb, pattern in _PUBLIC)


class Authenticated:
    """Puts the Principal of each request into its state, or answers 401."""

    def __init__(self, app: ASGIApp, backend: Backend) -> None:
        self._app, self._backend = app, backend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        headers = Headers(scope=scope)
        secret = _secret(headers.get("authorization", ""))
        if sessions.is_page(scope["path"]) and not secret:
            secret = sessions.secret_in(headers.get("cookie", ""))
        principal, public = None, is_public(scope["method"], scope["path"])
        # A public route answers whatever token comes with it, and without the database: /health may not need it.
        if secret and not public:
            try:
                principal = await self._authenticated(secret)
            except RegistryError as error:
                await refusal(scope, error)(scope, receive, send)
                return
        scope["state"]["principal"] = principal
        if principal is None and not public:
            await self._turned_away(scope, presented=bool(secret))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _turned_away(self, scope: Scope, *, presented: bool) -> Response:
        if sessions.is_page(scope["path"]):
            return sign_in.turned_away(Request(scope))
        if not presented and (page := _page_of(scope)):
            return RedirectResponse(page, status_code=303, headers=HEADERS)
        return _turned_away(scope, presented=presented)

    async def _authenticated(self, secret: str) -> Principal | None:
        found = await authenticated(self._backend, secret)
        if found is None:
            return None
        principal, unnoted = found
        if unnoted and principal.token is not None:
            await run_in_threadpool(access.note_use, self._backend, token=principal.token)
        return principal


def _secret(header: str) -> str:
    """The token in an Authorization header: Bearer, or the password of Basic as git sends it."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return "-"
    return ""


def _page_of(scope: Scope) -> str:
    """Where a browser that opens an address which a Hub client printed is led; empty for whoever is no browser.

    It says nothing of what there is: the page asks who is there.
    """
    request = Request(scope)
    if request.method not in ("GET", "HEAD") or "text/html" not in request.headers.get("accept", ""):
        return ""
    try:
        owner, name = split_adapter(hub_paths.repository_of(scope.get("raw_path") or b""))
    except InvalidReference:
        return ""
    return sessions.root(request) + of_adapter(f"{owner}/{name}")


def _turned_away(scope: Scope, *, presented: bool) -> JSONResponse:
    """401 as each kind of client reads it: a Hub client must tell a bad token from a missing repository."""
    if is_native(scope):
        text = (
            "the server does not know this token (ADAPTERS_TOKEN): it was revoked, it expired, or it is another's. "
            "`adapters login` gets a new one."
        )
        return problem(Unauthorised(text) if presented else Unauthorised())
    of_repo = not presented and bool(hub_paths.read(scope.get("raw_path") or b"").repo)
    if presented:
        message = WRONG_TOKEN
    elif of_repo:
        message = "Repository not found, or a token is needed to see it."
    else:
        message = "a token is needed (HF_TOKEN): nothing here is public."
    headers = {"x-error-message": message, "www-authenticate": 'Basic realm="adapters"'}
    if of_repo:
        headers["x-error-code"] = "RepoNotFound"
    return JSONResponse({"error": message}, status_code=401, headers=headers)
