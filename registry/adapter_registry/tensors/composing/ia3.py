"""IA3 adapters composed: a vector for each module, which a weighted sum of deltas leaves a vector, without an error.

An IA3 multiplies the rows or columns of W by l, so that its delta is (l - 1) ∘ W, and Σ w_i · (l_i - 1) ∘ W is that of
l = 1 + Σ w_i · (l_i - 1): the base's weights are not asked. PEFT's `linear` takes Σ w_i · l_i, which is the same where
the weights sum to 1, and scales the base's own weights where they do not.

Source: IA3, arXiv:2205.05638 §3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.ia3 import PART
from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.tensors.adapter_out import Adapter
from adapter_registry.tensors.arrays import Float32, as_float32, as_stored
from adapter_registry.tensors.base_weights import BaseWeights
from adapter_registry.tensors.composing.core import weighted_sum
from adapter_registry.tensors.composing.dense import total
from adapter_registry.tensors.composing.methods import Method
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.refusals import Part
from adapter_registry.tensors.composing.whole import whole

Made = tuple[Adapter, tuple[ModuleFit, ...], tuple[str, ...]]
"""What `compose.Composition` holds."""


def check(method: Method, *, ranked: bool) -> None:
    """Refuse what IA3 has no use for.

    Raises:
        Unsupported: a method that is no weighted sum.
        InvalidInput: a rank.
    """
    if method.core is not weighted_sum:
        raise Unsupported(
            "IA3 adapters are vectors that multiply weights: a weighted sum of them is one, other methods work on "
            "low-rank deltas. Nothing was written. Take --method linear."
        )
    if ranked:
        raise InvalidInput("IA3 adapters are vectors and have no rank: leave --rank out.")


def compose_ia3(parts: Sequence[Part], how: How, base: BaseWeights | None, dtype: str) -> Made:
    """One IA3 of several.

    Args:
        parts: all IA3.
        how: with weights; `scale` and `normalise` are heeded.
        base: the base's weights, where modules saved whole need them.
        dtype: of the vectors.

    Raises:
        Unsupported: a module that one adapter scales by what it reads and another by what it writes.
        InvalidInput: a vector too large for the type.
    """
    share = how.scale / (total(how.weights) if how.normalise else 1.0)
    held: dict[str, list[tuple[Part, Key]]] = {}
    for part in parts:
        for key in part.adapter.subject.keys:
            if key.part == PART:
                held.setdefault(key.module, []).append((part, key))
    kept = whole(parts, base)
    tensors, dtypes, fits = dict(kept.arrays), dict(kept.dtypes), list[ModuleFit]()
    for module, holders in sorted(held.items()):
        vector, fit = _summed(module, holders, share, dtype)
        tensors[holders[0][1].entry.name] = vector
        fits.append(fit)
    reads = sorted(module for module, holders in held.items() if holders[0][1].entry.shape[0] == 1)
    adapter = Adapter(tensors, {}, _config(parts, sorted(held), reads), readme="", dtype=dtype, dtypes=dtypes)
    notice = "norms and errors of modules are of the vectors' difference from 1"
    return adapter, tuple(fits), (notice, *kept.notices)


def _summed(module: str, holders: Sequence[tuple[Part, Key]], share: float, dtype: str) -> tuple[Float32, ModuleFit]:
    shapes = {key.entry.shape for _, key in holders}
    if len(shapes) > 1:
        told = " and ".join(f"{part.name} has {list(key.entry.shape)}" for part, key in holders)
        raise Unsupported(
            f"{module}: one adapter scales what it reads and another what it writes ({told}); their sum is no vector. "
            "Nothing was written. Leave one of them out."
        )
    change = sum(part.weight * share * (part.adapter.array(key).astype(np.float64) - 1) for part, key in holders)
    exact = 1 + np.asarray(change)
    with np.errstate(over="ignore"):
        vector = as_float32(as_stored(exact.astype(np.float32), dtype), dtype)
    if not np.isfinite(vector).all():
        raise InvalidInput(f"{module}: this vector has numbers too large for {dtype}; nothing was written.")
    norm = float(np.linalg.norm(change))
    error = float(np.linalg.norm(vector - exact)) / norm if norm and dtype != "F32" else 0.0
    return vector, ModuleFit(module, 0, norm, error)


def _config(parts: Sequence[Part], modules: Sequence[str], reads: Sequence[str]) -> dict[str, object]:
    configs = [part.adapter.config for part in parts]
    saved = sorted({name for config in configs for name in config.modules_to_save})
    return {
        "peft_type": "IA3",
        "task_type": next((config.task_type for config in configs if config.task_type), None),
        "base_model_name_or_path": configs[0].base_model_name_or_path,
        "revision": configs[0].revision,
        "inference_mode": True,
        "target_modules": list(modules),
        "feedforward_modules": list(reads),
        "fan_in_fan_out": any(config.fan_in_fan_out for config in configs),
        "modules_to_save": saved or None,
        "init_ia3_weights": True,
    }
