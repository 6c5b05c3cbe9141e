"""Several adapters of one base composed into one: modules aligned, composed on all cores, in the form PEFT reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapter_registry.domain.errors import Unsupported
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.tensors.adapter_out import Adapter
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.base_weights import BaseWeights
from adapter_registry.tensors.composing import ia3 as compose_ia3
from adapter_registry.tensors.composing.methods import Method
from adapter_registry.tensors.composing.module import Fitted, Wanted, composed, composed_rows, key_of, sound
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.refusals import Part, refuse
from adapter_registry.tensors.composing.rows import DoraRows, PairRows, Rows
from adapter_registry.tensors.composing.whole import whole
from adapter_registry.tensors.devices import CPU, Device
from adapter_registry.tensors.layers import Layer, Pair
from adapter_registry.tensors.over_modules import Told, each_module


@dataclass(frozen=True, slots=True)
class Composition:
    """An adapter made of others, and how well each of its modules is what was composed."""

    adapter: Adapter
    fits: tuple[ModuleFit, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joint:
    """One module with its layer in each adapter; None in one that leaves it as it is, which is a delta of zero."""

    name: str
    layers: tuple[Layer | None, ...]

    @property
    def first(self) -> Layer:
        """A layer that is there: all that are have the same shape and kind."""
        return next(layer for layer in self.layers if layer is not None)

    @property
    def rank(self) -> int:
        """The largest rank of the module."""
        return max(layer.rank for layer in self.layers if layer is not None)


def compose(  # noqa: PLR0913  every option of a composition
    parts: Sequence[Part],
    method: Method,
    how: How,
    wanted: Wanted,
    *,
    seed: int = 0,
    base: BaseWeights | None = None,
    tell: Told | None = None,
    device: Device = CPU,
) -> Composition:
    """One adapter of several.

    Args:
        parts: opened, all on one base.
        method: of `compose_methods.METHODS`.
        how: its options; weights and keys are filled in here.
        wanted: rank or tolerance, and type.
        seed: of random masks and of iterations.
        base: the base's weights, where a DoRA or modules saved whole need them.
        tell: hears of each module that is done.
        device: where methods that look at entries do it.

    Raises:
        Unsupported: what cannot be composed, all at once.
        InvalidInput: options that the method has no use for.
    """
    refuse(parts)
    how = replace(how, weights=tuple(part.weight for part in parts))
    if method.normalise and how.normalise is None:
        how = replace(how, normalise=True)
    if parts[0].adapter.config.peft_type == "IA3":
        compose_ia3.check(method, ranked=wanted.rank is not None or wanted.tolerance is not None)
        return Composition(*compose_ia3.compose_ia3(parts, how, base, wanted.dtype))
    joints, kept = joined(parts), whole(parts, base)
    work = _Work(parts, method, how, wanted, seed, base, device)
    made = list(each_module(joints, work.fitted, tell))
    if wanted.one_rank:
        most = max(fitted[0].rank for _, fitted in made)
        work = replace(work, wanted=replace(wanted, rank=most, tolerance=None))
        made = list(each_module(joints, work.fitted, tell))
    tensors, ranks, fits = dict(kept.arrays), dict[str, int](), []
    for joint, fitted in made:
        tensors.update(tensors_of(joint.first, fitted))
        ranks[joint.name] = fitted[0].rank
        fits.append(fit_of(joint.name, fitted))
    config = config_of(parts, joints)
    adapter = Adapter(tensors, ranks, config, readme="", dtype=wanted.dtype, dtypes=kept.dtypes)
    return Composition(adapter, tuple(sorted(fits, key=lambda fit: fit.name)), kept.notices)


def joined(parts: Sequence[Part]) -> tuple[Joint, ...]:
    """Every module that any of the adapters changes, by name.

    Raises:
        Unsupported: a module has another shape in one of them, as with another vocabulary.
    """
    by_part = [{layer.name: layer for layer in part.adapter.layers} for part in parts]
    joints = []
    for name in sorted(set().union(*by_part)):
        joint = Joint(name, tuple(layers.get(name) for layers in by_part))
        there = [layer for layer in joint.layers if layer is not None]
        shapes = {(layer.shape, layer.kind, layer.experts) for layer in there}
        if len(shapes) > 1:
            told = ", ".join(f"{shape[0]} x {shape[1]} ({kind})" for (shape, kind, _) in sorted(shapes, key=str))
            raise Unsupported(f"{name} is {told} in these adapters; they cannot be composed. Nothing was written.")
        joints.append(joint)
    return tuple(joints)


@dataclass(frozen=True, slots=True)
class _Work:
    """What composing each module takes."""

    parts: Sequence[Part]
    method: Method
    how: How
    wanted: Wanted
    seed: int
    base: BaseWeights | None
    device: Device

    def fitted(self, joint: Joint) -> list[Fitted]:
        """Each matrix of a module, all of one rank."""
        wanted = self.wanted
        if wanted.rank is None and wanted.tolerance is None and not self.method.whole:
            wanted = replace(wanted, rank=joint.rank)
        experts = range(joint.first.experts)
        made = sound(joint.name, wanted.dtype, lambda: [self._matrix(joint, each, wanted) for each in experts])
        rank = max(each.rank for each in made)
        return [each.padded(rank) for each in made]

    def _matrix(self, joint: Joint, expert: int, wanted: Wanted) -> Fitted:
        keys = tuple(key_of(self.seed, joint.name, str(expert), part.name) for part in self.parts)
        how = replace(self.how, keys=keys)
        if not any(layer and "lora_magnitude_vector" in layer.place.layer.parts for layer in joint.layers):
            pairs = [_pair(layer, joint, expert) for layer in joint.layers]
            return composed(pairs, self.method, how, wanted, device=self.device)
        deltas = [self._rows(layer, joint) for layer in joint.layers]
        return composed_rows(deltas, self.method, how, wanted, name=joint.name, device=self.device)

    def _rows(self, layer: Layer | None, joint: Joint) -> Rows:
        low = PairRows(_pair(layer, joint, 0))
        magnitude = layer.read("lora_magnitude_vector") if layer else None
        if layer is None or magnitude is None:
            return low
        if self.base is None or layer.tensor is None or layer.kind != "linear":
            raise Unsupported(
                f"{layer.name} is a DoRA's {layer.kind} layer: what it adds depends on the base's weights. "
                "Name the folder that holds them with --base-path; layers that are not plain linear ones cannot be "
                "composed. Nothing was written."
            )
        return DoraRows(low, self.base.rows(layer.tensor.name), magnitude.ravel())


def _pair(layer: Layer | None, joint: Joint, expert: int) -> Pair:
    if layer is not None:
        return layer.pair(expert)
    rows, columns = joint.first.shape
    return Pair(np.zeros((rows, 0), dtype=np.float32), np.zeros((0, columns), dtype=np.float32), 0.0)


def fit_of(name: str, fitted: Sequence[Fitted]) -> ModuleFit:
    """The error of all matrices of a module together."""
    norm = math.sqrt(sum(each.norm**2 for each in fitted))
    error = math.sqrt(sum(each.error**2 for each in fitted))
    return ModuleFit(name, fitted[0].rank, norm, error / norm if norm else 0.0)


def tensors_of(layer: Layer, fitted: Sequence[Fitted]) -> Mapping[str, Float32]:
    """The two tensors that PEFT saves for a module; what `Layer.pair` undoes."""
    down_key, up_key = layer.place.layer.down, layer.place.layer.up
    assert down_key is not None and up_key is not None  # noqa: S101, PT018  intake refuses one factor alone
    swapped = layer.kind in ("transposed", "embedding", "experts-transposed")
    ups = [each.down.T if swapped else each.up for each in fitted]
    downs = [each.up.T if swapped else each.down for each in fitted]
    up = np.stack(ups, axis=2).reshape(ups[0].shape[0], -1)
    down = np.concatenate(downs)
    rank = fitted[0].rank
    if layer.kind == "convolution":
        down = down.reshape(rank, *down_key.entry.shape[1:])
        up = up.reshape(up.shape[0], rank, *up_key.entry.shape[2:])
    return {
        down_key.entry.name: np.ascontiguousarray(down, dtype=np.float32),
        up_key.entry.name: np.ascontiguousarray(up, dtype=np.float32),
    }


def config_of(parts: Sequence[Part], joints: Sequence[Joint]) -> dict[str, Any]:
    """What the composed config has from those of its parts; targets are the modules by their whole paths."""
    configs = [part.adapter.config for part in parts]
    biases = {config.bias for config in configs}
    parameters = next((config.target_parameters for config in configs if config.target_parameters), ())
    saved = sorted({name for config in configs for name in config.modules_to_save})
    tokens = next((c.trainable_token_indices for c in configs if c.trainable_token_indices), None)
    found: dict[str, Any] = {
        "task_type": next((config.task_type for config in configs if config.task_type), None),
        "base_model_name_or_path": configs[0].base_model_name_or_path,
        "revision": configs[0].revision,
        "bias": next((bias for bias in ("all", "lora_only") if bias in biases), "none"),
        "fan_in_fan_out": any(config.fan_in_fan_out for config in configs),
        "ensure_weight_tying": any(config.ensure_weight_tying for config in configs),
        "target_modules": sorted(joint.name for joint in joints if not joint.first.place.parameter),
        "modules_to_save": saved or None,
    }
    if parameters:
        found["target_parameters"] = list(parameters)
    if tokens:
        found["trainable_token_indices"] = list(tokens[""]) if "" in tokens else {k: list(v) for k, v in tokens.items()}
    return found
