"""Every method of composing adapters, by name and dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors import compose_core as core
from adapter_registry.tensors import compose_dense as dense
from adapter_registry.tensors.compose_core import Core
from adapter_registry.tensors.compose_dense import Dense


@dataclass(frozen=True, slots=True)
class Method:
    """One way to compose deltas.

    Attributes:
        core: works on cores; None for those that look at entries.
        dense: works on deltas by rows; None for those that need factors.
        whole: the rank is not cut: all that is in the sum stays.
        normalise: what `normalise` is where nothing is said.
        masks: leaves entries out, and has to be told how many stay.
    """

    core: Core | None = None
    dense: Dense | None = None
    whole: bool = False
    normalise: bool = False
    masks: bool = False


def _entries(dense: Dense) -> Method:
    return Method(dense=dense, masks=True)


def _on_cores(core: Core) -> Method:
    return Method(core, masks=True)


# The first dialect of each name is the one that is meant when none is given.
METHODS: Mapping[str, Mapping[str, Method]] = {
    "linear": {
        "sum": Method(core.weighted_sum, dense.weighted_sum),
        "mergekit": Method(core.weighted_sum, dense.weighted_sum, normalise=True),
    },
    "svd": {"sum": Method(core.weighted_sum, dense.weighted_sum)},
    "cat": {"sum": Method(core.weighted_sum, whole=True)},
    "slerp": {"mergekit": Method(core.slerp)},
    "karcher": {"weighted": Method(core.karcher)},
    "model_stock": {"paper": Method(core.model_stock)},
    "tsv-m": {"paper": Method(core.tsv_merge)},
    "iso-c": {"paper": Method(core.iso_c)},
    "iso-cts": {"paper": Method(core.iso_cts)},
    "ties": {
        "paper": _entries(dense.ties_paper),
        "peft": _entries(dense.ties_peft),
        "mergekit": _entries(dense.ties_mergekit),
    },
    "magnitude_prune": {"peft": _entries(dense.magnitude_prune)},
    "dare_linear": {
        "paper": _entries(dense.dare_linear),
        "mergekit": _entries(dense.dare_linear_mergekit),
    },
    "dare_ties": {
        "peft": _entries(dense.dare_ties_peft),
        "mergekit": _entries(dense.dare_ties_mergekit),
    },
    "della": {
        "paper": _entries(dense.della_paper),
        "mergekit": _entries(dense.della_mergekit),
    },
    "della_linear": {
        "paper": _entries(dense.della_linear_paper),
        "mergekit": _entries(dense.della_linear_mergekit),
    },
    "breadcrumbs": {"paper": _entries(dense.breadcrumbs)},
    "breadcrumbs_ties": {"mergekit": _entries(dense.breadcrumbs_ties)},
    "sce": {"mergekit": _entries(dense.sce)},
    "core-ties": {
        "paper": _on_cores(core.core_ties_paper),
        "peft": _on_cores(core.core_ties_peft),
        "mergekit": _on_cores(core.core_ties_mergekit),
    },
    "core-dare_linear": {"paper": _on_cores(core.core_dare_linear)},
    "core-dare_ties": {"peft": _on_cores(core.core_dare_ties)},
    "core-magnitude_prune": {"peft": _on_cores(core.core_magnitude)},
    "knots-ties": {
        "paper": _on_cores(core.knots_ties_paper),
        "peft": _on_cores(core.knots_ties_peft),
        "mergekit": _on_cores(core.knots_ties_mergekit),
    },
    "knots-dare_ties": {"peft": _on_cores(core.knots_dare_ties)},
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
