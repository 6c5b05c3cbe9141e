"""`/{id}/resolve/{rev}/{file}`: the bytes of a file, and the headers by which clients cache them."""

from __future__ import annotations

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from adapter_registry.api.hub_access import looked_up, state_of
from adapter_registry.api.hub_answers import no_entry
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import file_answer
from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import hex_of
from adapter_registry.domain.ports import Backend
from adapter_registry.services import snapshot


async def resolve(request: Request, path: HubPath) -> Response:
    """HEAD and GET of one file at a revision."""
    backend, file, headers = await looked_up(request, path, _found)
    return await file_answer(request, backend, file, headers)


def _found(request: Request, path: HubPath) -> tuple[Backend, File, dict[str, str]]:
    backend, state = state_of(request, path, path.revision)
    file = next((file for file in state.files if file.path == path.rest), None)
    if file is None:
        raise no_entry(path.rest, state.commit)
    name = quote(file.path.rpartition("/")[2])
    headers = {
        "x-repo-commit": state.commit,
        "etag": f'"{snapshot.entity_tag(backend.blobs, file)}"',
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
    }
    if snapshot.is_large(file):
        headers["x-linked-etag"] = f'"{hex_of(file.digest)}"'
        headers["x-linked-size"] = str(file.size)
    return backend, file, headers
