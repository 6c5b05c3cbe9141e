"""Diff: what changed between two Versions, worked out as a job; its record holds the answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from adapter_registry.client import Registry
from adapter_registry.domain.base import Base
from adapter_registry.domain.diff import Alignment, ModuleDiff, Spectrum, State, VersionDiff
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.job import Progress
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.jobs.kind import INPUTS, OUT, Report

DEFAULTS: Mapping[str, Any] = {"exact": False, "weights": False, "intruders": False, "device": "cpu"}
"""Options: look at every element; hold deltas against the base's weights; look for intruder dimensions there, and on
which device."""
SIDES, BASE = ("first", "second"), "base"
KEPT = 16
"""Singular values and angles of each kind that the record of a job holds."""


@dataclass(frozen=True, slots=True)
class Diff:
    """See kind.Kind.

    Attributes:
        base_path: where whoever runs this says the base's files are; None: where they were registered from.
    """

    base_path: Path | None = None
    name = "diff"
    verb = "read"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: not two versions, an option that there is not, or the base's weights of two bases.
        """
        if len(recipe.inputs) != 2:
            raise InvalidInput(f"a difference is of two versions, not of {len(recipe.inputs)}.")
        options = _options(recipe.options)
        versions = [registry.resolve(each.reference) for each in recipe.inputs]
        bases = {version.base for version in versions}
        if len(bases) > 1 and (options["weights"] or options["intruders"]):
            names = " and ".join(version.reference for version in versions)
            raise InvalidInput(f"{names} are locked to different bases; compare them without the base's weights.")
        exact = tuple(Ingredient(f"{version.adapter}@{version.digest}") for version in versions)
        return replace(recipe, inputs=exact, base=bases.pop() if len(bases) == 1 else None, options=options)

    def opens(self, recipe: Recipe) -> tuple[Digest, ...]:
        """See kind.OpensBases.opens."""
        wanted = recipe.options["weights"] or recipe.options["intruders"]
        return (recipe.base,) if wanted and recipe.base else ()

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        inputs = scratch / INPUTS
        for side, each in zip(SIDES, recipe.inputs, strict=True):
            version = registry.pull(each.reference, inputs / side).version
            base = registry.base(version.base)
            told = {"name": version.reference, "digest": version.digest, "base_name": base.registered.reference}
            (inputs / f"{side}.json").write_bytes(msgspec.json.encode({**told, "base": base.base}))
        for digest in self.opens(recipe):
            (inputs / BASE).symlink_to(registry.checkpoint(digest, self.base_path).absolute())

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute; `out` holds the whole answer, `diff.json`, and its picture, `diff.svg`."""
        from adapter_registry.tensors.against_base import against  # noqa: PLC0415  numpy, where it is needed
        from adapter_registry.tensors.devices import device_of  # noqa: PLC0415
        from adapter_registry.tensors.diff import Input, diff  # noqa: PLC0415
        from adapter_registry.tensors.picture import picture  # noqa: PLC0415

        inputs, options = scratch / INPUTS, recipe.options
        device = device_of(options.get("device", "cpu"))
        sides = []
        for side in SIDES:
            told = msgspec.json.decode((inputs / f"{side}.json").read_bytes())
            base = msgspec.convert(told["base"], Base)
            sides.append(Input(told["name"], told["digest"], inputs / side, base, told["base_name"]))
        with ExitStack() as stack:
            finish = None
            if (inputs / BASE).exists():
                looked = against(inputs / BASE, cache=None, intruders=options["intruders"], device=device)
                finish = stack.enter_context(looked)
            found = diff(
                *sides,
                exact=options["exact"],
                finish=finish,
                report=lambda share: report(Progress(share, "modules compared")),
            )
        (scratch / OUT / "diff.json").write_bytes(msgspec.json.encode(found))
        (scratch / OUT / "diff.svg").write_text(picture(found), encoding="utf-8")
        outcome: dict[str, Any] = msgspec.to_builtins(shortened(found))
        return outcome

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002  all there is to it is in the outcome
        """See kind.Kind.publish: nothing is stored beside the record, whose `diff` is the answer."""
        return {"diff": outcome}


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    from adapter_registry.tensors.devices import check_name  # noqa: PLC0415  numpy, where it is needed

    unknown = sorted(given.keys() - DEFAULTS.keys())
    if unknown:
        raise InvalidInput(f"a difference has no option {unknown[0][:60]!r}; it has {', '.join(DEFAULTS)}.")
    check_name(given.get("device", "cpu"))
    wrong = sorted(name for name, value in given.items() if name != "device" and not isinstance(value, bool))
    if wrong:
        raise InvalidInput(f"{wrong[0]} is true or false, not {str(given[wrong[0]])[:40]!r}.")
    options = {**DEFAULTS, **given}
    if options["device"] != "cpu" and not options["intruders"]:
        raise InvalidInput("--device is for --intruders: all else is worked out on small matrices. Leave it out.")
    return options


def shortened(found: VersionDiff) -> VersionDiff:
    """The answer as a record holds it: without equal files and tensors, with the KEPT first values and angles."""
    return replace(
        found,
        files=tuple(each for each in found.files if each.state is not State.SAME),
        tensors=tuple(each for each in found.tensors if each.state is not State.SAME),
        modules=tuple(map(_shortened, found.modules)),
    )


def _shortened(module: ModuleDiff) -> ModuleDiff:
    return replace(
        module,
        first=_values(module.first),
        second=_values(module.second),
        difference=_values(module.difference),
        left=_angles(module.left),
        right=_angles(module.right),
    )


def _values(spectrum: Spectrum | None) -> Spectrum | None:
    return replace(spectrum, values=spectrum.values[:KEPT]) if spectrum else None


def _angles(alignment: Alignment | None) -> Alignment | None:
    return replace(alignment, degrees=alignment.degrees[:KEPT]) if alignment else None
