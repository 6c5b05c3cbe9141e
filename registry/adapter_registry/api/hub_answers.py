"""How the Hub's clients are told of errors: a status, and the codes and headers they decide by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from adapter_registry.api.metrics import REFUSALS
from adapter_registry.api.problems import headers_of
from adapter_registry.domain.errors import (
    Ambiguous,
    Conflict,
    InUse,
    NotFound,
    PushRefused,
    RegistryError,
    Revoked,
    Unauthorised,
)

_KEPT = (403, 405, 408, 413, 416, 421, 500, 503, 507)
"""Statuses that mean to the Hub's clients what they mean here."""
MOST_TOLD = 40
"""How many problems of a refused push are told one by one."""


class HubError(Exception):
    """An answer other than success.

    Args:
        status: of HTTP.
        message: what the client shows.
        code: `X-Error-Code`: RepoNotFound, RevisionNotFound, EntryNotFound, or none.
        headers: further headers.
        document: further keys of the body.

    `reason` is the code of the registry's error behind it; empty when there is none. `one_line` is whether the message
    fits into a header too: clients show the header, then the body unless it says the same.
    """

    reason = ""
    one_line = True

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers, self.document = dict(headers or {}), dict(document or {})

    def answer(self) -> JSONResponse:
        """The response; counted."""
        REFUSALS.labels(self.reason or self.code or f"hub-{self.status}").inc()
        # What clients show of a 403 goes on with a full stop of its own.
        text = self.message.rstrip(".") if self.status == 403 else self.message
        headers = dict(self.headers)
        if self.one_line:
            shown = "".join(c if c.isprintable() else " " for c in text)
            headers["x-error-message"] = shown.encode("latin-1", "replace").decode("latin-1")[:4000]
        if self.code:
            headers["x-error-code"] = self.code
        told = text.encode("utf-8", "backslashreplace").decode()
        return JSONResponse({"error": told, **self.document}, status_code=self.status, headers=headers)


def no_repo(repo: str) -> HubError:
    """For a repository that is not there, or not theirs to see."""
    return HubError(404, f"Repository not found: {repo}", code="RepoNotFound")


class Nowhere(HubError):
    """For a repository that is not here, or not theirs to see; another hub may have it."""

    def __init__(self, message: str) -> None:
        super().__init__(404, message, code="RepoNotFound")


def nowhere(repo: str, *, upstream: bool = False) -> Nowhere:
    """For a repository that is asked for and not there, or not theirs to see, with the way out if it is a base."""
    passed = "" if upstream else "have this server pass it on (ADAPTERS_UPSTREAM_HUB), "
    message = (
        f"Repository not found: {repo}. If it is a base model: its bytes are not stored here. Store them "
        f"(`adapters base add {repo} FOLDER --store`), {passed}or load it from a local folder."
    )
    return Nowhere(message)


def no_revision(revision: str, because: str = "") -> HubError:
    """For a revision that is not there, or withdrawn: the only refusal that clients with a warm cache obey."""
    return HubError(404, f"Invalid rev id: {revision}. {because}".strip(), code="RevisionNotFound")


def no_entry(path: str, commit: str) -> HubError:
    """For a file that is not in a commit."""
    headers = {"x-repo-commit": commit}
    return HubError(404, f"Entry not found: {path}", code="EntryNotFound", headers=headers)


def unsupported(what: str, instead: str = "") -> HubError:
    """For what this server does not do, and why or what does; never a 5xx, which clients would try again."""
    return HubError(403, f"{what} is not supported by this registry{f': {instead}' if instead else ''}.")


def told(error: RegistryError, *, revision: str = "") -> HubError:
    """An error of the registry in the Hub's terms."""
    answer = _told(error, revision)
    answer.reason = error.code
    return answer


def _told(error: RegistryError, revision: str) -> HubError:
    if isinstance(error, Revoked):
        return no_revision(revision, error.text)
    if isinstance(error, NotFound):
        return HubError(404, error.text, code="RevisionNotFound") if revision else HubError(400, error.text)
    if isinstance(error, Unauthorised):
        return HubError(401, error.text)
    if isinstance(error, PushRefused):
        shown = [f"- {problem}" for problem in error.problems[:MOST_TOLD]]
        more = len(error.problems) - len(shown)
        first = error.text.partition("\n")[0]  # what follows lists the same problems
        listed = HubError(400, "\n".join([first, *shown, *([f"- and {more} more"] if more > 0 else [])]))
        listed.one_line = False
        return listed
    if isinstance(error, Ambiguous):
        return HubError(400, error.text)
    if isinstance(error, Conflict | InUse):
        return HubError(409, error.text)
    return HubError(error.status if error.status in _KEPT else 400, error.text, headers=headers_of(error))
