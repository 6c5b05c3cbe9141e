"""Merge: Versions and their Base -> a new Base whose files are stored, with what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from adapter_registry.client import Registry
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs import making
from adapter_registry.jobs.kind import INPUTS, OUT, Report
from adapter_registry.merging import resolve

if TYPE_CHECKING:
    from adapter_registry.tensors.merge import Ingredient as Part
    from adapter_registry.tensors.merge import Options

DEFAULTS: Mapping[str, Any] = {
    "dtype": None,
    "max_shard_size": None,
    "accumulate": "float32",
    "workers": None,
    "device": "cpu",
}


@dataclass(frozen=True, slots=True)
class Merge:
    """See kind.Kind; the result is the Base called `into`.

    Attributes:
        base_path: where whoever runs this says the base's files are; None: where they were registered from.
    """

    base_path: Path | None = None
    name = "merge"
    verb = "push"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: no versions, or an option that there is not.
            IncompatibleBase: the versions are locked to different bases.
        """
        options_of(recipe.options)
        if not recipe.inputs:
            raise InvalidInput("merging takes versions: NAME@VERSION=WEIGHT, one or more.")
        wanted = resolve(registry, [(each.reference, each.weight) for each in recipe.inputs])
        exact = tuple(
            Ingredient(f"{version.adapter}@{version.digest}", weight)
            for version, weight in zip(wanted.versions, wanted.weights, strict=True)
        )
        return replace(recipe, inputs=exact, base=wanted.base.base.digest, options={**DEFAULTS, **recipe.options})

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        assert recipe.base is not None  # noqa: S101  `check` filled it in
        for number, each in enumerate(recipe.inputs):
            registry.pull(each.reference, scratch / INPUTS / str(number))
        making.put_base(registry.base(recipe.base).base, scratch)
        folder = registry.checkpoint(recipe.base, self.base_path)
        (scratch / INPUTS / making.BASE_FILES).symlink_to(folder.absolute())

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute."""
        from adapter_registry.tensors.merge import merge  # noqa: PLC0415  numba, in the child alone

        base = making.take_base(scratch)
        done = 0

        def told(count: int) -> None:
            nonlocal done
            done += count
            report(Progress(min(1.0, done / max(1, base.bytes)), "merging", unit="B"))

        source = (scratch / INPUTS / making.BASE_FILES).resolve()
        made = merge(
            base, source, parts_of(recipe, scratch), scratch / OUT, options=options_of(recipe.options), progress=told
        )
        outcome: dict[str, Any] = msgspec.to_builtins(replace(made, folder=None))
        return outcome

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        """See kind.Kind.publish; the same files a second time are the same Base."""
        copy = registry.copy_of(scratch / OUT, name=recipe.into)
        registration = registry.add_base(recipe.into, scratch / OUT)
        registry.store_base(registration, copy)
        return {
            "base": registration.base.reference,
            "digest": registration.base.base.digest,
            "kept": outcome["kept"],
            "notices": [each["text"] for each in outcome["notices"]],
        }


def parts_of(recipe: Recipe, scratch: Path) -> list[Part]:
    """The adapters among the inputs."""
    from adapter_registry.tensors.merge import Ingredient as Part  # noqa: PLC0415

    return [
        Part(scratch / INPUTS / str(number), each.weight, each.adapter, each.reference.rpartition("@")[2])
        for number, each in enumerate(recipe.inputs)
    ]


def options_of(given: Mapping[str, Any]) -> Options:
    """The options of a recipe.

    Raises:
        InvalidInput: one that there is not, or a value that it does not have.
    """
    from adapter_registry.tensors.merge import Options, check_options  # noqa: PLC0415  numba, where it is needed

    unknown = sorted(given.keys() - DEFAULTS.keys())
    if unknown:
        raise InvalidInput(f"merging has no option {unknown[0][:60]!r}; it has {', '.join(DEFAULTS)}.")
    told = {**DEFAULTS, **given}
    for name, kinds in (("dtype", (str,)), ("max_shard_size", (int,)), ("workers", (int,))):
        if told[name] is not None and type(told[name]) not in kinds:
            raise InvalidInput(f"{name} is no {str(told[name])[:40]!r}.")
    options = Options(told["dtype"], told["max_shard_size"], told["accumulate"], told["workers"], told["device"])
    check_options(options)
    return options
