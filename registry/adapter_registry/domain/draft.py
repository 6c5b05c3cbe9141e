"""Branches and drafts: how a push that arrives in pieces waits until it is a whole adapter.

Clients of the Hub's protocol send an adapter as one commit or as several. A commit that leaves a complete adapter on
its branch becomes a Version; one that does not stays on the branch as its Draft, and says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapter_registry.domain.adapter import File
from adapter_registry.domain.digest import hex_of, of_json

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Draft:
    """Files on a branch that are no whole adapter yet.

    Attributes:
        commit: 40 hex digits; derived from parent, files, title and time.
        parent: the commit it was made on; None for the first.
        files: sorted by path.
        title: of the commit that left it.
        author: who made that commit.
        at: when, ISO 8601 in UTC.
        missing: what it takes to become a Version, one sentence.
    """

    commit: str
    parent: str | None
    files: tuple[File, ...]
    title: str
    author: str
    at: str
    missing: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of work: the newest Version on it and what waits on top of that.

    Attributes:
        name: `main`, or another name that is neither tag nor stage.
        number: of the newest Version on it; None when there is none.
        draft: what waits; None when the branch ends in a Version.
    """

    name: str
    number: int | None
    draft: Draft | None


def commit_of(digest: str) -> str:
    """The 40-hex commit that names a Version in the Hub's protocol: the first 40 digits of its digest."""
    return hex_of(digest)[:40]


def empty_commit(adapter: str, created_at: str) -> str:
    """The 40-hex commit of an adapter that nothing was pushed to yet."""
    return commit_of(of_json({"empty": adapter, "created_at": created_at}))


def drafted(*, parent: str | None, files: tuple[File, ...], title: str, author: str, at: str, missing: str) -> Draft:
    """A Draft with its commit id."""
    rows = [[file.path, file.digest] for file in files]
    identity = of_json({"draft": rows, "parent": parent, "title": title, "author": author, "at": at})
    return Draft(commit_of(identity), parent, files, title, author, at, missing)
