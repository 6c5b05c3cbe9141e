"""Compose: several Versions of one Base -> one new Version, with its recipe and what it cost."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import short
from adapter_registry.domain.errors import IncompatibleBase, InvalidInput, Revoked, Unsupported
from adapter_registry.domain.lineage import Parent
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs import making
from adapter_registry.jobs.kind import INPUTS, OUT, Report
from adapter_registry.local.pulled import LOCK_FILE

DEFAULTS: Mapping[str, Any] = {
    "method": None,
    "rank": None,
    "tolerance": None,
    "one_rank": False,
    "density": None,
    "spread": None,
    "outliers": 0.01,
    "scale": 1.0,
    "election": "total",
    "normalise": None,
    "dtype": "float32",
    "equivalent": False,
    "device": "cpu",
}
SUMS = ("linear:sum", "svd:sum", "cat:sum")
"""Methods of which one adapter at weight 1 is that adapter."""


@dataclass(frozen=True, slots=True)
class Compose:
    """See kind.Kind.

    Attributes:
        base_path: where whoever runs this says the base's files are; None: where they were registered from.
    """

    base_path: Path | None = None
    name = "compose"
    verb = "push"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: no versions, no such method, or an option out of range.
            IncompatibleBase: the versions are locked to different bases.
            Unsupported: a version of a method that cannot be composed.
        """
        if not recipe.inputs:
            raise InvalidInput("composing takes versions: NAME@VERSION=WEIGHT, one or more.")
        if not all(math.isfinite(each.weight) for each in recipe.inputs):
            raise InvalidInput("a weight is a finite number.")
        options = _options(recipe.options)
        _tried(options, tuple(each.weight for each in recipe.inputs))
        versions = [registry.resolve(each.reference) for each in recipe.inputs]
        _composable(versions, options)
        base = _one_base(registry, versions, equivalent=options["equivalent"])
        exact = tuple(
            Ingredient(f"{version.adapter}@{version.digest}", each.weight)
            for version, each in zip(versions, recipe.inputs, strict=True)
        )
        return replace(recipe, inputs=exact, base=base.base, options=options)

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        assert recipe.base is not None  # noqa: S101  `check` filled it in
        made_whole = 0
        for number, each in enumerate(recipe.inputs):
            version = registry.pull(each.reference, scratch / INPUTS / str(number)).version
            made_whole += 2 * ("dora" in version.description.variant) + bool(version.description.saved_modules)
        making.put_base(registry.base(recipe.base).base, scratch)
        if self.base_path is not None or made_whole > 1:
            try:
                folder = registry.checkpoint(recipe.base, self.base_path)
            except InvalidInput:
                if self.base_path is not None:
                    raise
                return  # what turns out to need the base's bytes says so by name
            (scratch / INPUTS / making.BASE_FILES).symlink_to(folder.absolute())

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute."""
        if _unchanged(recipe):
            ignore = shutil.ignore_patterns(LOCK_FILE)
            shutil.copytree(scratch / INPUTS / "0", scratch / OUT, dirs_exist_ok=True, ignore=ignore)
            return making.outcome_of((), ("one adapter at weight 1: its files are as they were",), "cpu")
        from adapter_registry.tensors.adapter_out import write_adapter  # noqa: PLC0415  numpy, where it is needed
        from adapter_registry.tensors.base_weights import base_weights  # noqa: PLC0415
        from adapter_registry.tensors.composing.compose import compose  # noqa: PLC0415
        from adapter_registry.tensors.composing.methods import find_method  # noqa: PLC0415
        from adapter_registry.tensors.composing.refusals import Part  # noqa: PLC0415
        from adapter_registry.tensors.devices import device_of, memory_explained  # noqa: PLC0415
        from adapter_registry.tensors.loaded import loaded  # noqa: PLC0415

        base, files = making.take_base(scratch), scratch / INPUTS / making.BASE_FILES
        how, wanted = how_of(recipe.options)
        device = device_of(recipe.options.get("device", "cpu"))
        with ExitStack() as stack:
            stack.enter_context(memory_explained(device))
            parts = [
                Part(stack.enter_context(loaded(scratch / INPUTS / str(i), base)), each.weight, _called(each))
                for i, each in enumerate(recipe.inputs)
            ]
            weights = stack.enter_context(base_weights(files)) if files.exists() else None
            method = find_method(recipe.options["method"])[2]
            tell = making.teller(report, "composed")
            made = compose(parts, method, how, wanted, seed=recipe.seed, base=weights, tell=tell, device=device)
            outcome = making.outcome_of(made.fits, made.notices, device.name)
            write_adapter(scratch / OUT, replace(made.adapter, readme=_readme(recipe, outcome)))
        return outcome

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        """See kind.Kind.publish."""
        versions = [registry.resolve(each.reference) for each in recipe.inputs]
        parents = tuple(
            Parent(version.adapter, version.number, version.digest, each.weight)
            for version, each in zip(versions, recipe.inputs, strict=True)
        )
        lineage = making.lineage_of(recipe, outcome, parents, making.told(recipe, DEFAULTS))
        return making.published(registry, recipe, scratch, lineage)


def how_of(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """(How, Wanted) of a recipe's options."""
    from adapter_registry.tensors.composing.module import Wanted  # noqa: PLC0415  numpy, where it is needed
    from adapter_registry.tensors.composing.options import How, check  # noqa: PLC0415

    names = ("density", "spread", "outliers", "scale", "election", "normalise")
    how = How((), **{name: options[name] for name in names})
    check(how)
    rank = options["rank"]
    dtype, one_rank = making.DTYPES[options["dtype"]], bool(options["one_rank"])
    wanted = Wanted(None if rank == "auto" else rank, options["tolerance"], one_rank, dtype)
    return how, wanted


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    from adapter_registry.tensors.composing.methods import find_method  # noqa: PLC0415  numpy, where it is needed
    from adapter_registry.tensors.devices import check_name  # noqa: PLC0415

    options = making.read_options(given, DEFAULTS, kind="composing")
    if not isinstance(options["method"], str):
        raise InvalidInput("composing takes a method: --method linear, ties:mergekit, svd, ...")
    name, dialect, method = find_method(options["method"])
    for number in ("density", "spread", "outliers", "scale"):
        value = options[number]
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise InvalidInput(f"{number} is a finite number, not {str(value)[:40]!r}.")
    how_of(options)
    check_name(options["device"])
    if options["device"] != "cpu" and method.dense is None:
        raise InvalidInput(
            f"{name}:{dialect} works on the factors, whose small matrices a GPU does not help: leave --device out."
        )
    if method.masks and options["density"] is None:
        raise InvalidInput(f"{name} leaves entries out: say which share of them stays with --density, 0 to 1.")
    for option in ("density", "spread", "outliers", "election", "normalise"):
        if option not in method.takes and options[option] != DEFAULTS[option]:
            heeded = ", ".join(f"--{each}" for each in sorted(method.takes)) or "no options of its own"
            raise InvalidInput(f"{name}:{dialect} takes no --{option}; it takes {heeded}.")
    if options["one_rank"] and options["rank"] != "auto":
        raise InvalidInput("--one-rank is for --rank auto.")
    return {**options, "method": f"{name}:{dialect}"}


def _tried(options: Mapping[str, Any], weights: tuple[float, ...]) -> None:
    """Have the method refuse now what it would refuse of these weights: it is tried on deltas of two by two."""
    import numpy as np  # noqa: PLC0415  where it is needed

    from adapter_registry.tensors.composing.methods import find_method  # noqa: PLC0415
    from adapter_registry.tensors.composing.module import composed  # noqa: PLC0415
    from adapter_registry.tensors.layers import Pair  # noqa: PLC0415

    how, wanted = how_of(options)
    pairs = [Pair(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1.0)] * len(weights)
    keys = tuple(range(len(weights)))
    composed(pairs, find_method(options["method"])[2], replace(how, weights=weights, keys=keys), wanted)


def _composable(versions: Sequence[Version], options: Mapping[str, Any]) -> None:
    """Refuse, before anything travels, what `composing.refusals` would refuse by the config."""
    from adapter_registry.tensors.composing import ia3 as compose_ia3  # noqa: PLC0415
    from adapter_registry.tensors.composing.methods import find_method  # noqa: PLC0415
    from adapter_registry.tensors.composing.refusals import COMPOSED, MIXED, NO_WEIGHT_DELTA, OTHER_METHODS  # noqa: PLC0415

    kinds = {version.description.peft_type for version in versions}
    if kinds == {"IA3"}:
        compose_ia3.check(find_method(options["method"])[2], ranked=options["rank"] is not None)
    elif len(kinds & COMPOSED) > 1:
        told = " and ".join(sorted(kinds))
        raise Unsupported(f"these versions are {told}; composing takes one method for all. {MIXED}")
    for version in versions:
        if version.revoked_because is not None:
            raise Revoked(f"{version.reference} was revoked: {version.revoked_because} It cannot be composed.")
        description = version.description
        if description.peft_type not in COMPOSED:
            told = f"{version.reference} is {description.method}; composing takes LoRA and IA3"
            raise Unsupported(f"{told}. {OTHER_METHODS}")
        for variant in description.variant:
            if variant in NO_WEIGHT_DELTA:
                why = NO_WEIGHT_DELTA[variant]
                raise Unsupported(f"{version.reference} is {description.method}: {why}. It cannot be composed.")


def _one_base(registry: Registry, versions: Sequence[Version], *, equivalent: bool) -> Version:
    """The version whose base the result is locked to: the first."""
    first = versions[0]
    others = [version for version in versions if version.base != first.base]
    if not others:
        return first
    declared = {each.other for each in registry.equivalences(first.base)}
    unknown = [version for version in others if version.base not in declared]
    told = ", ".join(f"{v.reference} to {v.base_name}@{short(v.base)}" for v in (first, *(unknown or others)))
    if unknown:
        raise IncompatibleBase(
            f"these versions are locked to different bases: {told}. Their deltas are changes of different weights; "
            "nothing was written. Compose versions of one base."
        )
    if not equivalent:
        raise IncompatibleBase(
            f"these versions are locked to different bases that are declared equivalent: {told}. Nothing was written. "
            "Add --equivalent to compose them all the same; the result is locked to the first one's base."
        )
    return first


def _called(ingredient: Ingredient) -> str:
    return f"{ingredient.adapter}@{short(ingredient.reference.partition('@')[2])}"


def _unchanged(recipe: Recipe) -> bool:
    options = recipe.options
    alone = len(recipe.inputs) == 1 and recipe.inputs[0].weight == 1 and options["method"] in SUMS
    return alone and options["rank"] is None and options["scale"] == 1 and options["dtype"] == "float32"


def _readme(recipe: Recipe, outcome: Mapping[str, Any]) -> str:
    facts = {
        "made of": ", ".join(f"{each.reference} x {each.weight:g}" for each in recipe.inputs),
        **making.told(recipe, DEFAULTS),
        "seed": str(recipe.seed),
        "relative error of the whole": f"{outcome['error']:.3g}",
    }
    return making.readme("Composed adapter", facts, tuple(f"- {note}" for note in outcome["notes"]))
