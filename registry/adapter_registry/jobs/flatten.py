"""Flatten: one Version -> the plainest LoRA that adds the same, with its measured error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import Progress
from adapter_registry.domain.lineage import Parent
from adapter_registry.domain.peft.fields import CONFIG
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs import making
from adapter_registry.jobs.kind import INPUTS, OUT, Report
from adapter_registry.local.pulled import LOCK_FILE

DEFAULTS: Mapping[str, Any] = {"method": "flatten:plain", "dtype": None, "tolerance": None, "rank": None}
MOST_RANK = 1 << 14
"""To pad factors to: above it a slip of the hand would fill the memory."""


@dataclass(frozen=True, slots=True)
class Flatten:
    """See kind.Kind."""

    name = "flatten"
    verb = "push"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: not one version, or an option out of range.
        """
        if len(recipe.inputs) != 1:
            raise InvalidInput("flattening takes one version.")
        unknown = sorted(recipe.options.keys() - DEFAULTS.keys())
        if unknown:
            raise InvalidInput(f"flatten has no option {unknown[0][:60]!r}; it has dtype, rank and tolerance.")
        options = {**DEFAULTS, **recipe.options}
        dtype, tolerance = options["dtype"], options["tolerance"]
        if dtype is not None and dtype not in making.DTYPES:
            raise InvalidInput(f"--dtype is one of {', '.join(making.DTYPES)}, not {str(dtype)[:40]!r}.")
        if tolerance is not None and not (isinstance(tolerance, int | float) and 0 < tolerance < 1):
            raise InvalidInput("--tolerance is a share of the delta's norm: above 0 and below 1.")
        version = registry.resolve(recipe.inputs[0].reference)
        rank, least = options["rank"], max(version.description.rank or 1, 1)
        if rank is not None and not (type(rank) is int and least <= rank <= MOST_RANK):
            raise InvalidInput(f"--rank is a whole number from {least}, its largest, to {MOST_RANK}, not {rank!r:.40}.")
        exact = (Ingredient(f"{version.adapter}@{version.digest}"),)
        return replace(recipe, inputs=exact, base=version.base, options=options)

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        assert recipe.base is not None  # noqa: S101  `check` filled it in
        registry.pull(recipe.inputs[0].reference, scratch / INPUTS / "0")
        making.put_base(registry.base(recipe.base).base, scratch)

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute."""
        from adapter_registry.tensors import flatten  # noqa: PLC0415  numpy, where it is needed
        from adapter_registry.tensors.adapter_out import write_adapter  # noqa: PLC0415
        from adapter_registry.tensors.loaded import loaded  # noqa: PLC0415

        base, source, out = making.take_base(scratch), scratch / INPUTS / "0", scratch / OUT
        with loaded(source, base) as before:
            flatten.refuse(before)
            rank = recipe.options["rank"]
            if flatten.is_plain(before) and recipe.options["dtype"] is None and rank in (None, before.config.r):
                shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK_FILE))
                notes = ("it is plain already: its files are as they were",)
                return {**making.outcome_of((), notes, "cpu"), "plain": True}
            dtype = making.DTYPES.get(recipe.options["dtype"])
            made = flatten.flattened(before, json.loads((source / CONFIG).read_bytes()), dtype=dtype, rank=rank)
            report(Progress(0.5, "written; measuring", unit="modules"))
            write_adapter(out, replace(made, readme=_readme(recipe, before.config.base_model_name_or_path)))
            # What was written is read again as any other adapter: a lost scale or a swapped axis shows here.
            with loaded(out, base) as after:
                fits = flatten.measured(before, after)
        flatten.require_near(fits, recipe.options["tolerance"] or flatten.TOLERANCE)
        return {**making.outcome_of(fits, (), "cpu"), "plain": False}

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        """See kind.Kind.publish; what is plain already is itself."""
        version = registry.resolve(recipe.inputs[0].reference)
        if outcome["plain"]:
            return {"reference": version.reference, "digest": version.digest, "created": False, "error": 0.0}
        parent = Parent(version.adapter, version.number, version.digest, 1.0)
        lineage = making.lineage_of(recipe, outcome, (parent,), making.told(recipe, DEFAULTS) | _METHOD)
        return making.published(registry, recipe, scratch, lineage)


_METHOD = {"method": DEFAULTS["method"]}


def _readme(recipe: Recipe, base: str | None) -> str:
    facts = {"made of": recipe.inputs[0].reference, **({"base": base} if base else {})}
    told = (
        "One rank, lora_alpha = r, no patterns, no rsLoRA: for stacks that read nothing else. It adds what that does."
    )
    return making.readme("Flattened adapter", facts, (told,))
