"""Names and history: refs, commits, tags and branches."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api.hub_access import readable, state_of, writable
from adapter_registry.api.hub_answers import HubError, no_revision
from adapter_registry.api.hub_info import flag, next_link, several, time_of
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import json_body, whole_number
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.draft import MAIN, commit_of
from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidReference, NotFound
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.stored_base import StoredBase
from adapter_registry.services import draft, mark, snapshot
from adapter_registry.services.stages import is_stage

PAGE = 50


async def refs(request: Request, path: HubPath) -> Response:
    """`GET /api/models/{id}/refs`: stages, tags and version numbers are tags to the Hub's clients."""
    return JSONResponse(await run_in_threadpool(_refs, request, path))


def _refs(request: Request, path: HubPath) -> dict[str, Any]:
    backend, repository = readable(request, path)
    if repository.bases:
        found = snapshot.Names(((MAIN, repository.bases[0].commit),), ())
    else:
        found = snapshot.names(backend, adapter=repository.name)

    def row(name: str, kind: str, commit: str) -> dict[str, str]:
        return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}

    document: dict[str, Any] = {
        "branches": [row(name, "heads", commit) for name, commit in found.branches],
        "converts": [],
        "tags": [row(name, "tags", commit) for name, commit in found.tags],
    }
    return {**document, "pullRequests": []} if flag(request, "include_prs") else document


async def commits(request: Request, path: HubPath) -> Response:
    """`GET /api/models/{id}/commits/{rev}`: versions up to that one, newest first."""
    return await run_in_threadpool(_commits, request, path)


def _commits(request: Request, path: HubPath) -> Response:
    backend, state = state_of(request, path, path.revision)
    newest = state.version.number if state.version else 0
    formatted = "formatted" in several(request, "expand")
    rows = [_commit(v, formatted=formatted) for v in _up_to(backend, state.adapter, newest)] if newest else []
    if state.base is not None:
        rows = [_base_row(each, formatted=formatted) for each in _stored(backend, state.base, state.adapter)]
    elif state.version is None and state.files:
        rows.insert(0, _row(state.commit, "draft", "", "", state.at, formatted=formatted))
    start = whole_number(request.query_params.get("cursor"), default=0)
    headers = {"x-total-count": str(len(rows))}
    if len(rows) > start + PAGE:
        headers["link"] = next_link(request, cursor=str(start + PAGE))
    return JSONResponse(rows[start : start + PAGE], headers=headers)


def _up_to(backend: Backend, adapter: str, newest: int) -> tuple[Version, ...]:
    with backend.catalog.reading() as tx:
        return tx.versions.all_of(adapter, before=newest + 1)


def _stored(backend: Backend, base: StoredBase, repo: str) -> tuple[StoredBase, ...]:
    """That stored base and those that were served under the id before it, newest first."""
    with backend.catalog.reading() as tx:
        bases = tx.stored_bases.named(repo)
    return bases[next((i for i, each in enumerate(bases) if each.base == base.base), 0) :]


def _base_row(base: StoredBase, *, formatted: bool) -> dict[str, Any]:
    return _row(base.commit, "stored base", "", base.stored_by, base.stored_at, formatted=formatted)


def _commit(version: Version, *, formatted: bool) -> dict[str, Any]:
    title, _, message = (version.message or f"v{version.number} ({version.semver})").partition("\n")
    commit = commit_of(version.digest)
    return _row(commit, title, message.strip(), version.created_by, version.created_at, formatted=formatted)


def _row(commit: str, title: str, message: str, author: str, at: str, *, formatted: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": commit,
        "title": title,
        "message": message,
        "authors": [{"user": author}] if author else [],
        "date": time_of(at),
    }
    return {**row, "formatted": {"title": title, "message": message}} if formatted else row


async def create_tag(request: Request, path: HubPath) -> Response:
    """`POST /api/models/{id}/tag/{rev}`; an existing tag stays where it is."""
    document = await json_body(request, limit=100_000)
    await run_in_threadpool(_create_tag, request, path, str(document.get("tag", "")))
    return JSONResponse({"success": True})


def _create_tag(request: Request, path: HubPath, name: str) -> None:
    backend, adapter = writable(request, path, "tag")
    if is_stage(backend, name):
        raise HubError(
            403, f"{name!r} is a stage: it moves by `adapters promote`, through its gates, never by tagging."
        )
    _, state = state_of(request, path, path.revision)
    if state.version is None:
        raise no_revision(path.revision, "Only a whole version can be tagged.")
    with backend.catalog.reading() as tx:
        taken = tx.versions.tagged(adapter, name)
    if taken is not None:
        raise HubError(409, f"Tag {name} exists: it points to v{taken.number}.")
    try:
        mark.tag(backend, reference=f"{adapter}@{state.version.digest}", name=name)
    except InvalidReference as error:
        raise HubError(400, error.text) from error


async def delete_tag(request: Request, path: HubPath) -> Response:
    """`DELETE /api/models/{id}/tag/{tag}`."""
    await run_in_threadpool(_delete_tag, request, path)
    return JSONResponse({"success": True})


def _delete_tag(request: Request, path: HubPath) -> None:
    backend, adapter = writable(request, path, "tag")
    if is_stage(backend, path.revision):
        raise HubError(403, f"{path.revision!r} is a stage: it cannot be removed this way.")
    try:
        mark.untag(backend, adapter=adapter, name=path.revision)
    except NotFound as error:
        raise no_revision(path.revision, error.text) from error


async def create_branch(request: Request, path: HubPath) -> Response:
    """`POST /api/models/{id}/branch/{name}`."""
    document = await json_body(request, limit=100_000)
    await run_in_threadpool(_create_branch, request, path, document.get("startingPoint"))
    return JSONResponse({"success": True})


def _create_branch(request: Request, path: HubPath, start: Any) -> None:
    backend, adapter = writable(request, path)
    name = path.revision
    if is_stage(backend, name):
        raise HubError(409, f"{name!r} is a stage of this adapter, no branch: it moves by `adapters promote`.")
    if name == "main":
        raise HubError(409, "Reference already exists: main")
    _, state = state_of(request, path, str(start or ""))
    try:
        fresh = draft.create_branch(backend, adapter=adapter, name=name, start=state.version)
    except Conflict as error:
        raise HubError(409, error.text) from error
    except InvalidReference as error:
        raise HubError(400, error.text) from error
    if not fresh:
        raise HubError(409, f"Reference already exists: {name}")


async def delete_branch(request: Request, path: HubPath) -> Response:
    """`DELETE /api/models/{id}/branch/{name}`."""
    await run_in_threadpool(_delete_branch, request, path)
    return JSONResponse({"success": True})


def _delete_branch(request: Request, path: HubPath) -> None:
    backend, adapter = writable(request, path)
    try:
        draft.remove_branch(backend, adapter=adapter, name=path.revision)
    except InvalidInput as error:
        raise HubError(403, error.text) from error
    except NotFound as error:
        raise no_revision(path.revision, error.text) from error
