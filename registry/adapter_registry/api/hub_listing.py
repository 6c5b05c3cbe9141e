"""Lists of repositories: the adapters whoever asks may read, then the stored bases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adapter_registry.api.hub_answers import HubError
from adapter_registry.api.hub_info import adapter_tags, base_tags, document, flag, next_link, several, time_of
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import backend_of, whole_number
from adapter_registry.domain.draft import MAIN
from adapter_registry.domain.errors import Revoked
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.views.listing import AdapterLine, Wanted
from adapter_registry.services import snapshot
from adapter_registry.services.snapshot import Repository, Snapshot

MOST = 1000
PAGE = 200
"""Rows of one answer: each says what the card of its repository says, which has to be read."""
LOOKED_AT = 1000
"""Adapters that one answer looks through for those a client wants; a link leads on."""
BASES = "~"
"""What a cursor among the bases begins with; no name does."""
CREATED = ("createdAt", "created_at")
TIMES = ("lastModified", "last_modified", *CREATED)
ONLY_FULL = ("sha", "siblings", "usedStorage")
NO_FILTERS = ("apps", "num_parameters")
"""What else the Hub narrows its list by. Ignored, it would list what was not asked for."""
OF_ORGANIZATION = "api/organizations/"


async def listing(request: Request, _path: HubPath) -> Response:
    """`GET /api/models`."""
    return await run_in_threadpool(_listing, request)


def _listing(request: Request) -> Response:
    """By name a page at a time; sorted by time all at once, because a client asked for that."""
    backend, query = backend_of(request), request.query_params
    unknown = next((name for name in NO_FILTERS if name in query), None)
    if unknown is not None:
        raise HubError(400, f"the list cannot be narrowed by {unknown!r} here.")
    if "inference" in query or "inference_provider" in query or flag(request, "gated"):
        return JSONResponse([])
    limit = min(max(whole_number(query.get("limit"), default=PAGE), 1), PAGE)
    cursor, sort = query.get("cursor", ""), query.get("sort", "")
    with backend.catalog.reading() as tx:
        if sort in TIMES:
            return JSONResponse(_by_time(request, backend, tx, created=sort in CREATED, limit=limit))
        lines, after = ([], None) if cursor.startswith(BASES) else _adapters(request, backend, tx, cursor, limit)
        rows = [_adapter_row(request, backend, tx, line) for line in lines]
        if after is None:
            among = cursor.removeprefix(BASES) if cursor.startswith(BASES) else ""
            left = limit - len(rows)
            bases = list(islice(_bases(request, backend, tx, among), left + 1))
            rows += [_base_row(request, backend, base) for base in bases[:left]]
            after = f"{BASES}{bases[left - 1].adapter if left else ''}" if len(bases) > left else None
    headers = {"link": next_link(request, cursor=after)} if after is not None else {}
    return JSONResponse(rows, headers=headers)


def _by_time(request: Request, backend: Backend, tx: Transaction, *, created: bool, limit: int) -> list[dict[str, Any]]:
    lines, after = _adapters(request, backend, tx, "", None)
    while after is not None:
        more, after = _adapters(request, backend, tx, after, None)
        lines += more
    timed: list[tuple[str, AdapterLine | Snapshot]] = [
        ((tx.branches.created_at(line.adapter) or line.pushed_at) if created else line.pushed_at, line)
        for line in lines
    ]
    timed += [(base.created_at if created else base.at, base) for base in _bases(request, backend, tx, "")]
    timed.sort(key=lambda each: each[0], reverse=request.query_params.get("direction") != "1")
    return [
        _base_row(request, backend, each) if isinstance(each, Snapshot) else _adapter_row(request, backend, tx, each)
        for _, each in timed[:limit]
    ]


def _adapters(
    request: Request, backend: Backend, tx: Transaction, after: str, most: int | None
) -> tuple[list[AdapterLine], str | None]:
    """(lines of adapters wanted, by name, `most` of them at most; where the next ones begin, None for no more)."""
    query = request.query_params
    wanted = Wanted(_scopes(backend, query.get("author")), search=query.get("search") or None)
    found: list[AdapterLine] = []
    looked = 0
    while looked < LOOKED_AT:
        batch = tx.versions.adapters(wanted, after=after, limit=PAGE)
        for line in _of_interest(request, backend, tx, batch):
            if most is not None and len(found) == most:
                return found, found[-1].adapter
            found.append(line)
        if len(batch) < PAGE:
            return found, None
        looked, after = looked + len(batch), batch[-1].adapter
    return found, after


def _scopes(backend: Backend, owner: str | None) -> tuple[str, ...]:
    """What whoever asks may read of one namespace; of all where none is given."""
    if owner is None:
        return tuple(backend.asks.scopes)
    held = [scope for scope in backend.asks.scopes if scope.partition("/")[0] in ("*", owner)]
    return tuple(f"{owner}/*" if scope == "*" else scope for scope in held)


def _of_interest(
    request: Request, backend: Backend, tx: Transaction, lines: Sequence[AdapterLine]
) -> Iterator[AdapterLine]:
    """Those of the lines whose newest version has what the client wants."""
    if not _wants(request):
        yield from lines
        return
    newest = {version.adapter: version for version in tx.versions.arrived([line.arrival for line in lines]).values()}
    for line in lines:
        version = newest.get(line.adapter)
        if version is not None and _has(request, adapter_tags(version), snapshot.card(backend.blobs, version.files)):
            yield line


def _wants(request: Request) -> bool:
    return bool(several(request, "filter")) or "pipeline_tag" in request.query_params


def _has(request: Request, tags: Sequence[str], card: dict[str, Any]) -> bool:
    said, task = card.get("tags"), card.get("pipeline_tag")
    known = {*tags, *(map(str, said) if isinstance(said, list) else ()), *([task] if isinstance(task, str) else ())}
    return known.issuperset(several(request, "filter")) and request.query_params.get("pipeline_tag", task) == task


def _adapter_row(request: Request, backend: Backend, tx: Transaction, line: AdapterLine) -> dict[str, Any]:
    try:
        return _shown(request, document(backend, line.adapter, snapshot.state(tx, line.adapter, MAIN), blobs=False))
    except Revoked:
        return _shown(request, _without_state(line))


def _without_state(line: AdapterLine) -> dict[str, Any]:
    """What is said of an adapter whose `main` means a version that was withdrawn."""
    return {
        "_id": line.adapter,
        "id": line.adapter,
        "modelId": line.adapter,
        "author": line.adapter.partition("/")[0],
        "lastModified": time_of(line.pushed_at),
        "createdAt": time_of(line.pushed_at),
        "private": True,
        "gated": False,
        "downloads": 0,
        "likes": 0,
        "library_name": "peft",
        "tags": ["peft", "safetensors", line.method.split(" ")[0].lower(), f"base_model:{line.base_name}"],
    }


def _bases(request: Request, backend: Backend, tx: Transaction, after: str) -> Iterator[Snapshot]:
    author, search = request.query_params.get("author"), request.query_params.get("search", "").casefold()
    for base in tx.stored_bases.listed(after=after):
        if author not in (None, base.name.rpartition("/")[0]) or search not in base.name.casefold():
            continue
        state = snapshot.base_snapshot(Repository(base.name, bases=tx.stored_bases.named(base.name)), name=MAIN)
        if not _wants(request) or _has(request, base_tags(base), snapshot.card(backend.blobs, state.files)):
            yield state


def _base_row(request: Request, backend: Backend, state: Snapshot) -> dict[str, Any]:
    return _shown(request, document(backend, state.adapter, state, blobs=False))


def _shown(request: Request, row: dict[str, Any]) -> dict[str, Any]:
    """What the client asked to see of a repository."""
    expand = several(request, "expand")
    if expand:
        return {key: row[key] for key in ("_id", "id", "modelId", *expand) if key in row}
    left_out = {*(() if flag(request, "full") else ONLY_FULL), *(() if flag(request, "cardData") else ("cardData",))}
    return {key: value for key, value in row.items() if key not in left_out}


async def repositories(request: Request, path: HubPath) -> Response:
    """What `hf repos ls` shows: `GET /api/settings/repositories`, or the same below `/api/organizations/{name}`."""
    owner, _, rest = path.action.removeprefix(OF_ORGANIZATION).partition("/")
    if not path.action.startswith(OF_ORGANIZATION):
        return await run_in_threadpool(_repositories, request, None)
    if rest != "settings/repositories":
        raise HubError(404, f"there is nothing at /{path.action[:100]}")
    return await run_in_threadpool(_repositories, request, owner)


def _repositories(request: Request, owner: str | None) -> Response:
    """A page of them; the shares are of the bytes of that page."""
    backend, after = backend_of(request), request.query_params.get("cursor", "")
    with backend.catalog.reading() as tx:
        lines = tx.versions.adapters(Wanted(_scopes(backend, owner)), after=after, limit=MOST + 1)
    headers = {"link": next_link(request, cursor=lines[MOST - 1].adapter)} if len(lines) > MOST else {}
    total = sum(line.size for line in lines[:MOST]) or 1
    rows: list[dict[str, Any]] = [
        {
            "id": line.adapter,
            "type": "model",
            "updatedAt": time_of(line.pushed_at),
            "visibility": "private",
            "storage": line.size,
            "storagePercent": line.size / total,
        }
        for line in lines[:MOST]
    ]
    return JSONResponse(rows, headers=headers)
