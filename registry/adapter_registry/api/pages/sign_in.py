"""Coming in by browser and going out: a name and password, a token, or the OpenID provider."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from adapter_registry.api import sessions
from adapter_registry.api.lookups import authenticated
from adapter_registry.api.pages.answering import HEADERS, form_of, html, refused
from adapter_registry.api.pages.forms import fields
from adapter_registry.api.passwords import signed_in
from adapter_registry.api.problems import again_after
from adapter_registry.api.requests import base_url, on_behalf, server_of
from adapter_registry.api.rights import not_let_in
from adapter_registry.domain.errors import NotFound, RegistryError, Unauthorised
from adapter_registry.domain.people.access import Principal
from adapter_registry.services import access, people

SIGN_IN, SIGN_OUT, BY_PROVIDER = "/ui/sign-in", "/ui/sign-out", "/ui/sign-in/provider"
HOME = "/ui/adapters"


def routes() -> list[Route]:
    """The routes of this module; those of signing in are public, see api/authentication.py."""
    return [
        Route(SIGN_IN, _show, methods=["GET"]),
        Route(SIGN_IN, _sign_in, methods=["POST"]),
        Route(BY_PROVIDER, _leave, methods=["POST"]),
        Route(SIGN_OUT, _sign_out, methods=["POST"]),
    ]


async def _show(request: Request) -> Response:
    return _form(request, onward(request.query_params.get("next", "")))


def _form(request: Request, to: str, *, error: RegistryError | None = None, name: str = "") -> Response:
    provider = server_of(request).provider
    values: dict[str, Any] = {"next": to, "error": error, "name": name, "provider": provider}
    response = html(request, "sign-in.html", values, status=error.status if error else 200)
    response.headers.update(again_after(error) if error else {})
    return response


def onward(to: str) -> str:
    """Where to go after signing in: a page of this server, whatever the address said."""
    plain = to.isascii() and to.isprintable() and "\\" not in to and "//" not in to
    return to if plain and sessions.is_page(to.partition("?")[0]) and not to.startswith(SIGN_IN) else HOME


async def _sign_in(request: Request) -> Response:
    """A new session, whatever session the browser had: nobody can plant one that they know."""
    form: dict[str, str] = {}
    try:
        sessions.require_own_site(request)
        form = await fields(request)
        secret = await _let_in(request, form)
    except RegistryError as error:
        return _form(request, onward(form.get("next", "")), error=error, name=form.get("name", ""))
    await _forget(request)
    response = RedirectResponse(sessions.root(request) + onward(form.get("next", "")), status_code=303, headers=HEADERS)
    sessions.begin(request, response, secret)
    return response


async def _let_in(request: Request, form: dict[str, str]) -> str:
    """The secret of a fresh session for who has a good token, or a name and its password."""
    server = server_of(request)
    if token := form.get("token", "").strip():
        known = await authenticated(server.backend, token)
        if known is None:
            refused = Unauthorised(
                "the server does not know this token: it was revoked, it expired, or it is another's."
            )
            await run_in_threadpool(not_let_in, server, "", refused)
            raise refused
        return await run_in_threadpool(_session_of, request, known[0])
    made = await signed_in(request, name=form.get("name", "").strip(), password=form.get("password", ""))
    return made.secret


def _session_of(request: Request, principal: Principal) -> str:
    """A token for the browser that can do what the shown one can, and no more, and is revoked on its own."""
    made = access.create_token(
        on_behalf(server_of(request).backend, principal),
        label=f"browser, by token {principal.token}",
        limits=principal.limits,
        expires_in_seconds=access.SIGN_IN_HOURS * 3600,
    )
    return made.secret


async def _sign_out(request: Request) -> Response:
    try:
        await form_of(request)
    except RegistryError as error:
        return refused(request, error)
    await _forget(request)
    response = RedirectResponse(sessions.root(request) + SIGN_IN, status_code=303, headers=HEADERS)
    sessions.end(request, response)
    return response


async def _forget(request: Request) -> None:
    """Make the session that the browser had useless."""
    known = await authenticated(server_of(request).backend, request.cookies.get(sessions.COOKIE, ""))
    if known is not None and known[0].token is not None:
        await run_in_threadpool(_revoked, request, known[0])


def _revoked(request: Request, principal: Principal) -> None:
    with suppress(NotFound):  # somebody else revoked it meanwhile
        access.revoke_token(on_behalf(server_of(request).backend, principal), token=principal.token or "")


async def _leave(request: Request) -> Response:
    """To the provider and back; the browser that left needs no code when it returns, see identity."""
    try:
        sessions.require_own_site(request)
        address = base_url(request)
        begun = await run_in_threadpool(
            people.begin, server_of(request).backend, redirect_uri=f"{address}/auth/callback"
        )
    except RegistryError as error:
        return _form(request, HOME, error=error)
    # Not a redirect: browsers hold a form's whole way to `form-action`, and the provider is elsewhere.
    response = html(request, "to-provider.html", {"address": f"{address}/auth/{begun.link}"})
    response.headers["refresh"] = f"0; url={address}/auth/{begun.link}"
    sessions.remember_attempt(request, response, begun.secret, seconds=begun.expires_in)
    return response


def turned_away(request: Request) -> Response:
    """For who has no session: a page leads to the door and back, a form, a dialog and a live part are told so."""
    if request.method in ("GET", "HEAD") and "hx-request" not in request.headers:
        to = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(sessions.root(request) + _with_next(to), status_code=303, headers=HEADERS)
    if request.method == "GET":
        said = Unauthorised("your session is over, so what is shown here is kept up to date no more.")
    else:
        said = Unauthorised("your session is over, so nothing was done. Sign in again, then send it once more.")
    return refused(request, said, door=_with_next(_came_from(request)))


def _came_from(request: Request) -> str:
    """The page whose form or script asked, below the server's root."""
    came = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer", ""))
    return came.path.removeprefix(sessions.root(request)) + (f"?{came.query}" if came.query else "")


def _with_next(to: str) -> str:
    return SIGN_IN if to in ("", "/ui", HOME) else f"{SIGN_IN}?{urlencode({'next': to})}"
