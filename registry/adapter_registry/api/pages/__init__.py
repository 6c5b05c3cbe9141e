"""The web pages: what people look at. One module a family of screens; each calls what the native API calls."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from adapter_registry.api import sessions
from adapter_registry.api.pages import (
    adapter,
    adapters,
    audit,
    bases,
    compare,
    course,
    evidence,
    files,
    groups,
    job_form,
    jobs,
    lineage,
    marking,
    members,
    namespaces,
    policies,
    promoting,
    requests,
    sign_in,
    stages,
    storage,
    timeline,
    trusts,
    version,
    views,
    webhooks,
)
from adapter_registry.api.pages.answering import routed
from adapter_registry.api.pages.page import Page

PAGES: tuple[Page, ...] = (
    *adapters.PAGES,
    *views.PAGES,
    *adapter.PAGES,
    *promoting.PAGES,
    *requests.PAGES,
    *timeline.PAGES,
    *policies.PAGES,
    *stages.PAGES,
    *marking.PAGES,
    *audit.PAGES,
    *version.PAGES,
    *evidence.PAGES,
    *lineage.PAGES,
    *course.PAGES,
    *compare.PAGES,
    *job_form.PAGES,
    *jobs.PAGES,
    *bases.PAGES,
    *webhooks.PAGES,
    *storage.PAGES,
    *members.PAGES,
    *groups.PAGES,
    *trusts.PAGES,
    *namespaces.PAGES,
)


def routes() -> list[Route]:
    """Every route of the pages."""
    return [
        Route("/", _home),
        Route("/ui", _home),
        Route("/ui/static/{path:path}", files.answer),
        *sign_in.routes(),
        *(
            Route(f"/ui{page.path}", routed(page), methods=["GET", "POST"][: 1 + (page.sent is not None)])
            for page in PAGES
        ),
    ]


async def _home(request: Request) -> Response:
    return RedirectResponse(sessions.root(request) + sign_in.HOME, status_code=303)
