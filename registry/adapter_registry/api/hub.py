"""The Hugging Face Hub's protocol: from an address to the route that answers it.

Here, and in the other `hub_*` modules, *repo* is an Adapter, *revision* a Reference's selector and *commit* the first
40 digits of a Version's digest: the Hub's words for ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from adapter_registry.api import (
    hub_account,
    hub_commit,
    hub_files,
    hub_info,
    hub_listing,
    hub_refs,
    hub_uploads,
    hub_upstream,
    hub_xet,
)
from adapter_registry.api.hub_answers import HubError, Nowhere, told, unsupported
from adapter_registry.api.hub_paths import HubPath, read
from adapter_registry.api.requests import server_of
from adapter_registry.api.threads import asked
from adapter_registry.domain.errors import InvalidReference, RegistryError
from adapter_registry.domain.names import STAGE_NAMES
from adapter_registry.domain.ports import Backend
from adapter_registry.services.stages import stages

Answer = Callable[[Request, HubPath], Awaitable[Response]]

MODELS: dict[tuple[str, str], Answer] = {
    ("GET", "list"): hub_listing.listing,
    ("GET", "info"): hub_info.info,
    ("GET", "revision"): hub_info.info,
    ("GET", "tree"): hub_info.tree,
    ("POST", "paths-info"): hub_info.paths_info,
    ("HEAD", "resolve"): hub_files.resolve,
    ("GET", "resolve"): hub_files.resolve,
    ("GET", "auth-check"): hub_account.auth_check,
    ("GET", "other"): hub_account.nobody,
    ("PUT", "settings"): hub_account.settings,
    ("GET", "refs"): hub_refs.refs,
    ("GET", "commits"): hub_refs.commits,
    ("POST", "tag"): hub_refs.create_tag,
    ("DELETE", "tag"): hub_refs.delete_tag,
    ("POST", "branch"): hub_refs.create_branch,
    ("DELETE", "branch"): hub_refs.delete_branch,
    ("POST", "preupload"): hub_commit.preupload,
    ("POST", "commit"): hub_commit.commit,
    ("POST", "git"): hub_uploads.batch,
    ("GET", "xet-write-token"): hub_xet.write_token,
}
OTHERS: dict[tuple[str, str], Answer] = {
    ("GET", "api/whoami-v2"): hub_account.whoami,
    ("GET", "api/agent-harnesses"): hub_account.harnesses,
    ("GET", "api/telemetry"): hub_account.telemetry,
    ("POST", "api/validate-yaml"): hub_commit.validate_yaml,
    ("POST", "api/repos/create"): hub_commit.create_repo,
    ("GET", "api/settings/repositories"): hub_listing.repositories,
}
NOT_DONE = {
    "discussions": ("a pull request or a discussion", ""),
    "super-squash": ("squashing history", "versions are immutable"),
    "lfs-files": ("listing, copying or removing stored large files", ""),
    "settings": ("changing this setting", ""),
    "api/repos/move": ("moving a repository", "names are never used for something else"),
    "api/repos/delete": ("deleting a repository", "`adapters rm` removes one exact version"),
}
"""What is not done, and why or what does it."""


class Hub:
    """An ASGI application: whatever the native API does not answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        response = await _answered(request)
        await response(scope, receive, send)


async def _answered(request: Request) -> Response:
    path = read(request.scope.get("raw_path") or request.url.path.encode())
    try:
        try:
            return await _here(request, path)
        except Nowhere as error:
            return await hub_upstream.elsewhere(request, path, error)
    except HubError as error:
        return error.answer()


async def _here(request: Request, path: HubPath) -> Response:
    try:
        if "\x00" in request.scope["path"] or b"%00" in request.scope["query_string"]:
            raise HubError(404, "there is nothing at an address with a NUL character.")
        if path.channel is not None:
            await asked(server_of(request).backend, _check_channel, server_of(request).backend, path.channel)
            request.scope["state"]["channel_prefix"] = f"/~{path.channel}"
        return await _route(request, path)(request, path)
    except InvalidReference as error:
        raise HubError(404, error.text, code="RepoNotFound" if path.repo else "") from error
    except RegistryError as error:
        raise told(error) from error


def _check_channel(backend: Backend, channel: str) -> None:
    """Raise InvalidReference for what is no stage, and no lane of one."""
    if channel not in STAGE_NAMES:
        stages(backend).check(channel)


def _route(request: Request, path: HubPath) -> Answer:
    method = "GET" if request.method == "HEAD" and path.action != "resolve" else request.method
    if path.action.startswith("xet/"):
        return hub_xet.answer
    if path.action == "git" and path.rest != hub_uploads.BATCH:
        return hub_uploads.batch  # says that nothing is cloned, whatever the method
    if path.kind == "models" and (found := MODELS.get((method, path.action))):
        return found
    if path.kind in ("datasets", "spaces") and path.action == "list" and method == "GET":
        return _empty
    if found := OTHERS.get((method, path.action)):
        return found
    if method == "GET" and path.action.startswith(hub_listing.OF_ORGANIZATION):
        return hub_listing.repositories
    if path.action in NOT_DONE and method in ("GET", "POST", "PUT", "DELETE"):
        raise unsupported(*NOT_DONE[path.action])
    if path.action == "other" and path.kind == "models":
        raise hub_account.not_done(path)
    _refuse_method(request, path)
    if path.repo:
        raise Nowhere(f"Repository not found: {path.kind}/{path.repo}")
    raise HubError(404, f"there is nothing at /{path.action[:100]}")


def _refuse_method(request: Request, path: HubPath) -> None:
    """Raise HubError when the address is one, and the method none of its own."""
    table = MODELS if path.kind == "models" else OTHERS
    allowed = sorted({method for method, action in table if action == path.action})
    if allowed:
        shown = ", ".join(allowed)
        raise HubError(405, f"{request.method} is not one of its methods: {shown}.", headers={"allow": shown})


async def _empty(_request: Request, _path: HubPath) -> Response:
    return JSONResponse([])
