"""The audit log: who attempted what and when, whether nobody changed it, and all of it as a file."""

from __future__ import annotations

from adapter_registry.api.pages import views
from adapter_registry.api.pages.page import LINES, Answer, Ask, File, Page, Shown
from adapter_registry.domain.audit.event import Event
from adapter_registry.domain.audit.file import exported
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.views.record import LogPage, Sought
from adapter_registry.services import record, show

FIELDS = ("actor", "action", "subject", "outcome", "since", "until")


def listing(ask: Ask) -> Answer:
    """The log, newest first; all that narrows it stands in the address."""
    kept = {name: ask.query.get(name, "").strip() for name in FIELDS}
    found, error = LogPage((), None, 1, None), None
    adapter = kept["subject"].partition("@")[0]
    try:
        found = ask.call(
            record.log,
            adapter=adapter if "/" in adapter and "*" not in adapter else None,
            sought=Sought(**kept),
            before=ask.before(),
            limit=LINES,
        )
    except RegistryError as refused:
        if refused.status == 403:
            raise
        error = refused
    values = {"found": found, "kept": kept, "error": error, "narrowed": any(kept.values())}
    values |= {"first": ask.before() is None, "told": told, **views.beside(ask, "audit", kept)}
    return Shown("audit.html", values, status=error.status if error else 200)


def chain(ask: Ask) -> Answer:
    """Follow the whole chain, which takes longer the longer the log is, so that it is asked for."""
    try:
        found, error = ask.call(record.chain), None
    except RegistryError as refused:
        if refused.status == 403:
            raise
        found, error = None, refused
    return Shown("chain.html", {"found": found, "error": error, "partial": ask.partial})


def export(ask: Ask) -> Answer:
    """The whole log as `adapters audit verify` reads it."""
    events: list[Event] = []
    after: int | None = 0
    while after is not None:
        page = ask.call(show.events, after=after)
        events += page.items
        after = page.next
    return File("audit.jsonl", exported(events))


def told(event: Event) -> tuple[tuple[str, str], ...]:
    """What an event says beside who, what and when, as pairs of texts, those with digests last."""
    pairs = [(name, _text(value)) for name, value in event.entry.detail.items() if value not in (None, "", [], {})]
    return tuple(sorted(pairs, key=lambda pair: "sha256:" in pair[1]))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    return str(value)[:300]


PAGES = (
    Page("/audit", listing),
    Page("/audit/chain", chain),
    Page("/audit/export", export),
)
