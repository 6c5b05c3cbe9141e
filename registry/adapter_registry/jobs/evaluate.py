"""Evaluate: the loss of a version, or of a base alone, on text it was not trained on; recorded as its scores."""

from __future__ import annotations

import hashlib
import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.digest import Digest, of_bytes, of_json
from adapter_registry.domain.errors import DigestMismatch, InvalidInput, JobFailed
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.domain.score import Direction, RecordedScore, Score
from adapter_registry.jobs.kind import INPUTS, Report

DATA, BASE, ADAPTER = "data", "base", "adapter"
DEFAULTS: dict[str, Any] = {
    "task": "heldout",
    "format": "text",
    "field": "text",
    "batch": 8,
    "max_length": 1024,
    "device": "cpu",
}
RANGES = {"batch": (1, 4_096), "max_length": (8, 1 << 20)}
FORMATS = ("text", "jsonl")
DEVICES = ("cpu", "cuda")
LONGEST_TASK = 100


@dataclass(frozen=True, slots=True)
class Evaluate:
    """See kind.Kind.

    Attributes:
        data: where the text is, when it is here; None has it brought from the store.
        base_path: where whoever runs this says the base's files are; None: where they were registered from.
    """

    data: Path | None = None
    base_path: Path | None = None
    name = "evaluate"
    verb = "score"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: no text, several versions, neither version nor base, or an option that there is not.
        """
        if DATA not in recipe.files:
            raise InvalidInput(f"evaluating takes a file of text, named {DATA!r}.")
        if len(recipe.inputs) > 1 or (not recipe.inputs and recipe.base is None):
            raise InvalidInput("evaluating takes one version, or a base alone.")
        recipe = replace(recipe, options=_options(recipe.options))
        if not recipe.inputs:
            return replace(recipe, base=registry.base(recipe.base or "").base.digest)
        version = registry.resolve(recipe.inputs[0].reference)
        if version.adapter != recipe.into:
            raise InvalidInput(f"the scores of {version.reference} belong to {version.adapter}, not to {recipe.into}.")
        exact = Ingredient(f"{version.adapter}@{version.digest}", recipe.inputs[0].weight)
        return replace(recipe, inputs=(exact,), base=version.base)

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        inputs = scratch / INPUTS
        folder = registry.checkpoint(recipe.base or "", self.base_path)
        (inputs / BASE).symlink_to(folder.absolute())
        for each in recipe.inputs:
            registry.pull(each.reference, inputs / ADAPTER)
        wanted = recipe.files[DATA]
        if self.data is None:
            registry.bring_file(wanted, inputs / DATA)
            return
        shutil.copyfile(self.data, inputs / DATA)
        found = file_digest(inputs / DATA)
        if found != wanted:
            size = self.data.stat().st_size
            raise DigestMismatch(str(self.data), declared=wanted, received=found, size=size)

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute."""
        from adapter_registry.jobs.evaluate_loss import measured  # noqa: PLC0415  torch, in the child alone

        adapter = scratch / INPUTS / ADAPTER if recipe.inputs else None
        return measured(scratch / INPUTS / BASE, adapter, scratch / INPUTS / DATA, recipe.options, report)

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002  all there is to it is in the outcome
        """See kind.Kind.publish; the same measurement again adds no score."""
        if not math.isfinite(outcome["loss"]):
            raise JobFailed(f"the loss is {outcome['loss']}, which is no measurement; no score was recorded.")
        script = of_bytes(Path(__file__).with_name("evaluate_loss.py").read_bytes())
        evidence = {"recipe": asdict(recipe), "script": script, "measured": outcome}
        scores = _scores(recipe, outcome, of_json(evidence))
        known = _known(registry, recipe, scores)
        recorded = known or _record(registry, recipe, scores)
        values = {each.score.metric: each.score.value for each in recorded}
        return {"subject": recorded[0].subject_name, "scores": values, "evidence": evidence}


def file_digest(path: Path) -> Digest:
    """The digest of a file's bytes."""
    with path.open("rb") as stream:
        return Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(given.keys() - DEFAULTS.keys())
    if unknown:
        raise InvalidInput(f"evaluating has no option {unknown[0][:60]!r}; it has {', '.join(DEFAULTS)}.")
    options = {**DEFAULTS, **given}
    for name, (least, most) in RANGES.items():
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidInput(f"{name} is a whole number, {least:,} to {most:,}, not {str(value)[:40]!r}.")
    for name, allowed in (("format", FORMATS), ("device", DEVICES)):
        if options[name] not in allowed:
            raise InvalidInput(f"{name} is one of {', '.join(allowed)}, not {str(options[name])[:40]!r}.")
    for name in ("task", "field"):
        text = options[name]
        if not isinstance(text, str) or not 0 < len(text) <= LONGEST_TASK or not text.isprintable():
            raise InvalidInput(f"{name} is a name of 1 to {LONGEST_TASK} printable characters.")
    return options


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


def _record(registry: Registry, recipe: Recipe, scores: tuple[Score, ...]) -> tuple[RecordedScore, ...]:
    if recipe.inputs:
        return registry.add_scores(recipe.inputs[0].reference, scores)
    return registry.add_base_scores(recipe.base or "", scores)
