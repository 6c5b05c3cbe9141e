"""Large files by Git LFS: the batch that asks what is missing, and the bytes."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api import permission
from adapter_registry.api.hub_access import uploader, writable
from adapter_registry.api.hub_answers import HubError
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import MAX_BLOB, base_url, is_size, json_body, receive, server_of
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import parse
from adapter_registry.domain.errors import InvalidInput, InvalidReference, RegistryError
from adapter_registry.domain.people.access import Principal
from adapter_registry.services import push

BATCH = "info/lfs/objects/batch"
MAX_OBJECTS = 1_000
SECONDS = 3600
PURPOSE = "lfs"
MEDIA = "application/vnd.git-lfs+json"


async def batch(request: Request, path: HubPath) -> Response:
    """`POST /{id}.git/info/lfs/objects/batch`."""
    if path.rest != BATCH:
        raise HubError(
            404, f"there is nothing at {path.repo}.git/{path.rest[:100]}: repositories are not cloned by git."
        )
    document = await json_body(request, limit=4_000_000)
    return JSONResponse(await run_in_threadpool(_batch, request, path, document), media_type=MEDIA)


def _batch(request: Request, path: HubPath, document: dict[str, Any]) -> dict[str, Any]:
    if document.get("operation") != "upload":
        raise HubError(400, "only uploads are asked for here; files are downloaded from their addresses.")
    backend, adapter = writable(request, path)
    objects = document.get("objects")
    if not isinstance(objects, list) or len(objects) > MAX_OBJECTS:
        raise HubError(400, f"a batch has at most {MAX_OBJECTS:,} objects.")
    files = [_file(each) for each in objects]
    missing = set(push.missing(backend, adapter=adapter, files=[file for file in files if isinstance(file, File)]))
    return {"transfer": "basic", "objects": [_answer(request, adapter, file, missing) for file in files]}


def _file(each: Any) -> File | dict[str, Any]:
    """The File an object of a batch means, or the answer that says why it means none."""
    oid, size = (each.get("oid"), each.get("size")) if isinstance(each, dict) else (None, None)
    try:
        if not is_size(size):
            raise InvalidInput(f"a size is 0 to {MAX_BLOB:,} bytes")
        return File(str(oid), size, parse(str(oid)))
    except (InvalidReference, InvalidInput) as error:
        problem = {"code": 422, "message": error.text}
        return {"oid": str(oid)[:64], "size": size if is_size(size) else 0, "error": problem}


def _answer(request: Request, adapter: str, file: File | dict[str, Any], missing: set[Any]) -> dict[str, Any]:
    if isinstance(file, dict):
        return file
    answer: dict[str, Any] = {"oid": file.path, "size": file.size, "authenticated": True}
    if file.digest in missing:
        principal: Principal = request.scope["state"]["principal"]
        claims = {"adapter": adapter, "digest": file.digest, "size": file.size, "token": principal.token}
        key = server_of(request).signing_key
        allowed = permission.signed(key, purpose=PURPOSE, seconds=SECONDS, **claims)
        href = f"{base_url(request)}/api/v1/uploads/{allowed}"
        answer["actions"] = {"upload": {"href": href, "header": {}, "expires_in": SECONDS}}
    return answer


async def upload(request: Request) -> Response:
    """`PUT /api/v1/uploads/{permission}`: the bytes of one object."""
    server = server_of(request)
    claims = permission.read(server.signing_key, request.path_params["permission"], purpose=PURPOSE)
    declared = request.headers.get("content-length")
    if declared is not None and declared != str(claims["size"]):
        raise InvalidInput(f"the upload was announced with {claims['size']:,} bytes, not {declared[:20]}.")
    backend = await run_in_threadpool(uploader, server.backend, claims)
    digest = parse(claims["digest"])
    try:
        adapter, limit = claims["adapter"], claims["size"]
        size = await receive(request, backend, adapter=adapter, digest=digest, name=digest, limit=limit)
    except RegistryError as error:
        # LFS clients show the status and the body's message.
        status = 400 if error.status == 422 else error.status
        return JSONResponse({"message": error.text}, status_code=status, media_type=MEDIA)
    return JSONResponse({"size": size})
