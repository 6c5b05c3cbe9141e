"""Coming in by an OpenID provider: pipelines exchange its tokens, people go there with their browser and come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from adapter_registry.api import sessions
from adapter_registry.api.requests import base_url, body, json_body, server_of
from adapter_registry.api.rights import on_record
from adapter_registry.domain.errors import IdentityRefused, InvalidInput, RegistryError, Unsupported
from adapter_registry.domain.people.sign_in import Provider
from adapter_registry.operation import to_wire
from adapter_registry.outside.openid import error_code, issuer_in
from adapter_registry.services import people, trust

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  the name of a kind of token
TAKEN = ("subject_token", "trust", "grant_type", "subject_token_type", "requested_token_type")
LARGEST_FORM = 32_768
COOKIE = "adapters_sign_in"
"""Holds the state that a browser left with, so that no other browser can come back in its place."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"></head>
<body><main><h1>{title}</h1>{text}</main></body></html>
"""
_PAGE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes() -> list[Route]:
    """Every route of this module; all are public, see api/authentication.py."""
    return [
        Route("/api/v1/tokens/exchange", _exchange, methods=["POST"]),
        Route("/api/v1/sign-in/browser", _begin, methods=["POST"]),
        Route("/api/v1/sign-in/code", _finish, methods=["POST"]),
        Route("/auth/callback", _page(_come_back), methods=["GET"]),
        Route("/auth/{link}", _page(_leave), methods=["GET"]),
    ]


async def _exchange(request: Request) -> Response:
    """RFC 8693, by form or JSON."""
    given = await _exchange_form(request)
    subject = given["subject_token"].strip()
    server = server_of(request)
    async with on_record(server, "token.exchange"):
        made = await run_in_threadpool(
            trust.exchange,
            server.backend,
            server.identities,
            issuer=issuer_in(subject),
            subject_token=subject,
            trust=given.get("trust") or None,
        )
    answer = {
        "access_token": made.secret,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": made.expires_in,
        "token": made.token,
    }
    return Response(
        to_wire(answer), status_code=201, media_type="application/json", headers={"cache-control": "no-store"}
    )


async def _exchange_form(request: Request) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded":
        data = await body(request, limit=LARGEST_FORM)
        try:
            given: dict[str, Any] = dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=20))
        except ValueError as error:
            raise InvalidInput("the body is not a form.") from error
    else:
        given = await json_body(request, limit=LARGEST_FORM)
    unknown = sorted(given.keys() - set(TAKEN))
    if unknown:
        raise InvalidInput(f"an exchange takes {', '.join(TAKEN)}; not {unknown[0][:60]!r}.")
    if not all(isinstance(value, str) for value in given.values()) or not given.get("subject_token"):
        raise InvalidInput("an exchange takes the provider's token as subject_token.")
    allowed = {"grant_type": (GRANT_TYPE,), "subject_token_type": TOKEN_TYPES, "requested_token_type": (ACCESS_TOKEN,)}
    for name, values in allowed.items():
        if given.get(name, values[0]) not in values:
            raise InvalidInput(f"{name} is {given[name][:100]!r}; it is {' or '.join(values)}, or left out.")
    return given


def _provider(request: Request) -> Provider:
    provider = server_of(request).provider
    if provider is None:
        raise Unsupported("this server has no OpenID provider to sign in by (ADAPTERS_OIDC_ISSUER); use a password.")
    return provider


async def _begin(request: Request) -> Response:
    _provider(request)
    await json_body(request, limit=10_000)
    address = base_url(request)
    begun = await run_in_threadpool(people.begin, server_of(request).backend, redirect_uri=f"{address}/auth/callback")
    answer = {"open": f"{address}/auth/{begun.link}", "secret": begun.secret, "expires_in": begun.expires_in}
    return JSONResponse(answer, status_code=201, headers={"cache-control": "no-store"})


async def _finish(request: Request) -> Response:
    document = await json_body(request, limit=10_000)
    secret, code = document.get("secret"), document.get("code")
    if not (isinstance(secret, str) and isinstance(code, str) and secret.isascii() and code.isascii()):
        raise InvalidInput("finishing takes the secret of the sign-in and the code that the browser shows.")
    server = server_of(request)
    async with on_record(server, "account.sign-in"):
        made = await run_in_threadpool(people.finish, server.backend, secret=secret, code=code)
    return Response(
        to_wire(made), status_code=201, media_type="application/json", headers={"cache-control": "no-store"}
    )


async def _leave(request: Request) -> Response:
    server = server_of(request)
    leaving = await run_in_threadpool(
        people.leave, server.backend, server.identities, _provider(request), link=request.path_params["link"]
    )
    response = RedirectResponse(leaving.address, status_code=303, headers=_PAGE_HEADERS)
    secure = base_url(request).startswith("https://")
    response.set_cookie(
        COOKIE, leaving.state, max_age=600, path=_place(request), httponly=True, samesite="lax", secure=secure
    )
    return response


def _place(request: Request) -> str:
    """The part of the server that the cookie is for, also behind a public URL with a path."""
    return f"{urlsplit(base_url(request)).path}/auth"


async def _come_back(request: Request) -> Response:
    async with on_record(server_of(request), "account.sign-in"):
        return await _let_back(request)


async def _let_back(request: Request) -> Response:
    asked, server = request.query_params, server_of(request)
    if "error" in asked:
        said = f"{asked['error'][:100]} {asked.get('error_description', '')[:300]}".strip()
        recorded = f"the provider did not let them in: {error_code(asked['error'])}."
        raise IdentityRefused(
            f"the provider did not let you in: {said}. Begin again: `adapters login`.", recorded=recorded
        )
    account, code = await run_in_threadpool(
        people.come_back,
        server.backend,
        server.identities,
        _provider(request),
        state=asked.get("state", ""),
        left_with=request.cookies.get(COOKIE, ""),
        code=asked.get("code", ""),
    )
    if secret := request.cookies.get(sessions.ATTEMPT):
        # The mark may be of a sign-in that was begun on a page and never ended, and this one is of a terminal.
        with suppress(IdentityRefused):
            return await _let_in(request, secret, code)
    text = (
        f"<p>Signed in as <strong>{escape(account.name)}</strong>. Type this code where you ran "
        f"<code>adapters login</code>:</p><p><strong id=code>{code}</strong></p>"
        "<p>If you did not run it yourself, close this page and give the code to nobody.</p>"
    )
    response = HTMLResponse(_PAGE.format(title="Signed in", text=text), headers=_PAGE_HEADERS)
    response.delete_cookie(COOKIE, path=_place(request))
    sessions.forget_attempt(request, response)
    return response


async def _let_in(request: Request, secret: str, code: str) -> Response:
    """For the browser that began on a page: it has the secret itself, so nobody has a code to type."""
    made = await run_in_threadpool(people.finish, server_of(request).backend, secret=secret, code=code)
    response = RedirectResponse(sessions.root(request) + sessions.PAGES, status_code=303, headers=_PAGE_HEADERS)
    sessions.begin(request, response, made.secret)
    sessions.forget_attempt(request, response)
    response.delete_cookie(COOKIE, path=_place(request))
    return response


def _page(route: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """A route whose refusals are pages, too."""

    async def answer(request: Request) -> Response:
        try:
            return await route(request)
        except RegistryError as error:
            page = _PAGE.format(title="Not signed in", text=f"<p>{escape(error.text)}</p>")
            return HTMLResponse(page, status_code=error.status, headers=_PAGE_HEADERS)

    return answer
