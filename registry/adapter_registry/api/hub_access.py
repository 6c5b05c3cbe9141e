"""Which adapter a Hub request is about, and whether who asks may do what it asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request

from adapter_registry.api import lookups
from adapter_registry.api.hub_answers import HubError, no_repo, no_revision, nowhere
from adapter_registry.api.hub_paths import HubPath
from adapter_registry.api.requests import backend_of, on_behalf, server_of
from adapter_registry.api.threads import asked, in_thread, is_plain
from adapter_registry.domain.draft import MAIN
from adapter_registry.domain.errors import InvalidReference, NotFound, Revoked, Unauthorised
from adapter_registry.domain.names import DEFAULT_NAMESPACE
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.reference import split_adapter
from adapter_registry.services import access, snapshot
from adapter_registry.services.snapshot import Repository

T = TypeVar("T")


def adapter_of(repo: str) -> str:
    """The adapter an id names; a name alone is in the default namespace."""
    return "/".join(split_adapter(repo, namespace=DEFAULT_NAMESPACE))


def readable(request: Request, path: HubPath) -> tuple[Backend, Repository]:
    """(the registry, what the id means) for a request that reads.

    Raises:
        HubError: there is nothing of that id, or it is not theirs to see: the same answer.
    """
    backend = backend_of(request)
    try:
        return backend, snapshot.locate(backend, written=path.repo)
    except (NotFound, InvalidReference) as error:
        raise nowhere(path.repo) from error


def state_of(request: Request, path: HubPath, revision: str) -> tuple[Backend, snapshot.Snapshot]:
    """(the registry, what a revision means) for a request that reads.

    Raises:
        HubError: no such repository or revision.
    """
    backend = backend_of(request)
    if (known := request.scope["state"].get("snapshot")) is not None:
        return backend, known
    with backend.catalog.reading() as tx:
        try:
            found = snapshot.located(tx, backend, path.repo)
        except (NotFound, InvalidReference) as error:
            raise nowhere(path.repo) from error
        name = _meant(revision, path.channel or found.main)
        try:
            if found.bases:
                return backend, snapshot.base_snapshot(found, name=revision)
            return backend, snapshot.state(tx, found.name, name)
        except Revoked as error:
            raise no_revision(revision, error.text) from error
        except NotFound as error:
            raise no_revision(revision or MAIN, error.text) from error


def _meant(revision: str, main: str | None) -> str:
    """The name that a revision is, where `main` may mean another."""
    return main if main and revision in (MAIN, "", "refs/heads/main") else revision or MAIN


async def looked_up(request: Request, path: HubPath, find: Callable[[Request, HubPath], T]) -> T:
    """What `find` finds at the revision of `path`."""
    request.scope["state"]["snapshot"] = await _pointed(backend_of(request), path)
    carried_out = asked if is_plain(path.revision) else in_thread
    return await carried_out(server_of(request).backend, find, request, path)


def writable(request: Request, path: HubPath, verb: str = "push") -> tuple[Backend, str]:
    """(the registry, the adapter) for a request that writes to an adapter that exists.

    Raises:
        HubError: not there, not theirs, or through a channel, which is for reading.
    """
    backend, adapter = backend_of(request), adapter_of(path.repo)
    if not backend.asks.sees(adapter):
        raise no_repo(path.repo)
    require(backend, verb, adapter, path)
    with backend.catalog.reading() as tx:
        if tx.versions.spelled(adapter) != adapter:
            if tx.stored_bases.named(path.repo):
                raise HubError(403, f"{path.repo} is a base: its bytes are stored by `adapters base add --store`.")
            raise no_repo(path.repo)
    return backend, adapter


async def _pointed(backend: Backend, path: HubPath) -> snapshot.Snapshot | None:
    """The state that a stage or tag of an adapter points to, where the catalog is asked quicker than by a thread.

    No branch bears the name of a tag or stage, and no base that of an adapter, so nothing else can be meant.
    """
    try:
        adapter, name = adapter_of(path.repo), _meant(path.revision, path.channel)
        found = await lookups.named(backend, f"{adapter}@{name}") if backend.asks.sees(adapter) else None
        return snapshot.of_version(found[0], created_at=found[1]) if found else None
    except InvalidReference:
        return None
    except Revoked as error:
        raise no_revision(path.revision, error.text) from error


def uploader(backend: Backend, claims: Mapping[str, Any]) -> Backend:
    """The registry on behalf of who was permitted to upload, if their token still is good for it.

    Raises:
        Unauthorised: it was revoked or is over, or its account may not push there any more.
    """
    principal = access.standing(backend, token=str(claims["token"]))
    if principal is None or not principal.may("push", claims["adapter"]):
        raise Unauthorised("the token that this upload was begun with is not good for it any more.")
    return on_behalf(backend, principal)


def require(backend: Backend, verb: str, adapter: str, path: HubPath) -> None:
    """Raise HubError unless who asks may do `verb`, and not through a channel."""
    if path.channel is not None:
        raise HubError(403, f"/~{path.channel} is for reading: push to the server's own address.")
    if not backend.asks.may(verb, adapter):
        raise HubError(403, f"{backend.asks.name} may not do this: it takes the verb {verb!r} on {adapter}.")
