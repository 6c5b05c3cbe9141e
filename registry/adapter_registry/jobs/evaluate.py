"""Evaluate a version, or a base alone, and record its scores: the loss on text it was not trained on, or tasks.

The files of the recipe tell which of the two: `data` is text; `NAME/task.yaml`, with its files in `NAME/data/`, is
a task of lm-evaluation-harness.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.digest import Digest, of_bytes, of_json
from adapter_registry.domain.errors import DigestMismatch, InvalidInput, JobFailed
from adapter_registry.domain.evidence.outcomes import Outcomes
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.evidence.suite import TASK_FILE, Suite, unfit_files
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.kind import INPUTS, OUT, Report
from adapter_registry.local.folders import file_digest

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
    tasks = {name.removesuffix(TASK_FILE) for name in recipe.files if name.endswith(TASK_FILE)}
    if not tasks or (wrong := unfit_files(recipe.files)):
        what = f"; not {wrong[:60]!r}" if tasks else ""
        raise InvalidInput(
            f"evaluating takes a file of text, named {DATA!r}, or tasks: NAME/task.yaml with its files in NAME/data/"
            f"{what}."
        )
    options = _filled(recipe.options, TASK_DEFAULTS)
    if not isinstance(options["suite"], str):
        raise InvalidInput("suite is the name of one: core@3, or core for its newest version.")
    if options["suite"]:
        suite = registry.suite(options["suite"])
        _check_suite(suite, recipe.files, tasks, options["shots"])
        options["suite"] = suite.reference
    return options


def _check_suite(suite: Suite, files: Mapping[str, Digest], tasks: set[str], shots: int | None) -> None:
    """Refuse now what could not be recorded as measured by the suite."""
    absent = sorted({each.metric.partition("/")[0] for each in suite.metrics} - tasks)
    if absent:
        raise InvalidInput(f"{suite.reference} also asks for the tasks {', '.join(absent[:5])}.")
    other = sorted(name for name in suite.files.keys() | files.keys() if suite.files.get(name) != files.get(name))
    if suite.files and other:
        raise InvalidInput(
            f"{suite.reference} is measured with its own files, and {', '.join(other[:3])} is another; "
            "leave the files out, or store them as its next version (`adapters score suite set FILE`)."
        )
    asked = {each.setting["shots"] for each in suite.metrics if "shots" in each.setting}
    if shots is not None and asked - {str(shots)}:
        raise InvalidInput(f"{suite.reference} asks for {' and '.join(sorted(asked))} shots, not {shots}.")


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
