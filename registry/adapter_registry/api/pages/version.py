"""The pages of one version: each tab is an address of its own."""

from __future__ import annotations

from adapter_registry.api.pages.adapter import snippets
from adapter_registry.api.pages.page import Answer, Ask, Page, Shown
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import NotFound
from adapter_registry.domain.job import Job
from adapter_registry.domain.servable import Report, flattening, padding
from adapter_registry.domain.views.record import Sought
from adapter_registry.services import closeup, promote, record, servable, show, submit
from adapter_registry.services import overview as stages
from adapter_registry.services.judgement import Judged

LINES, REFUSED = 100, 20
TABS = (
    ("", "Overview"),
    ("scores", "Scores"),
    ("gates", "Gates"),
    ("lineage", "Lineage"),
    ("files", "Files"),
    ("events", "Events"),
    ("made", "How it was made"),
    ("serving", "Serving"),
)

_MARKS = (
    ("tags", "Tags", "tag"),
    ("labels", "Labels", "label"),
    ("revoke", "Revoke", "revoke"),
    ("remove", "Remove", "remove"),
)
"""(page, what it is called, the verb that it takes)."""


def frame(tab: str, version: Version) -> dict[str, object]:
    """What the template around every tab needs."""
    return {"adapter": version.adapter, "version": version, "tab": tab, "tabs": TABS}


def overview(ask: Ask) -> Answer:
    """What it is, whether it fits its base and is sound, where it stands, how to get it."""
    seen = ask.call(closeup.closeup, reference=ask.reference)
    standings = ask.call(stages.stages, adapter=ask.adapter)
    others = [each.move for each in standings if each.move and each.move.number != seen.version.number]
    return Shown(
        "version-overview.html",
        {
            **frame("", seen.version),
            "seen": seen,
            "snippets": snippets(ask.adapter, f"v{seen.version.number}", at=ask.address),
            "promotable": _promotable(ask, [each.stage for each in standings]),
            "beside": others[-1] if others else None,
            "marks": [(page, label) for page, label, verb in _MARKS if ask.may(verb, ask.adapter)],
        },
    )


def _places(ask: Ask) -> list[str]:
    return [standing.stage for standing in ask.call(stages.stages, adapter=ask.adapter)]


def _promotable(ask: Ask, places: list[str]) -> list[str]:
    return [place for place in places if ask.may(f"promote:{place}", ask.adapter)]


def scores(ask: Ask) -> Answer:
    """Every score, the newest first, also those that count no more."""
    version = ask.call(show.resolve, reference=ask.reference)
    found = tuple(reversed(ask.call(show.scores, reference=ask.reference)))
    start = ask.before("after") or 0
    page = found[start : start + LINES]
    values = {"found": page, "total": len(found), "start": start, "lines": LINES, "may": ask.may("score", ask.adapter)}
    return Shown("version-scores.html", {**frame("scores", version), **values})


def gates(ask: Ask) -> Answer:
    """What every stage would say of it now, and what was said when it was tried."""
    version = ask.call(show.resolve, reference=ask.reference)
    places = _places(ask)
    judged: tuple[Judged, ...] = ()
    if version.revoked_because is None:
        judged = tuple(ask.call(promote.explain, reference=ask.reference, stage=stage) for stage in places)
    audited = ask.may("audit", ask.adapter)
    tried = Sought(action="promote", subject=version.reference, outcome=str(Outcome.REFUSED))
    refused = ask.call(record.log, adapter=ask.adapter, sought=tried, limit=REFUSED).items if audited else ()
    values = {
        "judged": judged,
        "refused": [event.entry for event in refused],
        "audited": audited,
        "promotable": _promotable(ask, places),
    }
    return Shown("version-gates.html", {**frame("gates", version), **values})


def files(ask: Ask) -> Answer:
    """Its files; of one of them, the tensors."""
    version = ask.call(show.resolve, reference=ask.reference)
    weights = [file.path for file in version.files if file.path.endswith(".safetensors")]
    chosen = ask.query.get("file") or (weights[0] if weights else "")
    start = ask.before("after") or 0
    page = None
    if chosen:
        page = ask.call(closeup.tensors, reference=ask.reference, path=chosen, after=start, limit=LINES)
    values = {"page": page, "start": start, "weights": weights}
    return Shown("version-files.html", {**frame("files", version), **values})


def events(ask: Ask) -> Answer:
    """What happened to it: the audit log for who may read that, else the moves of stages to it."""
    version = ask.call(show.resolve, reference=ask.reference)
    audited = ask.may("audit", ask.adapter)
    after = ask.before("after") or 0
    page = ask.call(show.events, reference=ask.reference, after=after, limit=LINES) if audited else None
    moves = () if audited else ask.call(closeup.closeup, reference=ask.reference).moves
    return Shown("version-events.html", {**frame("events", version), "page": page, "moves": moves, "after": after})


def made(ask: Ask) -> Answer:
    """The recipe and the job behind it; of one that was pushed, who pushed what."""
    version = ask.call(show.resolve, reference=ask.reference)
    jobs = ask.call(submit.about, reference=ask.reference)
    maker: Job | None = next((job for job in jobs if job.result.get("digest") == version.digest), None)
    values = {**frame("made", version), "maker": maker, "jobs": jobs, "partial": ask.partial}
    return Shown("version-made.html", values)


def serving(ask: Ask) -> Answer:
    """Which serving stacks load it, with which flags, and why others do not."""
    version = ask.call(show.resolve, reference=ask.reference)
    reports: tuple[Report, ...] = ()
    error = None
    try:
        reports = ask.call(servable.servable, reference=ask.reference)
    except NotFound as lost:
        error = lost
    values = {"reports": reports, "error": error, "flattening": flattening(reports), "rank": padding(reports) or ""}
    return Shown("version-serving.html", {**frame("serving", version), **values})


_PLACE = "/adapters/{adapter_namespace}/{adapter_name}/versions/{number}"
PAGES = (
    Page(_PLACE, overview),
    Page(f"{_PLACE}/scores", scores),
    Page(f"{_PLACE}/gates", gates),
    Page(f"{_PLACE}/files", files),
    Page(f"{_PLACE}/events", events),
    Page(f"{_PLACE}/made", made),
    Page(f"{_PLACE}/serving", serving),
)
