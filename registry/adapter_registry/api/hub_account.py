"""Who the client is, in the Hub's terms, and what its commands ask beside."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api.hub_access import readable, require, writable
from adapter_registry.api.hub_answers import HubError, unsupported
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import backend_of, json_body
from adapter_registry.domain.people.access import EVERYTHING

NOT_DONE = {
    "like": "liking a repository",
    "likers": "liking a repository",
    "user-access-request": "asking for access to a repository",
    "duplicate": "copying a repository",
    "resource-group": "a resource group",
    "safetensors-metadata": "reading the heads of all weight files at once",
}
"""What the Hub's clients ask of a repository and is not done here, by the first word behind its id."""


async def whoami(request: Request, _path: HubPath) -> Response:
    """`GET /api/whoami-v2`."""
    asks = backend_of(request).asks
    spaces = sorted({scope.partition("/")[0] for scope in asks.scopes if scope != EVERYTHING} - {asks.name})
    writes = asks.may_somewhere("push")
    token = {"displayName": asks.token or "in process", "role": "write" if writes else "read"}
    return JSONResponse(
        {
            "type": "user",
            "id": asks.name,
            "name": asks.name,
            "fullname": asks.name,
            "isPro": False,
            "orgs": [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in spaces],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


async def harnesses(_request: Request, _path: HubPath) -> Response:
    """`GET /api/agent-harnesses`: nothing to tell, which saves every command a failing request."""
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})


async def telemetry(_request: Request, _path: HubPath) -> Response:
    """`HEAD /api/telemetry/...`: thanked for and thrown away."""
    return JSONResponse({})


async def auth_check(request: Request, path: HubPath) -> Response:
    """`GET /api/models/{id}/auth-check[/write]`."""
    backend, found = await run_in_threadpool(readable, request, path)
    if path.revision == "write":
        if found.bases:
            raise HubError(403, f"{path.repo} is a base: nothing is pushed to it.")
        require(backend, "push", found.name, path)
    return JSONResponse({"ok": True})


async def settings(request: Request, path: HubPath) -> Response:
    """`PUT /api/models/{id}/settings`: everything here is private already; nothing else can be set."""
    await run_in_threadpool(writable, request, path)
    document = await json_body(request, limit=100_000)
    if document.get("private") is False or document.get("visibility") == "public":
        raise HubError(403, "adapters are never public here: grants say who may read them.")
    if document.get("gated"):
        raise unsupported("gating", "grants say who may read")
    return JSONResponse({"private": True, "visibility": "private", "gated": False})


async def nobody(request: Request, path: HubPath) -> Response:
    """Who liked a repository, or asked for access to it: nobody."""
    if path.rest.partition("/")[0] not in ("likers", "user-access-request"):
        raise not_done(path)
    await run_in_threadpool(readable, request, path)
    return JSONResponse([])


def not_done(path: HubPath) -> HubError:
    """For what no marker word says of a repository."""
    what = NOT_DONE.get(path.rest.partition("/")[0])
    return unsupported(what) if what else HubError(404, f"there is nothing of a repository at {path.rest[:100]!r}.")
