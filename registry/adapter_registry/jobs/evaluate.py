"""Evaluate a version, or a base alone, and record its scores: the loss on text it was not trained on, or tasks.

The files of the recipe tell which of the two: `data` is text; `NAME/task.yaml`, with its files in `NAME/data/`, is
a task of lm-evaluation-harness.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.digest import Digest, of_bytes, of_json
from adapter_registry.domain.errors import DigestMismatch, InvalidInput, JobFailed
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.kind import INPUTS, OUT, Report

DATA, BASE, ADAPTER = "data", "base", "adapter"
DEFAULTS: dict[str, Any] = {
    "task": "heldout",
    "format": "text",
    "field": "text",
    "batch": 8,
    "max_length": 1024,
    "device": "cpu",
}
TASK_DEFAULTS: dict[str, Any] = {
    "shots": None,
    "limit": None,
    "batch": 8,
    "max_length": 1024,
    "device": "cpu",
    "suite": "",
}
RANGES = {"batch": (1, 4_096), "max_length": (8, 1 << 20), "shots": (0, 1_000), "limit": (1, 10_000_000)}
TASKS, RESULTS = "tasks", "results.json"
TASK_NAME = re.compile(r"(?P<task>[A-Za-z0-9][\w.-]*)/(task\.yaml|data(/[A-Za-z0-9_][\w.-]*)+)", re.ASCII)
"""What the files of tasks are called in a recipe; no part begins with a dot."""
FORMATS = ("text", "jsonl")
DEVICES = ("cpu", "cuda")
LONGEST_TASK = 100


@dataclass(frozen=True, slots=True)
class Evaluate:
    """See kind.Kind.

    Attributes:
        local: where the recipe's files are, by their names there, when they are here; None has them brought from the
            store.
        base_path: where whoever runs this says the base's files are; None: where they were registered from.
    """

    local: Mapping[str, Path] | None = None
    base_path: Path | None = None
    name = "evaluate"
    verb = "score"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: neither text nor tasks, several versions, neither version nor base, or an option that there is
                not.
            NotFound: there is no such suite.
        """
        if len(recipe.inputs) > 1 or (not recipe.inputs and recipe.base is None):
            raise InvalidInput("evaluating takes one version, or a base alone.")
        if DATA in recipe.files:
            recipe = replace(recipe, options=_options(recipe.options))
        else:
            recipe = replace(recipe, options=_task_options(registry, recipe))
        if not recipe.inputs:
            return replace(recipe, base=registry.base(recipe.base or "").base.digest)
        version = registry.resolve(recipe.inputs[0].reference)
        if version.adapter != recipe.into:
            raise InvalidInput(f"the scores of {version.reference} belong to {version.adapter}, not to {recipe.into}.")
        exact = Ingredient(f"{version.adapter}@{version.digest}", recipe.inputs[0].weight)
        return replace(recipe, inputs=(exact,), base=version.base)

    def opens(self, recipe: Recipe) -> tuple[Digest, ...]:
        """See kind.OpensBases.opens."""
        return (recipe.base,) if recipe.base else ()

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        inputs = scratch / INPUTS
        folder = registry.checkpoint(recipe.base or "", self.base_path)
        (inputs / BASE).symlink_to(folder.absolute())
        for each in recipe.inputs:
            registry.pull(each.reference, inputs / ADAPTER)
        for name, digest in recipe.files.items():
            target = inputs / name if name == DATA else inputs / TASKS / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.local is None:
                registry.bring_file(digest, target)
                continue
            shutil.copyfile(self.local[name], target)
            if (found := file_digest(target)) != digest:
                size = target.stat().st_size
                raise DigestMismatch(str(self.local[name]), declared=digest, received=found, size=size)

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute."""
        inputs, options = scratch / INPUTS, recipe.options
        base, adapter = inputs / BASE, inputs / ADAPTER if recipe.inputs else None
        if DATA in recipe.files:
            from adapter_registry.jobs.evaluate_loss import measured  # noqa: PLC0415  torch, in the child alone

            return measured(base, adapter, inputs / DATA, options, report)
        from adapter_registry.jobs import evaluate_tasks  # noqa: PLC0415  as above

        places = {"tasks": inputs / TASKS, "out": scratch / OUT}
        return evaluate_tasks.measured(base, adapter, options=options, seed=recipe.seed, report=report, **places)

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        """See kind.Kind.publish; the same measurement again adds no score."""
        found = _loss(recipe, outcome) if DATA in recipe.files else _of_tasks(recipe, scratch / OUT, outcome)
        recorded = _known(registry, recipe, found.scores) or _record(registry, recipe, found)
        values = {each.score.metric: each.score.value for each in recorded}
        result = {"subject": recorded[0].subject_name, "scores": values, "evidence": found.evidence}
        return {**result, "notes": found.notes} if found.notes else result


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to record; `evidence` is what the digest that scores carry is of."""

    scores: tuple[Score, ...]
    evidence: dict[str, Any]
    outcomes: tuple[Outcomes, ...] = ()
    suite: str = ""
    notes: tuple[str, ...] = ()


def files_of_tasks(paths: Sequence[Path]) -> dict[str, Path]:
    """The files of tasks by their names in a recipe: each task's YAML, and the data beside it.

    Raises:
        InvalidInput: a file that cannot be read, a task that jobs do not run, or two of one name.
    """
    from adapter_registry.domain.evidence.harness_task import read_task  # noqa: PLC0415  with what needs it

    found: dict[str, Path] = {}
    for path in paths:
        try:
            task = read_task(path.read_text(encoding="utf-8"), name=path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path} cannot be read ({error}).") from error
        if f"{task.name}/task.yaml" in found:
            raise InvalidInput(f"{path} and another file are both of a task {task.name}.")
        found[f"{task.name}/task.yaml"] = path
        for name in task.files:
            data = path.parent / name
            if not data.is_file():
                raise InvalidInput(f"{path}: its data {data} is no file.")
            found[f"{task.name}/data/{name}"] = data
    return found


def file_digest(path: Path) -> Digest:
    """The digest of a file's bytes."""
    with path.open("rb") as stream:
        return Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    options = _filled(given, DEFAULTS)
    if options["format"] not in FORMATS:
        raise InvalidInput(f"format is one of {', '.join(FORMATS)}, not {str(options['format'])[:40]!r}.")
    for name in ("task", "field"):
        text = options[name]
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_TASK or not text.isprintable():
            raise InvalidInput(f"{name} is a name of 1 to {LONGEST_TASK} printable characters.")
    return options


def _task_options(registry: Registry, recipe: Recipe) -> dict[str, Any]:
    """The options of tasks, with the suite by its version."""
    matches = {name: TASK_NAME.fullmatch(name) for name in recipe.files}
    wrong = [name for name, match in matches.items() if match is None]
    tasks = {name.partition("/")[0] for name in recipe.files if name.endswith("/task.yaml")}
    wrong += [name for name, match in matches.items() if match and match["task"] not in tasks]
    if wrong or not tasks:
        raise InvalidInput(
            f"evaluating takes a file of text, named {DATA!r}, or tasks: NAME/task.yaml with its files in NAME/data/; "
            f"not {wrong[0][:60]!r}."
            if wrong
            else f"evaluating takes a file of text, named {DATA!r}, or tasks, NAME/task.yaml."
        )
    options = _filled(recipe.options, TASK_DEFAULTS)
    if not isinstance(options["suite"], str):
        raise InvalidInput("suite is the name of one: core@3, or core for its newest version.")
    if options["suite"]:
        suite = registry.suite(options["suite"])
        absent = sorted({each.metric.partition("/")[0] for each in suite.metrics} - tasks)
        if absent:
            raise InvalidInput(f"{suite.reference} also asks for the tasks {', '.join(absent[:5])}.")
        options["suite"] = suite.reference
    return options


def _filled(given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise InvalidInput(f"evaluating has no option {unknown[0][:60]!r}; it has {', '.join(defaults)}.")
    options = {**defaults, **given}
    for name in RANGES.keys() & options.keys():
        (least, most), value = RANGES[name], options[name]
        if value is None and defaults[name] is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidInput(f"{name} is a whole number, {least:,} to {most:,}, not {str(value)[:40]!r}.")
    if options["device"] not in DEVICES:
        raise InvalidInput(f"device is one of {', '.join(DEVICES)}, not {str(options['device'])[:40]!r}.")
    return options


def _loss(recipe: Recipe, outcome: dict[str, Any]) -> _Found:
    if not math.isfinite(outcome["loss"]):
        raise JobFailed(f"the loss is {outcome['loss']}, which is no measurement; no score was recorded.")
    evidence = {"recipe": asdict(recipe), "script": _script("evaluate_loss.py"), "measured": outcome}
    return _Found(_scores(recipe, outcome, of_json(evidence)), evidence)


def _of_tasks(recipe: Recipe, out: Path, outcome: dict[str, Any]) -> _Found:
    """The harness's results, read as those that somebody brings; their evidence says what they were measured with."""
    from adapter_registry.domain.results.formats import read_results  # noqa: PLC0415  with what needs it
    from adapter_registry.domain.results.samples import attached, read_samples  # noqa: PLC0415

    ours = {"recipe": asdict(recipe), "script": _script("evaluate_tasks.py")}
    ours["measured"] = {name: outcome[name] for name in ("tokenizer", "versions", "device")}
    evidence = {**outcome["document"], "adapter_registry": ours}
    results = read_results(json.dumps(evidence).encode(), name=RESULTS)
    files = [read_samples(path.read_bytes(), name=path.name) for path in sorted(out.glob("samples_*.jsonl"))]
    outcomes, left_out = attached(results, files)
    producer = ", ".join(f"{name} {version}" for name, version in sorted(outcome["versions"].items()))
    scores = tuple(
        replace(
            score,
            setting=dict(sorted({**score.setting, **_measured_on(recipe, score, outcome)}.items())),
            producer=producer,
            source="evaluate",
            evidence=of_json(evidence),
        )
        for score in results.scores
    )
    notes = (*results.notices, *left_out)
    return _Found(scores, evidence, tuple(outcomes), recipe.options["suite"], notes)


def _measured_on(recipe: Recipe, score: Score, outcome: dict[str, Any]) -> dict[str, str]:
    """What has to agree beside what the harness says, before two values may be compared."""
    task = score.metric.partition("/")[0]
    files = {name: digest for name, digest in recipe.files.items() if name.startswith(f"{task}/")}
    return {
        "data": of_json(files),
        "max_length": str(recipe.options["max_length"]),
        "tokenizer": outcome["tokenizer"],
    }


def _script(name: str) -> Digest:
    return of_bytes(Path(__file__).with_name(name).read_bytes())


def _scores(recipe: Recipe, outcome: dict[str, Any], evidence: Digest) -> tuple[Score, ...]:
    options = recipe.options
    setting = {
        "data": str(recipe.files[DATA]),
        "dtype": "float32",
        "field": options["field"] if options["format"] == "jsonl" else "",
        "max_length": str(outcome["max_length"]),
        "tokenizer": outcome["tokenizer"],
    }
    producer = ", ".join(f"{name} {version}" for name, version in sorted(outcome["versions"].items()))
    return tuple(
        Score(
            f"{options['task']}/{metric}",
            outcome[metric],
            Direction.LOWER,
            stderr=outcome[f"{metric}_stderr"],
            n=outcome["windows"],
            setting=setting,
            producer=producer,
            source="evaluate",
            evidence=evidence,
        )
        for metric in ("loss", "perplexity")
        if math.isfinite(outcome[metric])
    )


def _known(registry: Registry, recipe: Recipe, scores: tuple[Score, ...]) -> tuple[RecordedScore, ...]:
    """The scores of this very measurement that were recorded before: by a worker that ended before it said so."""
    before = registry.scores(recipe.inputs[0].reference) if recipe.inputs else registry.base_scores(recipe.base or "")
    wanted = {(score.metric, score.evidence) for score in scores}
    return tuple(each for each in before if (each.score.metric, each.score.evidence) in wanted)


def _record(registry: Registry, recipe: Recipe, found: _Found) -> tuple[RecordedScore, ...]:
    if recipe.inputs:
        reference = recipe.inputs[0].reference
        return registry.add_scores(reference, found.scores, outcomes=found.outcomes, suite=found.suite)
    return registry.add_base_scores(recipe.base or "", found.scores, outcomes=found.outcomes, suite=found.suite)
