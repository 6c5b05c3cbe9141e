"""What a repository holds: info, tree, paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api.hub_access import looked_up, state_of
from adapter_registry.api.hub_answers import HubError, no_entry
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import base_url, body, read_object
from adapter_registry.checkpoints.git_objects import pointer, tree_id
from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.stored_base import StoredBase
from adapter_registry.services import snapshot
from adapter_registry.services.snapshot import Snapshot, git_id, is_large

PAGE = 1000
MOST_PATHS = 1000
_TRUE = ("true", "True", "1", "")


def flag(request: Request, name: str) -> bool:
    """A boolean of the query: `true` from new clients, `True` from old ones."""
    given = request.query_params.get(name)
    return given is not None and given in _TRUE


def several(request: Request, name: str) -> list[str]:
    """The values of a repeated key of the query, `name` or `name[]`."""
    return [*request.query_params.getlist(name), *request.query_params.getlist(f"{name}[]")]


async def info(request: Request, path: HubPath) -> Response:
    """`GET /api/models/{id}[/revision/{rev}]`."""
    return JSONResponse(await looked_up(request, path, _info))


def _info(request: Request, path: HubPath) -> dict[str, Any]:
    backend, state = state_of(request, path, path.revision)
    expand = several(request, "expand")
    found = document(backend, path.repo, state, blobs=flag(request, "blobs"))
    if not expand:
        return found
    return {key: found[key] for key in ("id", "_id", "modelId", *expand) if key in found}


def document(backend: Backend, repo: str, state: Snapshot, *, blobs: bool) -> dict[str, Any]:
    """All that is said of a repository in one state; with `blobs`, sizes and digests of its files too."""
    card = snapshot.card(backend.blobs, state.files)
    siblings = [_sibling(backend, file, blobs=blobs) for file in state.files]
    tags = tags_of(state, card)
    return {
        "_id": state.commit[:24],
        "id": repo,
        "modelId": repo,
        "author": state.adapter.partition("/")[0],
        "sha": state.commit,
        "lastModified": time_of(state.at),
        "createdAt": time_of(state.created_at),
        "private": True,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "library_name": "transformers" if state.base else "peft",
        **({"pipeline_tag": card["pipeline_tag"]} if isinstance(card.get("pipeline_tag"), str) else {}),
        "tags": tags,
        "cardData": card,
        "siblings": siblings,
        "usedStorage": sum(file.size for file in state.files),
    }


def time_of(text: str) -> str:
    """A time as the clients parse it: milliseconds and `Z`."""
    return f"{text[:23]}Z"


def tags_of(state: Snapshot, card: dict[str, Any]) -> list[str]:
    """The tags of a repository: its library, method, base, and what its card says."""
    given = card.get("tags")
    said = [str(tag) for tag in given] if isinstance(given, list) else []
    known = base_tags(state.base) if state.base is not None else adapter_tags(state.version)
    return list(dict.fromkeys([*known, *said]))


def adapter_tags(version: Version | None) -> list[str]:
    """The tags of an adapter before its card says any; of a draft without a version."""
    facts = [version.description.peft_type.lower(), f"base_model:{version.base_name}"] if version else []
    return ["peft", "safetensors", *facts]


def base_tags(base: StoredBase) -> list[str]:
    """The tags of a stored base."""
    return ["transformers", "safetensors", *([base.model_type] if base.model_type else [])]


def _sibling(backend: Backend, file: File, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": file.path}
    found: dict[str, Any] = {"rfilename": file.path, "size": file.size, "blobId": git_id(backend.blobs, file)}
    if is_large(file):
        found["lfs"] = {"sha256": hex_of(file.digest), "size": file.size, "pointerSize": pointer_size(file)}
    return found


def pointer_size(file: File) -> int:
    """Bytes of the pointer that stands for a large file."""
    return len(pointer(hex_of(file.digest), file.size))


async def tree(request: Request, path: HubPath) -> Response:
    """`GET /api/models/{id}/tree/{rev}[/{path}]`."""
    return await run_in_threadpool(_tree, request, path)


def _tree(request: Request, path: HubPath) -> Response:
    backend, state = state_of(request, path, path.revision)
    inside = path.rest.strip("/")
    nodes = _nodes(backend, state, inside, recursive=flag(request, "recursive"), expand=flag(request, "expand"))
    if inside and not nodes:
        raise no_entry(inside, state.commit)
    after = request.query_params.get("cursor", "")
    left = [node for node in nodes if node["path"] > after]
    headers = {"x-repo-commit": state.commit}
    if len(left) > PAGE:
        headers["link"] = next_link(request, cursor=left[PAGE - 1]["path"])
    return JSONResponse(left[:PAGE], headers=headers)


def next_link(request: Request, *, cursor: str) -> str:
    """The header that leads to the next page: an absolute address."""
    query = {**parse_qs(request.url.query), "cursor": cursor}
    prefix = str(request.scope["state"].get("channel_prefix", ""))
    raw = (request.scope.get("raw_path") or b"").decode("latin-1").partition("?")[0].removeprefix(prefix)
    return f'<{base_url(request)}{raw}?{urlencode(query, doseq=True)}>; rel="next"'


def _nodes(backend: Backend, state: Snapshot, inside: str, *, recursive: bool, expand: bool) -> list[dict[str, Any]]:
    prefix = f"{inside}/" if inside else ""
    found: list[dict[str, Any]] = []
    folders: dict[str, list[str]] = {}
    for file in state.files:
        if not file.path.startswith(prefix):
            continue
        below = file.path[len(prefix) :].split("/")
        for depth in range(1, len(below) if recursive else min(len(below), 2)):
            folders.setdefault(prefix + "/".join(below[:depth]), []).append(f"{file.path} {file.digest}")
        if recursive or len(below) == 1:
            found.append(_file_node(backend, file))
    found += [_folder_node(path, children) for path, children in folders.items()]
    if expand:
        last = {"id": state.commit, "title": state.title, "date": time_of(state.at)}
        found = [{**node, "lastCommit": last} for node in found]
    return sorted(found, key=lambda node: str(node["path"]))


def _folder_node(path: str, children: Sequence[str]) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": tree_id(path, sorted(children)), "size": 0}


def _file_node(backend: Backend, file: File) -> dict[str, Any]:
    node: dict[str, Any] = {"type": "file", "path": file.path, "size": file.size, "oid": git_id(backend.blobs, file)}
    if is_large(file):
        node["lfs"] = {"oid": hex_of(file.digest), "size": file.size, "pointerSize": pointer_size(file)}
    return node


async def paths_info(request: Request, path: HubPath) -> Response:
    """`POST /api/models/{id}/paths-info/{rev}`: a form, or JSON."""
    data = await body(request, limit=4_000_000)
    request.scope["state"]["body"] = data
    wanted, expand = _paths(request, data)
    return JSONResponse(await run_in_threadpool(_paths_info, request, path, wanted, expand))


def _paths(request: Request, data: bytes) -> tuple[list[str], bool]:
    if "json" in request.headers.get("content-type", ""):
        document = read_object(data)
        given = document.get("paths", [])
        wanted = [str(each) for each in given] if isinstance(given, list) else [str(given)]
        return wanted, bool(document.get("expand"))
    try:
        form = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_PATHS + 10)
    except ValueError as error:
        raise HubError(400, f"at most {MOST_PATHS:,} paths are asked for at once.") from error
    return form.get("paths", []), form.get("expand", ["false"])[0] in ("true", "True", "1")


def _paths_info(request: Request, path: HubPath, wanted: Iterable[str], expand: bool) -> list[dict[str, Any]]:
    backend, state = state_of(request, path, path.revision)
    nodes = {node["path"]: node for node in _nodes(backend, state, "", recursive=True, expand=expand)}
    return [nodes[name] for each in wanted if (name := each.strip("/")) in nodes]
