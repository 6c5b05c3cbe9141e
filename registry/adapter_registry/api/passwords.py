"""Signing in by name and password, over the API or on a page: as often as `domain.attempts` lets."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from adapter_registry.api.requests import server_of
from adapter_registry.api.rights import let_in
from adapter_registry.services import access


async def signed_in(request: Request, *, name: str, password: str) -> access.NewToken:
    """A token good for 12 hours for who knows the password.

    Raises:
        Unauthorised: unknown name or wrong password; the text does not say which.
        TooMany: too many of them were wrong.
    """
    server = server_of(request)
    with server.attempts.counted(name, request.client.host if request.client else ""):
        return await run_in_threadpool(let_in, server, name, password)
