"""What adapters hold beside deltas (modules saved whole, biases, trained tokens): kept, summed or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapter_registry.checkpoints.adapter_keys import WRAPPER, Key
from adapter_registry.checkpoints.full_weights import in_base
from adapter_registry.domain.errors import Unsupported
from adapter_registry.tensors.arrays import COUNT, Float32
from adapter_registry.tensors.base_weights import BaseWeights
from adapter_registry.tensors.composing.refusals import Part


@dataclass(frozen=True, slots=True)
class Whole:
    """The tensors that a composed adapter holds beside its factors.

    Attributes:
        arrays: by the name they are saved under.
        dtypes: stored types by name, where they stay as they were.
        notices: how each came about, for people.
    """

    arrays: dict[str, Float32]
    dtypes: dict[str, str]
    notices: tuple[str, ...]


def whole(parts: Sequence[Part], base: BaseWeights | None) -> Whole:
    """The full parameters of all adapters in one.

    One that a single adapter has, or that is the same in all that have it, is kept as it is: its weight is not applied,
    and a notice says so. Others are W + Σ w_i · (X_i - W), where W is the base's tensor.

    Raises:
        Unsupported: several differ, and the base's bytes are not at hand or the base has no such tensor.
    """
    targeted = {layer.name for part in parts for layer in part.adapter.layers}
    held: dict[tuple[str, str], list[tuple[Part, Key]]] = {}
    for part in parts:
        for key in part.adapter.subject.keys:
            if not key.method or key.part == "token_delta":
                held.setdefault((key.module, key.part), []).append((part, key))
    made = Whole({}, {}, ())
    notices = []
    for (module, leaf), holders in sorted(held.items()):
        arrays = [_values(part, key) for part, key in holders]
        (first, key), same = holders[0], all(np.array_equal(arrays[0], each) for each in arrays[1:])
        name = _name(holders, wrapped=module in targeted)
        if same:
            made.arrays[name], made.dtypes[name] = arrays[0], key.entry.dtype
            if not (key.base_layer and leaf == "weight"):
                notices.append(f"{module}.{leaf}: kept whole as {first.name} has it")
        elif key.entry.dtype == COUNT:
            made.arrays[name], made.dtypes[name] = max(arrays, key=np.max), COUNT
            notices.append(f"{module}.{leaf}: the largest count of {len(holders)}")
        else:
            made.arrays[name] = _summed(holders, arrays, base)
            notices.append(f"{module}.{leaf}: base + weighted sum of {len(holders)} differences from it")
    return Whole(made.arrays, made.dtypes, tuple(notices))


def _values(part: Part, key: Key) -> Any:
    return part.adapter.weights.count(key.entry.name) if key.entry.dtype == COUNT else part.adapter.array(key)


def _name(holders: Sequence[tuple[Part, Key]], *, wrapped: bool) -> str:
    """What a parameter is saved as: one of a module that is adapted now lies under its `base_layer`."""
    _, key = next((each for each in holders if each[1].base_layer), holders[0])
    if wrapped and not key.base_layer and not key.method:
        return f"{WRAPPER}{key.path}.base_layer.{key.part}"
    return key.entry.name


def _summed(holders: Sequence[tuple[Part, Key]], arrays: Sequence[Float32], base: BaseWeights | None) -> Float32:
    part, key = holders[0]
    told = f"{key.module}.{key.part} is saved whole in {' and '.join(each.name for each, _ in holders)}, and differs"
    if key.part == "token_delta" or len({array.shape for array in arrays}) > 1:
        raise Unsupported(f"{told}; it cannot be added up. Leave out all adapters but one that has it.")
    tensor = in_base(key, part.adapter.subject.modules)
    if tensor is None or tensor.shape != arrays[0].shape:
        raise Unsupported(
            f"{told}; the base has no such tensor, so there is nothing that they could be differences from. "
            "Leave out all adapters but one that has it."
        )
    if base is None:
        raise Unsupported(
            f"{told}; adding up their differences takes the base's weights. Name the folder that holds them with "
            "--base-path, or leave out all adapters but one that has it."
        )
    weight = base.array(tensor.name).astype(np.float64)
    total = weight.copy()
    for (holder, _), array in zip(holders, arrays, strict=True):
        total += holder.weight * (array - weight)
    return total.astype(np.float32)
