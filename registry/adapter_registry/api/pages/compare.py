"""Versions beside each other; what changed in the weights of two comes from a job, never from this process."""

from __future__ import annotations

from typing import Any

from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown, with_query
from adapter_registry.api.pages.weights import Weights, weights
from adapter_registry.domain.errors import RegistryError
from adapter_registry.domain.job import Job, State
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.domain.views.beside import Beside, Samples
from adapter_registry.services import beside, submit

HOME = "/ui/compare"


def compare(ask: Ask) -> Answer:
    """What differs between the chosen versions."""
    chosen = ask.every("v")
    values: dict[str, Any] = {"chosen": chosen, "differing": "differing" in ask.query, "found": None, "error": None}
    if len(chosen) < beside.FEWEST:
        return Shown("compare.html", values)
    try:
        found = ask.call(beside.compare, references=chosen)
    except RegistryError as refused:
        return Shown("compare.html", {**values, "error": refused}, status=refused.status)
    names = [version.reference for version in found.versions]
    other = min(max(ask.before("beside") or 1, 1), len(names) - 1)
    pair = _pair(ask, found, other)
    shown = {**values, "found": found, "names": names, "other": other, **pair}
    if ask.partial and "part" in ask.query:
        return Shown("parts/weights.html", shown)
    samples = _samples(ask, found, other)
    return Shown("compare.html", {**shown, "samples": samples, "with_samples": _with_samples(found, other)})


def _with_samples(found: Beside, other: int) -> list[str]:
    return [each.metric for each in found.scores if each.cells[other].samples]


def _samples(ask: Ask, found: Beside, other: int) -> Samples | None:
    """The first and the other, sample by sample, by the metric that the address names or the first that has samples."""
    metrics = _with_samples(found, other)
    if not metrics:
        return None
    metric = ask.query.get("metric", "")
    two = (found.versions[0].reference, found.versions[other].reference)
    return ask.call(beside.samples, references=two, metric=metric if metric in metrics else metrics[0])


def _pair(ask: Ask, found: Beside, other: int) -> dict[str, Any]:
    """What the newest job about the two says, or that there is none yet."""
    first, second = found.versions[0], found.versions[other]
    jobs = ask.call(submit.about, reference=first.reference, beside=second.reference)
    sides = [f"{each.adapter}@{each.digest}" for each in (first, second)]
    about = [job for job in jobs if job.recipe.kind == "diff" and [i.reference for i in job.recipe.inputs] == sides]
    done = next((job for job in about if job.state is State.SUCCEEDED), None)
    job = about[0] if about and not about[0].state.ended else done or (about[0] if about else None)
    return {
        "job": job,
        "weights": _weights(ask, done) if done is not None and job is done else None,
        "submits": ask.may(submit.VERB, first.adapter),
    }


def _weights(ask: Ask, job: Job) -> Weights:
    return weights(job.result.get("diff", {}), module=ask.query.get("module", ""))


def compared(ask: Ask) -> Answer:
    """Submit the job that measures what changed in the weights."""
    chosen = [text for text in ask.form.get("versions", "").split(" ") if text]
    first, second = ask.form.get("first", ""), ask.form.get("second", "")
    recipe = Recipe("diff", (Ingredient(first), Ingredient(second)), into=first.partition("@")[0])
    job = ask.call(submit.submit, recipe=recipe)
    to = with_query(HOME, v=chosen or [first, second], beside=ask.form.get("beside", ""))
    return Moved(to, f"Job {job.id} compares their weights; this page shows its result as soon as it is there.")


PAGES = (Page("/compare", compare, compared),)
