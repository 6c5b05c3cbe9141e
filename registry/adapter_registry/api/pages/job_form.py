"""A new job: a form for each kind, what the kind says of it while it is filled in, and submitting it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapter_registry.api.pages.jobs import LIST
from adapter_registry.api.pages.page import Answer, Ask, Moved, Page, Shown
from adapter_registry.domain.adapter import File, Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Forbidden, InvalidInput, RegistryError
from adapter_registry.domain.job import QUEUES
from adapter_registry.domain.recipe import Ingredient, Recipe, parse_ingredient
from adapter_registry.services import base, push, show, submit

DTYPES = ("float32", "float16", "bfloat16")
METHODS = ("linear", "svd", "cat", "slerp", "ties:mergekit", "dare_linear:peft", "dare_ties:peft", "core-ties", "tsv-m")
"""Some that people begin with; docs/composing.md has all."""
SUGGESTED = 50
MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Field:
    """One option of a kind: `choice`, `check`, `number`, `base`, `long` or `text`, by what it looks like."""

    name: str
    label: str
    looks: str = "text"
    choices: tuple[str, ...] = ()
    hint: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """What a kind of job asks for; `rows` is how many versions go in, `into` what the result is called."""

    about: str
    rows: int
    weighted: bool
    into: str
    fields: tuple[Field, ...]


_DEVICE = Field("device", "Device", "choice", QUEUES, "The queue, too: cuda waits for a worker with a GPU.", "cpu")
_DTYPE = Field("dtype", "Stored as", "choice", ("", *DTYPES), "Empty: as it is there.")
_RANK = Field("rank", "Rank", hint="A number, or auto with a tolerance.")
_TOLERANCE = Field("tolerance", "Tolerance", "number", hint="With rank auto: the relative error that is allowed, 0.1.")
FORMS: Mapping[str, Form] = {
    "merge": Form(
        "Fold versions into their base: a complete checkpoint, stored as a new base.",
        4,
        True,
        "Name of the new base",
        (
            _DTYPE,
            Field("accumulate", "Summed in", "choice", ("float32", "peft"), "peft: the bits that PEFT computes."),
            _DEVICE,
        ),
    ),
    "compose": Form(
        "Combine versions of one base into a new version.",
        4,
        True,
        "Adapter that the result is a version of",
        (
            Field("method", "Method", "suggest", METHODS, "docs/composing.md compares them.", "linear"),
            _RANK,
            _TOLERANCE,
            Field("density", "Density", "number", hint="For methods that leave entries out: the share that stays."),
            Field("seed", "Seed", "number"),
            _DEVICE,
        ),
    ),
    "diff": Form(
        "What changed between two versions.",
        2,
        False,
        "",
        (
            Field("exact", "Look at every element, not at a sample", "check"),
            Field("weights", "Hold the changes against the base's weights", "check"),
            Field("intruders", "Look for intruder dimensions (reads the base)", "check"),
            _DEVICE,
        ),
    ),
    "extract": Form(
        "Make an adapter of a full fine-tune and the base that it was trained from.",
        0,
        False,
        "Adapter that the result is a version of",
        (
            Field("base", "Base", "base"),
            Field("checkpoint", "Fine-tuned checkpoint", "base", hint="Registered as a base of its own."),
            _RANK,
            _TOLERANCE,
            Field("leave_out", "Leave out what no adapter can carry", "check"),
            _DEVICE,
        ),
    ),
    "flatten": Form(
        "Write a version plainly, one rank and alpha = rank: so that every serving stack reads it right.",
        1,
        False,
        "Adapter that the result is a version of",
        (
            _DTYPE,
            Field("rank", "Rank", "number", hint="To pad to; empty: the largest there is."),
            Field("tolerance", "Tolerance", "number", hint="Error that rounding may cost a module, as a share."),
        ),
    ),
    "evaluate": Form(
        "Measure the loss of a version on text that it was not trained on.",
        1,
        False,
        "",
        (
            Field("text", "Text", "long", hint="Up to 800 kB; larger files: adapters score run --submit."),
            Field("task", "Name of the score", value="heldout"),
            Field("batch", "Batch", "number", value="8"),
            Field("max_length", "Longest window", "number", hint="Tokens.", value="1024"),
            _DEVICE,
        ),
    ),
}
_NOT_OPTIONS = ("base", "text", "seed")


@dataclass(frozen=True, slots=True)
class Fit:
    """One version of the form: what it is, or why it is none."""

    reference: str
    version: Version | None
    error: RegistryError | None = None


def form(ask: Ask) -> Answer:
    """The empty form of a kind, or as the address fills it in."""
    return Shown("job-new.html", _values(ask, ask.query))


def fit(ask: Ask) -> Answer:
    """What the chosen versions are, and whether the whole can be queued."""
    given = ask.form or ask.query
    return Shown("parts/job-fit.html", _fit(ask, given))


def submitted(ask: Ask) -> Answer:
    """Queue it, or give the form one more version; a refusal is shown beside what was filled in."""
    if ask.form.get("do") == "row":
        return Shown("job-new.html", _values(ask, {**ask.form, "rows": str(len(_rows(ask.form)) + 1)}))
    try:
        recipe = _recipe(ask, ask.form, keep=True)
        job = ask.call(submit.submit, recipe=recipe, queue=ask.form.get("device", "cpu"), priority=_priority(ask.form))
    except RegistryError as error:
        return Shown("job-new.html", {**_values(ask, ask.form), "error": error}, status=error.status)
    return Moved(f"{LIST}/{job.id}", f"Queued: {recipe.kind} for {job.recipe.into}.")


def _values(ask: Ask, given: Mapping[str, str]) -> dict[str, Any]:
    kind = _kind(given)
    found = ask.call(show.adapters, limit=SUGGESTED).items
    known = [f"{line.adapter}@v{line.latest}" for line in found]
    known += [f"{line.adapter}@{stage}" for line in found for stage in line.stages]
    return {
        "kind": kind,
        "kinds": tuple(FORMS),
        "form": FORMS[kind],
        "rows": _rows(given),
        "most": MOST_ROWS,
        "given": given,
        "known": sorted(known),
        "bases": ask.call(base.known).items,
        "error": None,
        **_fit(ask, given),
    }


def _rows(given: Mapping[str, str]) -> range:
    """The numbers of the rows for versions: as many as the kind has, or as were asked for of one that takes more."""
    rows = FORMS[_kind(given)].rows
    if rows > 2:
        rows = max(rows, min(_whole(given.get("rows", "0")), MOST_ROWS))
    return range(1, rows + 1)


def _fit(ask: Ask, given: Mapping[str, str]) -> dict[str, Any]:
    fits = [_looked_up(ask, each) for each in _references(given)]
    locks = {each.version.base: each.version.base_name for each in fits if each.version}
    refused, whole = None, None
    kind = _kind(given)
    if _is_whole(kind, given) and not any(each.error for each in fits):
        try:
            whole = _recipe(ask, given, keep=False)
            if kind != "evaluate":  # its text is sent when it is queued
                whole = ask.call(submit.check, recipe=whole)
        except RegistryError as error:
            refused, whole = error, None
    return {"fits": fits, "locks": locks, "refused": refused, "whole": whole}


def _looked_up(ask: Ask, reference: str) -> Fit:
    try:
        return Fit(reference, ask.call(show.resolve, reference=parse_ingredient(reference).reference))
    except RegistryError as error:
        return Fit(reference, None, error)


def _is_whole(kind: str, given: Mapping[str, str]) -> bool:
    """Whether enough is filled in to ask the kind."""
    least = {"diff": 2, "extract": 0}.get(kind, 1)
    asked: tuple[str, ...] = ("base", "checkpoint", "rank") if kind == "extract" else ()
    asked += ("into",) if FORMS[kind].into else ()
    return len(_references(given)) >= least and all(given.get(name, "").strip() for name in asked)


def _recipe(ask: Ask, given: Mapping[str, str], *, keep: bool) -> Recipe:
    """What the form says; with `keep`, the text in it is stored for the job."""
    kind = _kind(given)
    inputs = tuple(_ingredient(given, name, FORMS[kind]) for name in _names(given))
    into = given.get("into", "").strip()
    if not FORMS[kind].into and inputs:
        into = inputs[-1].adapter
    options = {f.name: value for f in FORMS[kind].fields if (value := _value(f, given)) is not None}
    locked = options.get("base")
    files = {"data": _kept(ask, into, given.get("text", ""))} if keep and kind == "evaluate" else {}
    return Recipe(
        kind,
        inputs,
        base=Digest(ask.call(base.find, reference=locked).base.digest) if locked else None,
        options={name: value for name, value in options.items() if name not in _NOT_OPTIONS},
        files=files,
        seed=_whole(given.get("seed", "0")),
        into=into,
    )


def _kept(ask: Ask, adapter: str, text: str) -> Digest:
    """The text, stored in the namespace of the adapter, as sending a file does."""
    if not text.strip():
        raise InvalidInput("evaluating takes text that the version was not trained on; the field is empty.")
    if not adapter:
        raise InvalidInput("evaluating takes one version.")
    if not ask.may("push", adapter):
        raise Forbidden(f"{ask.who.name} may not send text for {adapter}: it takes the verb 'push' there.")
    data = text.encode()
    digest = Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
    push.receive(ask.backend, adapter=adapter, file=File("text.txt", len(data), digest), source=io.BytesIO(data))
    return digest


def _names(given: Mapping[str, str]) -> list[str]:
    rows = FORMS[_kind(given)].rows
    most = MOST_ROWS if rows > 2 else rows
    return [str(n) for n in range(1, most + 1) if given.get(f"input-{n}", "").strip()]


def _references(given: Mapping[str, str]) -> list[str]:
    return [given[f"input-{name}"].strip() for name in _names(given)]


def _ingredient(given: Mapping[str, str], name: str, form: Form) -> Ingredient:
    written, weight = given[f"input-{name}"].strip(), given.get(f"weight-{name}", "").strip()
    return parse_ingredient(f"{written}={weight}" if form.weighted and weight and "=" not in written else written)


def _value(field: Field, given: Mapping[str, str]) -> Any:
    """A field as an option of the recipe; None for one that was left empty."""
    text = given.get(field.name, field.value).strip()
    if field.looks == "check":
        return True if text else None
    if not text:
        return None
    if field.looks == "number" or (field.name == "rank" and text != "auto"):
        try:
            return float(text) if "." in text or "e" in text.lower() else int(text)
        except ValueError as error:
            raise InvalidInput(f"{field.label} is a number, not {text[:40]!r}.") from error
    return text


def _kind(given: Mapping[str, str]) -> str:
    kind = given.get("kind", "compose")
    if kind not in FORMS:
        raise InvalidInput(f"there is no kind of job {kind[:40]!r}; there are {', '.join(FORMS)}.")
    return kind


def _priority(given: Mapping[str, str]) -> int:
    return _whole(given.get("priority", "0"))


def _whole(text: str) -> int:
    """A whole number of a field that may be empty."""
    text = text.strip() or "0"
    if not (text.removeprefix("-").isdecimal() and text.isascii() and len(text) < 10):
        raise InvalidInput(f"{text[:40]!r} is not a whole number.")
    return int(text)


PAGES = (Page("/jobs/new", form, submitted), Page("/jobs/new/fit", fit, fit))
