"""Every method of composing adapters, by name and dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors.composing import core, dense
from adapter_registry.tensors.composing.core import Core
from adapter_registry.tensors.composing.dense import Dense


@dataclass(frozen=True, slots=True)
class Method:
    """One way to compose deltas.

    Attributes:
        takes: options of `How` that it heeds, beside weights, keys and scale.
        core: works on cores; None for those that look at entries.
        dense: works on deltas by rows; None for those that need factors.
        whole: the rank is not cut: all that is in the sum stays.
        normalise: what `normalise` is where nothing is said.
    """

    takes: frozenset[str]
    core: Core | None = None
    dense: Dense | None = None
    whole: bool = False
    normalise: bool = False

    @property
    def masks(self) -> bool:
        """Whether it leaves entries out, and has to be told how many stay."""
        return "density" in self.takes


def _core(method: Core, *takes: str) -> Method:
    return Method(frozenset(takes), method)


def _entries(method: Dense, *takes: str) -> Method:
    return Method(frozenset(("density", *takes)), dense=method)


_SUM = Method(frozenset({"normalise"}), core.weighted_sum, dense.weighted_sum)

# The first dialect of each name is the one that is meant when none is given.
METHODS: Mapping[str, Mapping[str, Method]] = {
    "linear": {"sum": _SUM, "mergekit": replace(_SUM, normalise=True)},
    "svd": {"sum": _SUM},
    "cat": {"sum": Method(frozenset(), core.weighted_sum, whole=True)},
    "slerp": {"mergekit": _core(core.slerp)},
    "multislerp": {"mergekit": replace(_core(core.multislerp, "normalise"), normalise=True)},
    "karcher": {"weighted": _core(core.karcher)},
    "model_stock": {"paper": _core(core.model_stock), "mergekit": _core(core.model_stock_mergekit)},
    "tsv-m": {"paper": _core(core.tsv_merge)},
    "iso-c": {"paper": _core(core.iso_c)},
    "iso-cts": {"paper": _core(core.iso_cts)},
    "robustmerge": {"deltas": _core(core.robust_merge, "density")},
    "ties": {
        "paper": _entries(dense.ties_paper),
        "peft": _entries(dense.ties_peft, "election"),
        "mergekit": _entries(dense.ties_mergekit, "normalise"),
    },
    "magnitude_prune": {"peft": _entries(dense.magnitude_prune)},
    "dare_linear": {
        "paper": _entries(dense.dare_linear),
        "mergekit": _entries(dense.dare_linear_mergekit, "normalise"),
    },
    "dare_ties": {
        "peft": _entries(dense.dare_ties_peft, "election"),
        "mergekit": _entries(dense.dare_ties_mergekit, "normalise"),
    },
    "della": {
        "paper": _entries(dense.della_paper, "spread"),
        "mergekit": _entries(dense.della_mergekit, "spread", "normalise"),
    },
    "della_linear": {
        "paper": _entries(dense.della_linear_paper, "spread"),
        "mergekit": _entries(dense.della_linear_mergekit, "spread", "normalise"),
    },
    "breadcrumbs": {
        "paper": _entries(dense.breadcrumbs, "outliers"),
        "mergekit": _entries(dense.breadcrumbs, "outliers", "normalise"),
    },
    "breadcrumbs_ties": {"mergekit": _entries(dense.breadcrumbs_ties, "outliers", "normalise")},
    "sce": {"paper": _entries(dense.sce), "mergekit": _entries(dense.sce_mergekit)},
    "core-ties": {
        "paper": _core(core.core_ties_paper, "density"),
        "peft": _core(core.core_ties_peft, "density", "election"),
        "mergekit": _core(core.core_ties_mergekit, "density", "normalise"),
    },
    "core-dare_linear": {"paper": _core(core.core_dare_linear, "density")},
    "core-dare_ties": {"peft": _core(core.core_dare_ties, "density", "election")},
    "core-magnitude_prune": {"peft": _core(core.core_magnitude, "density")},
    "knots-ties": {
        "paper": _core(core.knots_ties_paper, "density"),
        "peft": _core(core.knots_ties_peft, "density", "election"),
        "mergekit": _core(core.knots_ties_mergekit, "density", "normalise"),
    },
    "knots-dare_ties": {"peft": _core(core.knots_dare_ties, "density", "election")},
}


def find_method(text: str) -> tuple[str, str, Method]:
    """(name, dialect, method) of `name` or `name:dialect`.

    Raises:
        InvalidInput: there is none of that name, or not in that dialect.
    """
    name, _, dialect = text.partition(":")
    if name not in METHODS:
        raise InvalidInput(f"there is no method {name[:40]!r}; there are {', '.join(METHODS)}.")
    dialects = METHODS[name]
    chosen = dialect or next(iter(dialects))
    if chosen not in dialects:
        raise InvalidInput(f"{name} has no dialect {chosen[:40]!r}; it has {', '.join(dialects)}.")
    return name, chosen, dialects[chosen]
