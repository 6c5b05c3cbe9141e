"""Scores of a version: typed in, imported from a results file, declared to count no more; and suites."""

from __future__ import annotations

from typing import Any

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, listed, of_version
from adapter_registry.domain.errors import InvalidInput, RegistryError
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.evidence.suite_file import read_suite, to_yaml
from adapter_registry.domain.figures import count
from adapter_registry.domain.results.formats import read_results
from adapter_registry.domain.results.samples import attached, read_samples
from adapter_registry.services import score, show, suites

SUITES = "/ui/suites"
TEMPLATE = """apiVersion: adapters/v1
kind: EvalSuite
name: core
metrics:
- {metric: gsm8k/exact_match@strict-match, setting: {shots: 5}}
- {metric: mmlu/acc}
"""


def adding(ask: Ask) -> Answer:
    """A form for a results file, and one for a single value."""
    return Shown("scores-add.html", _values(ask))


def added(ask: Ask) -> Answer:
    """Record them, bound to the digest of this version."""
    try:
        said = _imported(ask) if ask.form.get("do") == "import" else _typed(ask)
    except RegistryError as error:
        values = {**_values(ask), "error": error, "given": ask.form}
        return Shown("scores-add.html", values, status=200 if ask.partial else error.status)
    return Moved(of_version(ask.adapter, ask.number("number"), "scores"), said)


def _values(ask: Ask) -> dict[str, Any]:
    return {
        "version": ask.call(show.resolve, reference=ask.reference),
        "adapter": ask.adapter,
        "suites": ask.call(suites.suites).items,
        "may": ask.may("score", ask.adapter),
        "error": None,
        "given": {},
    }


def _imported(ask: Ask) -> str:
    files = ask.files.get("results", ())
    if not files:
        raise InvalidInput("no results file was chosen; nothing was recorded.")
    results = read_results(files[0].data, name=files[0].name)
    samples = [read_samples(each.data, name=each.name) for each in ask.files.get("samples", ())]
    outcomes, left_out = attached(results, samples)
    recorded = ask.call(
        score.add,
        reference=ask.reference,
        scores=results.scores,
        claimed=results.claimed,
        outcomes=tuple(outcomes),
        suite=ask.form.get("suite", ""),
    )
    notes = [*results.notices, *left_out]
    if results.claimed:
        notes.append(f"the file says it measured {results.claimed}; bound to {ask.reference} because you said so")
    return f"{count(len(recorded), 'score')} recorded.{''.join(f' Note: {each}.' for each in notes)}"


def _typed(ask: Ask) -> str:
    form = ask.form
    better = form.get("better", "")
    typed = Score(
        form.get("metric", "").strip(),
        _number(form.get("value", ""), "value") or 0.0,
        Direction(better) if better in set(Direction) else None,
        stderr=_number(form.get("stderr", ""), "standard error"),
        n=_count(form.get("n", ""), "samples"),
        setting=_setting(form.get("setting", "")),
        source="page",
    )
    if not form.get("value", "").strip():
        raise InvalidInput("a score has a value; nothing was recorded.")
    ask.call(score.add, reference=ask.reference, scores=(typed,))
    return f"{typed.metric} is recorded."


def _number(text: str, what: str) -> float | None:
    try:
        return float(text) if text.strip() else None
    except ValueError as error:
        raise InvalidInput(f"the {what} is a number, not {text[:40]!r}; nothing was recorded.") from error


def _count(text: str, what: str) -> int | None:
    try:
        return int(text) if text.strip() else None
    except ValueError as error:
        raise InvalidInput(f"the {what} are a whole number, not {text[:40]!r}; nothing was recorded.") from error


def _setting(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in text.split()]
    if wrong := [name for name, equals, _ in pairs if not equals or not name]:
        raise InvalidInput(f"{wrong[0][:40]!r} is not NAME=VALUE; nothing was recorded.")
    return {name: value for name, _, value in pairs}


def invalidating(ask: Ask) -> Answer:
    """Which scores are meant, and why they count no more."""
    return Shown("scores-invalidate.html", _meant(ask))


def invalidated(ask: Ask) -> Answer:
    """Mark them; gates ignore them from now on."""
    form = ask.form
    chosen = {"metric": form.get("metric", ""), "source": form.get("source", "")}
    ids = tuple(int(text) for text in form.get("id", "").split() if text.isascii() and text.isdigit())
    try:
        meant = ask.call(
            score.invalidate, reference=ask.reference, because=form.get("reason", "").strip(), ids=ids, **chosen
        )
    except RegistryError as error:
        values = {**_meant(ask), "error": error}
        return Shown("scores-invalidate.html", values, status=200 if ask.partial else error.status)
    said = f"{count(len(meant), 'score')} of {ask.reference} {'counts' if len(meant) == 1 else 'count'} no more."
    return Moved(of_version(ask.adapter, ask.number("number"), "scores"), said)


def _meant(ask: Ask) -> dict[str, Any]:
    asked = {name: ask.form.get(name) or ask.query.get(name, "") for name in ("id", "metric", "source")}
    found = [each for each in ask.call(show.scores, reference=ask.reference) if each.invalid is None]
    return {
        "version": ask.call(show.resolve, reference=ask.reference),
        "adapter": ask.adapter,
        "asked": asked,
        "one": next((each for each in found if str(each.id) == asked["id"]), None),
        "found": found,
        "sources": sorted({each.score.source for each in found if each.score.source}),
        "metrics": sorted({each.score.metric for each in found}),
        "may": ask.may("score", ask.adapter),
        "reason": ask.form.get("reason", ""),
        "partial": ask.partial,
        "error": None,
    }


def listing(ask: Ask) -> Answer:
    """Every version of every suite, and a form for the next one."""
    return Shown("suites.html", _suites(ask))


def stored(ask: Ask) -> Answer:
    """Store the next version of a suite."""
    text = ask.form.get("document", "")
    try:
        made = ask.call(suites.set_suite, suite=read_suite(text, name="the document"))
    except RegistryError as error:
        return Shown("suites.html", {**_suites(ask), "error": error, "document": text}, status=error.status)
    return Moved(SUITES, f"{made.reference} has {len(made.metrics)} metrics.")


def _suites(ask: Ask) -> dict[str, Any]:
    edited = ask.call(suites.suite, name=ask.query["edit"]) if ask.query.get("edit") else None
    return {
        **listed(ask, SUITES, suites.suites),
        "document": to_yaml(edited) if edited else TEMPLATE,
        "may": ask.may("policy.write"),
        "error": None,
    }


_VERSION = "/adapters/{adapter_namespace}/{adapter_name}/versions/{number}/scores"
PAGES = (
    Page(f"{_VERSION}/add", adding, added),
    Page(f"{_VERSION}/invalidate", invalidating, invalidated),
    Page("/suites", listing, stored),
)
