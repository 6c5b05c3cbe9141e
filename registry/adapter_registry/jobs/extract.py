"""Extract: a fully fine-tuned checkpoint and its Base -> a Version, with what the low rank costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapter_registry.client import Registry
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.recipe import Recipe
from adapter_registry.jobs import making
from adapter_registry.jobs.kind import INPUTS, OUT, Report

TUNED = "tuned"
DEFAULTS: Mapping[str, Any] = {
    "checkpoint": None,
    "rank": None,
    "tolerance": None,
    "dtype": "float32",
    "leave_out": False,
    "device": "cpu",
}
METHOD = "truncated-svd:subspace-iteration"


@dataclass(frozen=True, slots=True)
class Extract:
    """See kind.Kind. The option `checkpoint` is the fine-tune: the registered Base that it is, by digest.

    Attributes:
        checkpoint_path: where whoever runs this says the fine-tune's files are; None: where they were registered from.
        base_path: the same of the base.
    """

    checkpoint_path: Path | None = None
    base_path: Path | None = None
    name = "extract"
    verb = "push"

    def check(self, registry: Registry, recipe: Recipe) -> Recipe:
        """See kind.Kind.check.

        Raises:
            InvalidInput: no base, no checkpoint, no such device, or neither rank nor tolerance.
        """
        from adapter_registry.tensors.devices import check_name  # noqa: PLC0415  numpy, where it is needed

        options = making.read_options(recipe.options, DEFAULTS, kind="extracting")
        check_name(options["device"])
        if recipe.base is None or not isinstance(options["checkpoint"], str):
            raise InvalidInput("extracting takes a fine-tuned checkpoint and the base that it was trained from.")
        if options["rank"] is None:
            raise InvalidInput("say how much to keep: --rank 32, or --rank auto with --tolerance.")
        if self.checkpoint_path is None:
            options["checkpoint"] = registry.base(options["checkpoint"]).base.digest
        base = registry.base(recipe.base).base.digest
        if base == options["checkpoint"]:
            raise InvalidInput("the checkpoint is the base itself: there is nothing to extract.")
        return replace(recipe, base=base, options=options)

    def opens(self, recipe: Recipe) -> tuple[Digest, ...]:
        """See kind.OpensBases.opens."""
        return tuple(Digest(each) for each in (recipe.base, recipe.options["checkpoint"]) if each)

    def gather(self, registry: Registry, recipe: Recipe, scratch: Path) -> None:
        """See kind.Kind.gather."""
        assert recipe.base is not None  # noqa: S101  `check` filled it in
        tuned = self.checkpoint_path or registry.checkpoint(recipe.options["checkpoint"])
        (scratch / INPUTS / TUNED).symlink_to(tuned.absolute())
        (scratch / INPUTS / making.BASE_FILES).symlink_to(registry.checkpoint(recipe.base, self.base_path).absolute())
        making.put_base(registry.base(recipe.base).base, scratch)

    def compute(self, recipe: Recipe, scratch: Path, report: Report) -> dict[str, Any]:
        """See kind.Kind.compute."""
        from adapter_registry.tensors.adapter_out import write_adapter  # noqa: PLC0415  numpy, where it is needed
        from adapter_registry.tensors.base_weights import base_weights  # noqa: PLC0415
        from adapter_registry.tensors.composing.module import Wanted  # noqa: PLC0415
        from adapter_registry.tensors.devices import device_of, memory_explained  # noqa: PLC0415
        from adapter_registry.tensors.extract import extract  # noqa: PLC0415

        options, inputs = recipe.options, scratch / INPUTS
        rank = None if options["rank"] == "auto" else options["rank"]
        wanted = Wanted(rank, options["tolerance"], dtype=making.DTYPES[options["dtype"]])
        device = device_of(options.get("device", "cpu"))
        there = base_weights(inputs / TUNED), base_weights(inputs / making.BASE_FILES)
        with memory_explained(device), there[0] as tuned, there[1] as base:
            made = extract(
                tuned,
                base,
                making.take_base(scratch),
                wanted,
                seed=recipe.seed,
                leave_out=options["leave_out"],
                tell=making.teller(report, "extracted"),
                device=device,
            )
            outcome = making.outcome_of(made.fits, made.notices, device.name)
            facts = {**making.told(recipe, DEFAULTS), "relative error of the whole": f"{outcome['error']:.3g}"}
            text = making.readme("Extracted adapter", facts, tuple(f"- {note}" for note in made.notices))
            write_adapter(scratch / OUT, replace(made.adapter, readme=text))
        return outcome

    def publish(self, registry: Registry, recipe: Recipe, scratch: Path, outcome: dict[str, Any]) -> dict[str, Any]:
        """See kind.Kind.publish."""
        options = {**making.told(recipe, DEFAULTS), "method": METHOD}
        return making.published(registry, recipe, scratch, making.lineage_of(recipe, outcome, (), options))
