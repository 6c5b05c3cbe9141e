"""Jobs: the list, and one job as it goes on; cancelling it and doing it again."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from adapter_registry.api.pages import views
from adapter_registry.api.pages.page import LINES, Answer, Ask, Moved, Page, Shown, Unchanged, of_version, with_query
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import of_json
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.job import QUEUES, Job, LogLine, State
from adapter_registry.domain.recipe import Ingredient
from adapter_registry.operation import to_wire
from adapter_registry.services import show as services
from adapter_registry.services import submit

LIST = "/ui/jobs"
TAIL = 200
"""Lines of a log that are shown."""
KINDS = ("merge", "compose", "diff", "extract", "evaluate", "flatten")
FILTERS = ("state", "kind", "queue", "by")


def listing(ask: Ask) -> Answer:
    """Jobs that the caller may see, newest first; all that narrows them stands in the address."""
    values = _page(ask)
    return Shown("jobs.html", {**values, **views.beside(ask, "jobs", values["kept"])})


def table(ask: Ask) -> Answer:
    """The lines alone, for the part of the page that looks after itself."""
    values = _page(ask)
    return Unchanged() if values["mark"] == ask.query.get("seen") else Shown("parts/jobs-table.html", values)


def _page(ask: Ask) -> dict[str, Any]:
    kept = {name: ask.query.get(name, "").strip() for name in FILTERS}
    if kept["state"] and kept["state"] not in set(State):
        raise InvalidInput(f"a job is {', '.join(State)}; not {kept['state'][:40]!r}.")
    wanted: dict[str, Any] = {name: value or None for name, value in kept.items()}
    wanted["state"] = State(kept["state"]) if kept["state"] else None
    before = ask.query.get("before") or None
    found = ask.call(submit.jobs, **wanted, before=before, limit=LINES)
    return {
        "found": found,
        "kept": kept,
        "narrowed": any(kept.values()),
        "before": before,
        "here": with_query(LIST, **kept),
        "after": with_query(LIST, **kept, before=found.next) if found.next else "",
        "states": tuple(State),
        "kinds": KINDS,
        "queues": QUEUES,
        "mark": _mark(to_wire(found)),
    }


def show(ask: Ask) -> Answer:
    """One job: recipe, progress, log, result."""
    values = _job(ask)
    return Shown("job.html", {**values, "inputs": _inputs(ask, values["job"])})


def now(ask: Ask) -> Answer:
    """Where it stands, for the part of the page that looks after itself."""
    values = _job(ask)
    return Unchanged() if values["mark"] == ask.query.get("seen") else Shown("parts/job-now.html", values)


def done(ask: Ask) -> Answer:
    """Cancel it, or do it again."""
    id, what = ask.places["job"], ask.form.get("do")
    if what == "cancel":
        job = ask.call(submit.cancel, job=id)
        return Moved(f"{LIST}/{id}", "Its worker ends it within seconds." if job.cancelling else "Cancelled.")
    if what == "retry":
        ask.call(submit.retry, job=id)
        return Moved(f"{LIST}/{id}", "Queued again.")
    raise InvalidInput("a job is cancelled or done again; the form said neither.")


def _job(ask: Ask) -> dict[str, Any]:
    job = ask.call(submit.show, job=ask.places["job"])
    lines = _log(ask, job.id)
    facts = {name: value for name, value in job.result.items() if _is_plain(value)}
    more = {name: _told(value) for name, value in job.result.items() if not _is_plain(value)}
    return {
        "job": job,
        "lines": lines[-TAIL:],
        "left_out": max(0, len(lines) - TAIL),
        "facts": facts,
        "more": more,
        "made": _made(ask, job) if job.state is State.SUCCEEDED else None,
        "mark": _mark(to_wire([job, len(lines), lines[-1].number if lines else 0])),
    }


def _log(ask: Ask, id: str) -> list[LogLine]:
    lines: list[LogLine] = []
    while page := ask.call(submit.log, job=id, after=lines[-1].number if lines else 0, limit=submit.PAGE):
        lines += page
        if len(page) < submit.PAGE:
            break
    return lines


def _inputs(ask: Ask, job: Job) -> list[tuple[Ingredient, Version | None]]:
    """What goes in, each with the version that it is, where that is still there to see."""
    found: list[tuple[Ingredient, Version | None]] = []
    for each in job.recipe.inputs:
        version = None
        with suppress(RegistryError):
            version = ask.call(services.resolve, reference=each.reference)
        found.append((each, version))
    return found


def _made(ask: Ask, job: Job) -> tuple[str, str] | None:
    """(what, its page) of what a job that succeeded came to."""
    if base := job.result.get("base"):
        return str(base), f"/ui/bases/{str(job.result.get('digest', '')).removeprefix('sha256:')}"
    if reference := job.result.get("reference"):
        adapter, _, number = str(reference).partition("@v")
        return str(reference), of_version(adapter, int(number))
    versions = [version for _, version in _inputs(ask, job) if version]
    names = [version.reference for version in versions]
    if job.recipe.kind == "evaluate" and versions:
        return f"scores of {names[0]}", of_version(versions[0].adapter, versions[0].number, "scores")
    if job.recipe.kind == "diff" and len(versions) == len(job.recipe.inputs):
        return f"the comparison of {' and '.join(names)}", with_query("/ui/compare", v=names)
    return None


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and len(str(value)) <= 200


def _told(value: object) -> str:
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return text if len(text) <= 20_000 else f"{text[:20_000]}\n… `adapters jobs show --json` has all of it"


def _mark(data: bytes) -> str:
    return of_json(data.decode()).partition(":")[2][:16]


PAGES = (
    Page("/jobs", listing),
    Page("/jobs/table", table),
    Page("/jobs/{job}", show, done),
    Page("/jobs/{job}/now", now),
)
