"""Sessions of browsers: the cookie that holds a token, and what keeps other sites from using it.

A session is a token like any other: good for twelve hours, listed by `adapters token ls`, over as soon as it is
revoked. The cookie goes to the pages alone; the API believes the Authorization header and nothing else, so no page of
another site can make a browser speak to it.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request, cookie_parser
from starlette.responses import Response

from adapter_registry.api.requests import base_url, server_of
from adapter_registry.domain.errors import Forbidden
from adapter_registry.services.access import SIGN_IN_HOURS

COOKIE = "adapters_session"
ATTEMPT = "adapters_attempt"
"""Holds the secret of a sign-in by provider that this browser began."""
FORM_FIELD = "csrf"
PAGES = "/ui"
_FOREIGN = (
    "this form was not sent from a page of this server, so nothing was done. Open the page again and send it there."
)


def is_page(path: str) -> bool:
    """Whether an address is one of a page, where the cookie counts."""
    return path == PAGES or path.startswith(f"{PAGES}/")


def secret_in(header: str) -> str:
    """The token in a Cookie header; empty where there is none."""
    return cookie_parser(header).get(COOKIE, "")


def root(request: Request) -> str:
    """What stands before every path of this server: empty, or the path of a public URL that has one."""
    return urlsplit(base_url(request)).path


def begin(request: Request, response: Response, secret: str) -> None:
    """Let a browser in: its cookie holds a token that was made for this and shown to nobody."""
    _set(request, response, COOKIE, secret, path=root(request) + PAGES, seconds=SIGN_IN_HOURS * 3600)


def end(request: Request, response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, path=root(request) + PAGES)


def remember_attempt(request: Request, response: Response, secret: str, *, seconds: int) -> None:
    """Mark the browser that begins a sign-in by provider: who comes back with the mark needs to type no code."""
    _set(request, response, ATTEMPT, secret, path=f"{root(request)}/auth", seconds=seconds)


def forget_attempt(request: Request, response: Response) -> None:
    """Take that mark away."""
    response.delete_cookie(ATTEMPT, path=f"{root(request)}/auth")


def _set(request: Request, response: Response, name: str, value: str, *, path: str, seconds: int) -> None:
    secure = base_url(request).startswith("https://")
    response.set_cookie(name, value, max_age=seconds, path=path, httponly=True, samesite="lax", secure=secure)


def form_token(request: Request) -> str:
    """What every form of this session carries: no other site can know it."""
    secret = request.cookies.get(COOKIE, "")
    key = server_of(request).signing_key.encode()
    return hmac.new(key, b"form of session " + hashlib.sha256(secret.encode()).digest(), hashlib.sha256).hexdigest()


def require_own_form(request: Request, given: str) -> None:
    """Refuse a form that a page of this server did not make for this session.

    Raises:
        Forbidden: another site sent it, or its token is not this session's.
    """
    require_own_site(request)
    by_header = request.headers.get("authorization", "").lower().startswith("bearer ")
    if not by_header and not hmac.compare_digest(given.encode(), form_token(request).encode()):
        raise Forbidden(_FOREIGN)


def require_own_site(request: Request) -> None:
    """Refuse what a page of another site sends; every browser says where a POST comes from."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        raise Forbidden(_FOREIGN)
    if origin is not None and not _own(request, origin):
        raise Forbidden(_FOREIGN)


def _own(request: Request, origin: str) -> bool:
    """Whether an Origin is this server's; behind a proxy that ends TLS it bears the scheme that people see."""
    own = urlsplit(base_url(request))
    return urlsplit(origin).netloc == own.netloc or urlsplit(origin).netloc == request.headers.get("host")
