"""Merge: Versions and their Base -> a new Base whose files are stored, with what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from adapter_registry.client import Registry
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs import making
from adapter_registry.jobs.kind import INPUTS, OUT, PARTS, Report
from adapter_registry.merging import resolve

if TYPE_CHECKING:
    from adapter_registry.domain.base import Base
    from adapter_registry.tensors.merging.merge import Ingredient as Part
    from adapter_registry.tensors.merging.merge import Merged, Options

DEFAULTS: Mapping[str, Any] = {
    "dtype": None,
    "max_shard_size": None,
    "accumulate": "float32",
    "workers": None,
    "device": "cpu",
    "onto": None,
}


@dataclass(frozen=True, slots=True)
class Merge:
    """See kind.Kind and kind.Divisible; the result is the Base called `into`.

    Attributes:
        base_path: where whoever runs this says the base's files are; None: where they were registered from.
        shared_from: bytes of the result from which on several workers share it, a weight file each.
    """

    base_path: Path | None = None
    name = "merge"
    verb = "push"
    shared_from = 1 << 30

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: no versions, too many, or an option that there is not.
            IncompatibleBase: the versions are locked to different bases.
            Unsupported: a version that changes no weights.
        """
        options_of(recipe.options)
        wanted = resolve(registry, recipe.inputs)
        exact = tuple(
            Ingredient(f"{version.adapter}@{version.digest}", weight)
            for version, weight in zip(wanted.versions, wanted.weights, strict=True)
        )
        return replace(recipe, inputs=exact, base=wanted.base.base.digest, options={**DEFAULTS, **recipe.options})

    def opens(self, recipe: Recipe) -> tuple[Digest, ...]:
        """See kind.OpensBases.opens."""
        return (recipe.base,) if recipe.base else ()

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
        from adapter_registry.tensors.merging.merge import merge  # noqa: PLC0415  slow, in the child alone

        told, options = _teller(scratch, report), options_of(recipe.options)
        return _outcome(merge(*inputs_of(recipe, scratch), options=options, progress=told))

    def parts(self, recipe: Recipe, scratch: Path) -> list[str]:
        """See kind.Divisible.parts: the weight files of the result, where there are several and they are large."""
        from adapter_registry.tensors.merging.parts import files_of  # noqa: PLC0415

        files = files_of(*inputs_of(recipe, scratch), options=options_of(recipe.options))
        return sorted(files) if len(files) > 1 and sum(files.values()) >= self.shared_from else []

    def compute_part(self, recipe: Recipe, scratch: Path, part: str, report: Report) -> dict[str, Any]:
        """See kind.Divisible.compute_part: one weight file."""
        from adapter_registry.tensors.merging.parts import merge_file  # noqa: PLC0415

        told, options = _teller(scratch, report), options_of(recipe.options)
        return merge_file(*inputs_of(recipe, scratch), options=options, name=part, progress=told)

    def join(
        self, recipe: Recipe, scratch: Path, outcomes: Mapping[str, dict[str, Any]], report: Report
    ) -> dict[str, Any]:
        """See kind.Divisible.join."""
        from adapter_registry.tensors.merging.parts import join  # noqa: PLC0415

        done = [(line, scratch / PARTS / name) for name, line in outcomes.items()]
        told, options = _teller(scratch, report, parts=len(outcomes)), options_of(recipe.options)
        return _outcome(join(*inputs_of(recipe, scratch), options=options, done=done, progress=told))

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


def inputs_of(recipe: Recipe, scratch: Path) -> tuple[Base, Path, list[Part], Path]:
    """What was gathered, and where the result goes: the arguments of `tensors.merge.merge`."""
    from adapter_registry.tensors.merging.merge import Ingredient as Part  # noqa: PLC0415

    parts = [
        Part(scratch / INPUTS / str(number), each.weight, each.adapter, each.reference.rpartition("@")[2])
        for number, each in enumerate(recipe.inputs)
    ]
    return making.take_base(scratch), (scratch / INPUTS / making.BASE_FILES).resolve(), parts, scratch / OUT


def _teller(scratch: Path, report: Report, *, parts: int = 0) -> Callable[[int], None]:
    """Tells a report of bytes that are written, beside those of the base."""
    done, total = 0, making.take_base(scratch).bytes

    def told(count: int) -> None:
        nonlocal done
        done += count
        report(Progress(min(1.0, done / max(1, total)), "merging", unit="B", parts=parts))

    return told


def _outcome(made: Merged) -> dict[str, Any]:
    outcome: dict[str, Any] = msgspec.to_builtins(replace(made, folder=None))
    return outcome


def options_of(given: Mapping[str, Any]) -> Options:
    """The options of a recipe.

    Raises:
        InvalidInput: one that there is not, or a value that it does not have.
    """
    from adapter_registry.tensors.merging.merge import Options, check_options  # noqa: PLC0415  slow, where it is needed

    unknown = sorted(given.keys() - DEFAULTS.keys())
    if unknown:
        raise InvalidInput(f"merging has no option {unknown[0][:60]!r}; it has {', '.join(DEFAULTS)}.")
    told = {**DEFAULTS, **given}
    for name, kinds in (("dtype", (str,)), ("max_shard_size", (int,)), ("workers", (int,)), ("onto", (str,))):
        if told[name] is not None and type(told[name]) not in kinds:
            raise InvalidInput(f"{name} is no {str(told[name])[:40]!r}.")
    kept = (told[name] for name in ("dtype", "max_shard_size", "accumulate", "workers", "device", "onto"))
    options = Options(*kept)
    check_options(options)
    return options
