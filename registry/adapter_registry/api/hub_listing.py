"""The list of all repositories: the adapters whoever asks may read, then the stored bases."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api.hub_info import PAGE, base_tags, next_link, several, time_of
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import backend_of, whole_number
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.views.listing import AdapterLine, Wanted

BASES = "~"
"""What a cursor among the bases begins with; no name does."""
_TIMES = ("lastModified", "createdAt", "last_modified", "created_at")


async def listing(request: Request, _path: HubPath) -> Response:
    """`GET /api/models`."""
    return await run_in_threadpool(_listing, request)


def _listing(request: Request) -> Response:
    """By name a page at a time; sorted by time all at once, because a client asked for that."""
    backend, query = backend_of(request), request.query_params
    limit = min(max(whole_number(query.get("limit"), default=PAGE), 1), PAGE)
    cursor = query.get("cursor", "")
    if query.get("sort", "") in _TIMES:
        found = [*_adapters(request, backend, "", None), *_bases(request, backend, "")]
        found.sort(key=lambda row: str(row["lastModified"]), reverse=True)
        return JSONResponse(found[:limit])
    among_bases = cursor.startswith(BASES)
    found = [] if among_bases else _adapters(request, backend, cursor, limit + 1)
    adapters = len(found)
    if adapters <= limit:
        found += _bases(request, backend, cursor.removeprefix(BASES) if among_bases else "")
    headers = {}
    if len(found) > limit:
        last = found[limit - 1]["id"] if limit != adapters else ""
        headers["link"] = next_link(request, cursor=f"{BASES if limit >= adapters else ''}{last}")
    return JSONResponse(found[:limit], headers=headers)


def _adapters(request: Request, backend: Backend, after: str, most: int | None) -> list[dict[str, Any]]:
    """Lines of the adapters wanted, by name; `most` of them, or all."""
    author = request.query_params.get("author")
    scopes = tuple(s for s in backend.asks.scopes if author is None or s.partition("/")[0] in ("*", author))
    if author is not None:
        scopes = tuple(f"{author}/*" if scope == "*" else scope for scope in scopes)
    wanted = Wanted(scopes, search=request.query_params.get("search") or None)
    found, rest = list[AdapterLine](), True
    with backend.catalog.reading() as tx:
        while rest and (most is None or len(found) < most):
            batch = tx.versions.adapters(wanted, after=after, limit=None if most is None else PAGE)
            found += [line for line in batch if _has(request, _line_tags(line))]
            rest = most is not None and len(batch) == PAGE
            after = batch[-1].adapter if batch else after
    return [_line(line) for line in found[:most]]


def _bases(request: Request, backend: Backend, after: str) -> list[dict[str, Any]]:
    author, search = request.query_params.get("author"), request.query_params.get("search", "").casefold()
    with backend.catalog.reading() as tx:
        bases = tx.stored_bases.listed(after=after)
    return [
        _row(base.name, base.stored_at, "transformers", base_tags(base))
        for base in bases
        if author in (None, base.name.rpartition("/")[0])
        and search in base.name.casefold()
        and _has(request, base_tags(base))
    ]


def _has(request: Request, tags: list[str]) -> bool:
    wanted = several(request, "filter")
    return all(each in tags for each in wanted) and request.query_params.get("gated") not in ("true", "True", "1")


def _line_tags(line: AdapterLine) -> list[str]:
    return ["peft", "safetensors", line.method.split(" ")[0].lower(), f"base_model:{line.base_name}"]


def _line(line: AdapterLine) -> dict[str, Any]:
    return _row(line.adapter, line.pushed_at, "peft", _line_tags(line))


def _row(name: str, at: str, library: str, tags: list[str]) -> dict[str, Any]:
    return {
        "_id": name,
        "id": name,
        "modelId": name,
        "author": name.rpartition("/")[0],
        "lastModified": time_of(at),
        "createdAt": time_of(at),
        "private": True,
        "gated": False,
        "downloads": 0,
        "likes": 0,
        "library_name": library,
        "tags": tags,
    }
