"""Between the web and a page: forms and their token, refusals as sentences, headers, what was said before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from adapter_registry.api import sessions
from adapter_registry.api.pages.forms import Fields, Files, fields_and_files
from adapter_registry.api.pages.page import Answer, Ask, Data, File, Moved, Page, Shown, Unchanged, View
from adapter_registry.api.pages.rendering import render
from adapter_registry.api.requests import asks, backend_of, base_url, server_of
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.untrusted import has_nul
from adapter_registry.operation import to_wire

SAID = "adapters_said"
"""A cookie with the sentence that the next page begins with."""
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
DIALOG = "#dialog-content"
"""What of a page a script fetches and sends dialogs for; every other part keeps itself up to date."""
NAVIGATION = (
    ("Adapters", "/ui/adapters", "a"),
    ("Requests", "/ui/requests", "r"),
    ("Timeline", "/ui/timeline", "t"),
    ("Compare", "/ui/compare", "c"),
    ("Jobs", "/ui/jobs", "j"),
    ("Bases", "/ui/bases", "b"),
    ("Policies", "/ui/policies", "p"),
    ("Audit", "/ui/audit", "u"),
    ("Webhooks", "/ui/webhooks", "w"),
    ("Storage", "/ui/storage", "s"),
    ("Access", "/ui/access", "x"),
)
"""What the side bar leads to: its name, its address, and the key that goes there after `g`."""


def routed(page: Page) -> Callable[[Request], Awaitable[Response]]:
    """The route of a page. A form without this session's token never reaches the page."""

    async def answer(request: Request) -> Response:
        try:
            if request.method == "POST":
                return await _shown(request, page.sent or page.view, *await form_of(request))
            return await _shown(request, page.view, {}, {})
        except RegistryError as error:
            return refused(request, error)

    return answer


async def form_of(request: Request) -> tuple[Fields, Files]:
    """What a form of this session holds; raises Forbidden for one that it did not make."""
    form, files = await fields_and_files(request)
    sessions.require_own_form(request, form.pop(sessions.FORM_FIELD, ""))
    return form, files


async def _shown(request: Request, view: View, form: Fields, files: Files) -> Response:
    if has_nul(dict(request.query_params)) or has_nul(dict(request.path_params)):
        raise InvalidInput("the address holds a NUL character, which nothing here may have.")
    ask = Ask(
        backend=backend_of(request),
        denials=server_of(request).denials,
        path=request.url.path,
        places=request.path_params,
        query=dict(request.query_params),
        pairs=tuple(request.query_params.multi_items()),
        form=form,
        files=files,
        partial="hx-request" in request.headers,
        address=base_url(request),
    )
    return response_to(request, await run_in_threadpool(_rendered, request, view, ask))


def _rendered(request: Request, view: View, ask: Ask) -> Answer | HTMLResponse:
    """Rendering is done in the page's thread, too: of a long table it takes as long as asking for it."""
    answer = view(ask)
    return html(request, answer.template, answer.values, status=answer.status) if isinstance(answer, Shown) else answer


def response_to(request: Request, answer: Answer | HTMLResponse) -> Response:
    """The response that an answer means; a script is told where to go by a header."""
    if isinstance(answer, HTMLResponse):
        return answer
    if isinstance(answer, Data):
        return Response(to_wire(answer.value), media_type="application/json", headers=HEADERS)
    if isinstance(answer, Unchanged):
        return Response(status_code=204, headers=HEADERS)
    if isinstance(answer, File):
        kept = {**HEADERS, "content-disposition": f'attachment; filename="{answer.name}"'}
        return Response(answer.text, media_type="application/jsonl", headers=kept)
    if isinstance(answer, Shown):
        return html(request, answer.template, answer.values, status=answer.status)
    return _moved(request, answer)


def _moved(request: Request, answer: Moved) -> Response:
    to = sessions.root(request) + answer.to
    if "hx-request" in request.headers:
        response = Response(status_code=204, headers={**HEADERS, "hx-redirect": to})
    else:
        response = RedirectResponse(to, status_code=303, headers=HEADERS)
    if answer.said:
        kept = base64.urlsafe_b64encode(answer.said[:500].encode()).decode()
        response.set_cookie(SAID, kept, max_age=60, path=f"{sessions.root(request)}/ui", httponly=True, samesite="lax")
    return response


def html(request: Request, template: str, values: Mapping[str, Any], *, status: int = 200) -> HTMLResponse:
    """A template as a response, with what every page knows."""
    root, said = sessions.root(request), _said(request)
    common = {
        "root": root,
        "path": request.url.path,
        "who": asks(request),
        "csrf": sessions.form_token(request),
        "now": server_of(request).backend.clock(),
        "navigation": NAVIGATION,
        "said": said,
        "search": request.query_params.get("q", ""),
    }
    response = HTMLResponse(render(template, {**common, **values}), status_code=status, headers=HEADERS)
    if said:
        response.delete_cookie(SAID, path=f"{root}/ui")
    return response


def _said(request: Request) -> str:
    """What the page before wanted to be said on this one."""
    if "hx-request" in request.headers:
        return ""
    try:
        return base64.urlsafe_b64decode(request.cookies.get(SAID, "")).decode()
    except (binascii.Error, ValueError):
        return ""


def refused(request: Request, error: RegistryError, *, door: str = "/ui/sign-in") -> Response:
    """A refusal as a page, in the dialog that asked, or once above a page whose parts look after themselves.

    `door` is where one signs in.
    """
    values = {"error": error, "door": door}
    if "hx-request" not in request.headers:
        return html(request, "error.html", values, status=error.status)
    if request.headers.get("hx-target", "").endswith(DIALOG):
        return html(request, "parts/refusal.html", values, status=error.status)
    response = html(request, "parts/not-kept.html", values, status=error.status)
    response.headers.update({"hx-retarget": "#not-kept", "hx-reswap": "innerHTML"})
    return response
