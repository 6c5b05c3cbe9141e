"""Styles and scripts of the pages, from one folder. Their addresses change with their bytes, so they are kept."""

from __future__ import annotations

from functools import cache

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from adapter_registry.api.pages.answering import refused
from adapter_registry.domain.errors import NotFound
from adapter_registry.settings import web_folder

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_YEAR = "public, max-age=31536000, immutable"


@cache
def known() -> dict[str, str]:
    """Path below web/static -> media type: what is served is listed once, so no address can lead out of it."""
    folder = web_folder() / "static"
    found = (path for path in folder.rglob("*") if path.suffix in _TYPES)
    return {path.relative_to(folder).as_posix(): _TYPES[path.suffix] for path in found}


async def answer(request: Request) -> Response:
    """One file."""
    name = request.path_params["path"]
    media = known().get(name)
    if media is None:
        return refused(request, NotFound("there is no such file."))
    kept = _YEAR if request.url.query else "no-cache"
    headers = {"cache-control": kept, "cross-origin-resource-policy": "same-origin"}
    return FileResponse(web_folder() / "static" / name, media_type=media, headers=headers)
