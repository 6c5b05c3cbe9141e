"""What a config selects against what a file holds: every selected module has tensors, and nothing else has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

from adapter_registry.checkpoints.modules import OUTPUT_HEAD, Modules
from adapter_registry.checkpoints.targets import Targets
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.config import AdapterConfig
from adapter_registry.domain.peft.fields import WEIGHTS

RESAVE = "Save the adapter again from the model it was trained on."
OTHER_BASE = "Name the base it was trained on with --base."
_DIGITS = re.compile(r"\d+")


def selection_problems(
    there: Collection[str], config: AdapterConfig, targets: Targets, modules: Modules, *, parts: str
) -> Iterator[Problem]:
    """Modules that lack tensors or have them unasked.

    Args:
        there: live paths of the modules that have tensors of the method in the file.
        config: says what is selected.
        targets: what that is in this base.
        modules: of the base.
        parts: names of the tensors that each module has, for people.
    """
    known = {path for path in there if modules.find(path) is not None}
    for path in sorted(set(there) - known):
        yield Problem("module-not-in-base", WEIGHTS, path, "a module of the base", "no such module", OTHER_BASE)
    for path in sorted(_missing(known, targets, modules)):
        fix = f"{RESAVE} Its config targets this module."
        yield Problem("missing-tensors", WEIGHTS, path, f"{parts} of it", "none", fix)
    if targets.modules is None:
        return
    for path in sorted(known - targets.modules - set(_implied(config, targets, known))):
        fix = "Add it to target_modules, or remove its tensors: PEFT would ignore them."
        yield Problem("not-targeted", WEIGHTS, path, "a module that the config targets", "tensors of it", fix)


def _missing(known: Collection[str], targets: Targets, modules: Modules) -> set[str]:
    if targets.modules is not None:
        # A tied head has no tensor of its own, and the live model may have been loaded without one.
        return {path for path in targets.required(known) if path in modules.by_path} - set(known)
    # What PEFT chose is not told; where it adapted one module of a stack, it adapted that of every layer.
    alike: defaultdict[str, set[str]] = defaultdict(set)
    for path in modules.by_path:
        alike[_DIGITS.sub("#", path)].add(path)
    return {path for kind in {_DIGITS.sub("#", path) for path in known} for path in alike[kind]} - set(known)


def _implied(config: AdapterConfig, targets: Targets, known: Collection[str]) -> Iterator[str]:
    """Modules that PEFT adapts along with a selected one: tied heads, and the output of a fused attention."""
    for path in known:
        if config.ensure_weight_tying and OUTPUT_HEAD.fullmatch(path):
            yield path
        if path.endswith(".out_proj") and path.removesuffix(".out_proj") in (targets.modules or ()):
            yield path
