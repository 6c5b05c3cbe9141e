"""Views: each account keeps its own, and sees no other's."""

from __future__ import annotations

from adapter_registry.domain.errors import Conflict, InvalidInput, NotFound
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.views.saved import MOST, View, check_list, check_name, check_query


def views(backend: Backend, *, of: str) -> tuple[View, ...]:
    """What whoever asks kept of a list, by name."""
    check_list(of)
    with backend.catalog.reading() as tx:
        return tx.views.of(backend.actor, of)


def save(backend: Backend, *, of: str, name: str, query: dict[str, str]) -> View:
    """Keep a view, in place of one of the same name.

    Args:
        backend: the registry.
        of: the list: `adapters`.
        name: what to call it.
        query: what the list's address says.

    Raises:
        InvalidInput: a name or query that is none, or too many are kept.
    """
    view = View(of, check_name(name), check_query(of, query), backend.clock())
    with backend.catalog.writing() as tx:
        names = {each.name for each in tx.views.of(backend.actor, of)}
        if len(names | {view.name}) > MOST:
            raise InvalidInput(f"{MOST} views of {of} are kept, which is the most; remove one first.")
        tx.views.put(backend.actor, view)
    return view


def rename(backend: Backend, *, of: str, name: str, to: str) -> View:
    """Call a view otherwise.

    Raises:
        NotFound: there is none of that name.
        Conflict: there is one of the new name.
    """
    to = check_name(to)
    with backend.catalog.writing() as tx:
        found = _named(backend, tx, of, name)
        if to != name and any(each.name == to for each in tx.views.of(backend.actor, of)):
            raise Conflict(f"you have a view {to!r} already; {name!r} keeps its name.")
        tx.views.remove(backend.actor, of, name)
        renamed = View(of, to, found.query, found.saved_at)
        tx.views.put(backend.actor, renamed)
    return renamed


def remove(backend: Backend, *, of: str, name: str) -> View:
    """Forget a view; raises NotFound when there is none of that name."""
    with backend.catalog.writing() as tx:
        found = _named(backend, tx, of, name)
        tx.views.remove(backend.actor, of, name)
    return found


def _named(backend: Backend, tx: Transaction, of: str, name: str) -> View:
    check_list(of)
    found = next((each for each in tx.views.of(backend.actor, of) if each.name == name), None)
    if found is None:
        raise NotFound(f"you keep no view {name[:60]!r} of {of}.")
    return found
