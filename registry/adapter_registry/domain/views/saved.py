"""Views: how a list is narrowed and sorted, kept under a name by an account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput, NotFound

LISTS: Mapping[str, tuple[str, ...]] = {
    "adapters": ("q", "where", "stage", "base", "sort"),
    "jobs": ("state", "kind", "queue", "by"),
    "requests": ("whose", "ended", "adapter"),
    "audit": ("actor", "action", "subject", "outcome", "since", "until"),
}
"""List -> what its address may say."""
MOST = 50
LONGEST_NAME, LONGEST_VALUE = 60, 500


@dataclass(frozen=True, slots=True)
class View:
    """A view that somebody kept.

    Attributes:
        of: of LISTS.
        name: its account's name for it, unique in its list.
        query: what the list's address says: `{"stage": "prod"}`.
        saved_at: ISO 8601 in UTC.
    """

    of: str
    name: str
    query: dict[str, str]
    saved_at: str


def check_list(of: str) -> tuple[str, ...]:
    """What the address of a list may say; raises NotFound for a list that keeps no views."""
    if of not in LISTS:
        raise NotFound(f"no views are kept of {of[:40]!r}, but of {', '.join(LISTS)}.")
    return LISTS[of]


def check_name(name: str) -> str:
    """A name without space around it; raises InvalidInput for one that is none."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"a view is named by 1 to {LONGEST_NAME} printable characters; nothing was kept.")
    return name


def check_query(of: str, query: Mapping[str, str]) -> dict[str, str]:
    """What is said in a query, without what is empty.

    Raises:
        InvalidInput: it says nothing, or what the list has not, or too much.
    """
    names = check_list(of)
    kept = {name: value.strip() for name, value in query.items() if value.strip()}
    if unknown := sorted(kept.keys() - set(names)):
        raise InvalidInput(f"the list of {of} has {', '.join(names)}; not {unknown[0][:40]!r}. Nothing was kept.")
    if not kept:
        raise InvalidInput(f"the list of {of} is neither narrowed nor sorted, so there is nothing to keep.")
    if wrong := [name for name, value in kept.items() if len(value) > LONGEST_VALUE or not value.isprintable()]:
        raise InvalidInput(f"{wrong[0]} has more than {LONGEST_VALUE} characters, or some that are not printable.")
    return {name: kept[name] for name in names if name in kept}
