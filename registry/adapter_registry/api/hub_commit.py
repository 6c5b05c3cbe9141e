"""Pushing by the Hub's ways: create, preupload, commit."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api.hub_access import adapter_of, require, writable
from adapter_registry.api.hub_answers import HubError, no_repo, told, unsupported
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import backend_of, base_url, body, is_size, json_body, read_object
from adapter_registry.checkpoints.file_rules import name_problem
from adapter_registry.checkpoints.front_matter import front_matter
from adapter_registry.checkpoints.ignored import ignored
from adapter_registry.checkpoints.limited_child import PatternTooExpensive
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import Digest, hex_of, of_bytes, parse
from adapter_registry.domain.draft import MAIN
from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidReference, NotFound, RegistryError
from adapter_registry.domain.ports import Backend
from adapter_registry.services import draft, push, snapshot
from adapter_registry.services.draft import Committed
from adapter_registry.services.snapshot import git_id, is_large
from adapter_registry.services.stages import is_stage

MAX_OPERATIONS = 5_000
MAX_CARD = 6_000_000
PRIVATE = "nothing is public here: the repository is private, and grants say who may read it."
MAX_COMMIT = 128_000_000
"""Bytes of a commit's body: files sent inside it are written in base64."""


async def create_repo(request: Request, path: HubPath) -> Response:
    """`POST /api/repos/create`."""
    document = await json_body(request, limit=100_000)
    return await run_in_threadpool(_create_repo, request, path, document)


def _create_repo(request: Request, path: HubPath, document: dict[str, Any]) -> Response:
    backend = backend_of(request)
    if document.get("type") not in (None, "model"):
        raise unsupported(f"a repository of type {document.get('type')!r}", "it holds adapters")
    name = str(document.get("name", ""))
    owner = document.get("organization")
    repo = name if "/" in name else f"{owner or backend.asks.name}/{name}"
    try:
        adapter = adapter_of(repo)
    except InvalidReference as error:
        raise HubError(400, error.text) from error
    require(backend, "push", adapter, path)
    answer = {"url": f"{base_url(request)}/{adapter}", "name": adapter, "id": adapter}
    try:
        fresh = draft.create(backend, adapter=adapter)
    except Conflict as error:
        raise HubError(409, error.text, document=answer) from error
    if not fresh:
        raise HubError(409, f"You already created this model repo: {adapter}", document=answer)
    public = document.get("visibility") == "public"
    return JSONResponse(answer, headers={"x-hf-warning": f"visibility; {PRIVATE}"} if public else None)


async def validate_yaml(request: Request, _path: HubPath) -> Response:
    """`POST /api/validate-yaml`: whether a card's front matter can be read."""
    document = await json_body(request, limit=MAX_CARD)
    try:
        front_matter(str(document.get("content", "")))
    except InvalidInput as error:
        return JSONResponse({"errors": [{"message": error.text}], "warnings": []}, status_code=400)
    return JSONResponse({"errors": [], "warnings": []})


async def preupload(request: Request, path: HubPath) -> Response:
    """`POST /api/models/{id}/preupload/{rev}`: how each file is to travel, and what is there already."""
    document = await json_body(request, limit=20_000_000)
    return JSONResponse(await run_in_threadpool(_preupload, request, path, document))


def _preupload(request: Request, path: HubPath, document: dict[str, Any]) -> dict[str, Any]:
    backend, adapter = writable(request, path)
    there = {file.path: file for file in head_of(backend, adapter, branch_of(backend, request, path)).files}
    files = document.get("files")
    if not isinstance(files, list) or not all(isinstance(each, dict) for each in files):
        raise HubError(400, "preupload takes a list of files.")
    if len(files) > MAX_OPERATIONS:
        raise HubError(413, f"at most {MAX_OPERATIONS:,} files are asked about at once.")
    left_out = _left_out(document.get("gitIgnore"), [str(each.get("path", "")) for each in files])
    return {"files": [_plan(backend, each, there, left_out) for each in files]}


def _left_out(gitignore: Any, paths: list[str]) -> frozenset[str]:
    """Those of `paths` that the pusher's `.gitignore` leaves out."""
    if not isinstance(gitignore, str) or not gitignore.strip():
        return frozenset()
    try:
        return ignored(gitignore, paths)
    except InvalidInput as error:
        raise HubError(400, error.text) from error
    except PatternTooExpensive as error:
        raise HubError(400, ".gitignore takes too long to match; leave it out of the push.") from error


def _plan(
    backend: Backend, each: dict[str, Any], there: Mapping[str, File], left_out: frozenset[str]
) -> dict[str, Any]:
    path, size = str(each.get("path", "")), each.get("size")
    wanted = File(path, size if is_size(size) else 0, Digest(""))
    mode = "lfs" if is_large(wanted) else "regular"
    plan = {"path": path, "uploadMode": mode, "shouldIgnore": path in left_out}
    if path in there:
        known = there[path]
        plan["oid"] = hex_of(known.digest) if mode == "lfs" else _git_oid(backend, known)
    return plan


def _git_oid(backend: Backend, file: File) -> str:
    return "" if is_large(file) else git_id(backend.blobs, file)


def branch_of(backend: Backend, request: Request, path: HubPath) -> str:
    """The branch a commit goes to.

    Raises:
        HubError: a stage, which moves only by promotion; a pull request; or a tag.
    """
    if request.query_params.get("create_pr", "").lower() in ("1", "true") or path.revision.startswith("refs/pr/"):
        raise unsupported("a pull request")
    name = path.revision.removeprefix("refs/heads/") or MAIN
    if name != MAIN and is_stage(backend, name):
        raise HubError(403, f"{name!r} is a stage: push to main, then `adapters promote` the version to it.")
    return name


def head_of(backend: Backend, adapter: str, branch: str) -> draft.Head:
    """Where a branch ends; raises HubError when it is no branch."""
    with backend.catalog.reading() as tx:
        head = draft.head_of(tx, adapter, branch)
    if head is None:
        raise _no_branch(backend, adapter, branch)
    return head


def _no_branch(backend: Backend, adapter: str, branch: str) -> HubError:
    try:
        snapshot.snapshot(backend, adapter=adapter, name=branch)
    except RegistryError:
        return HubError(404, f"Invalid rev id: {branch}: {adapter} has no such branch.", code="RevisionNotFound")
    return HubError(400, f"{branch!r} is a tag or a version: commits go to main or to another branch.")


async def commit(request: Request, path: HubPath) -> Response:
    """`POST /api/models/{id}/commit/{rev}`: NDJSON."""
    data = await body(request, limit=MAX_COMMIT)
    made = await run_in_threadpool(_commit, request, path, data)
    address = f"{base_url(request)}/{path.repo}/commit/{made.commit}"
    headers = {} if made.version else {"x-hf-warning": f"draft; {made.told}"}
    answer = {"success": True, "commitOid": made.commit, "commitUrl": address, "hookOutput": made.told}
    return JSONResponse(answer, headers=headers)


def _commit(request: Request, path: HubPath, data: bytes) -> Committed:
    backend, adapter = writable(request, path)
    branch = branch_of(backend, request, path)
    head_of(backend, adapter, branch)
    header, operations = _operations(data)
    edit = _Edit(backend, adapter, operations)
    parent = header.get("parentCommit")
    title = "\n\n".join(str(text) for text in (header.get("summary"), header.get("description")) if text)
    try:
        return draft.change(
            backend, adapter=adapter, branch=branch, edit=edit, parent=str(parent) if parent else None, title=title
        )
    except Conflict as error:
        raise HubError(412 if parent else 409, error.text) from error
    except NotFound as error:
        if "no branch" in error.text:
            raise _no_branch(backend, adapter, branch) from error
        raise no_repo(path.repo) if "no adapter" in error.text else HubError(400, error.text) from error
    except RegistryError as error:
        raise told(error) from error


def _operations(data: bytes) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """(header, (key, value) of each line) of a commit's body."""
    header: dict[str, Any] = {}
    operations: list[tuple[str, dict[str, Any]]] = []
    for line in _lines(data):
        key, value = line.get("key"), line.get("value")
        if not isinstance(key, str) or not isinstance(value, dict):
            raise HubError(400, "each line of a commit is an object with a key and a value.")
        if key == "header":
            header = value
        else:
            operations.append((key, value))
        if len(operations) > MAX_OPERATIONS:
            raise HubError(413, f"a commit has at most {MAX_OPERATIONS:,} operations.")
    return header, operations


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                yield read_object(line)
            except InvalidInput as error:
                why = error.text.replace("the body", f"line {number}")
                raise HubError(400, f"the commit is not newline-delimited JSON: {why}") from error


def _refuse_operation(key: str, value: dict[str, Any]) -> None:
    """Raise HubError for an operation that is none, or is about a name that no version may hold."""
    if key not in ("file", "lfsFile", "deletedFile", "deletedFolder"):
        raise unsupported(f"the commit operation {key[:40]!r}")
    path = value.get("path")
    if not isinstance(path, str):
        raise HubError(400, f"the commit operation {key} needs a path, a text.")
    problem = name_problem(path) if key in ("file", "lfsFile") else None
    if problem is not None:
        raise HubError(400, str(problem))


class _Edit:
    """From the files of a branch's head to those of a commit; bytes sent in the commit are stored once."""

    def __init__(self, backend: Backend, adapter: str, operations: list[tuple[str, dict[str, Any]]]) -> None:
        self._backend, self._adapter = backend, adapter
        for key, value in operations:
            _refuse_operation(key, value)
        self._steps = [(key, value, self._file(key, value)) for key, value in operations]
        large = [file for key, _, file in self._steps if key == "lfsFile" and file]
        self._require_stored(large)

    def __call__(self, files: tuple[File, ...]) -> tuple[File, ...]:
        by_path = {file.path: file for file in files}
        for key, value, file in self._steps:
            if file is not None:
                by_path[file.path] = file
            else:
                self._delete(key, str(value.get("path", "")), by_path)
        return tuple(by_path.values())

    def _delete(self, key: str, path: str, by_path: dict[str, File]) -> None:
        folder = path.rstrip("/") + "/"
        doomed = [name for name in by_path if (name.startswith(folder) if key == "deletedFolder" else name == path)]
        if not doomed:
            raise HubError(404, "A file with this name doesn't exist", code="EntryNotFound")
        for name in doomed:
            del by_path[name]

    def _file(self, key: str, value: dict[str, Any]) -> File | None:
        """The File that an operation adds; None for one that deletes."""
        if key in ("deletedFile", "deletedFolder"):
            return None
        path = str(value["path"])
        return self._inline(path, value) if key == "file" else self._large(path, value)

    def _inline(self, path: str, value: dict[str, Any]) -> File:
        content, encoding = value.get("content"), value.get("encoding", "base64")
        if not isinstance(content, str) or encoding not in ("base64", "utf-8"):
            raise HubError(400, f"{path}: a file has a content, a text, in base64 or utf-8.")
        try:
            data = base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
        except ValueError as error:
            raise HubError(400, f"{path}: its content is not base64.") from error
        file = File(path, len(data), of_bytes(data))
        push.receive(self._backend, adapter=self._adapter, file=file, source=io.BytesIO(data))
        return file

    def _large(self, path: str, value: dict[str, Any]) -> File:
        try:
            digest = parse(str(value.get("oid", "")))
        except InvalidReference as error:
            raise HubError(400, f"{path}: {error.text}") from error
        size = value.get("size")
        known = self._backend.blobs.size(digest)
        return File(path, size if is_size(size) else known or 0, digest)

    def _require_stored(self, files: list[File]) -> None:
        missing = set(push.missing(self._backend, adapter=self._adapter, files=files)) if files else set()
        absent = [file.path for file in files if file.digest in missing]
        if absent:
            raise HubError(400, f"the bytes of {', '.join(absent[:5])} were never uploaded; nothing was committed.")
