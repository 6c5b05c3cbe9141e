"""A fully fine-tuned checkpoint taken apart into a LoRA of its base, module by module, with the error of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adapter_registry.checkpoints.adapter_keys import WRAPPER
from adapter_registry.checkpoints.modules import OUTPUT_HEAD, Modules, modules_of
from adapter_registry.checkpoints.naming import namings
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput, Problem, Unsupported
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.tensors.adapter_out import Adapter
from adapter_registry.tensors.arrays import FLOATS, Float32
from adapter_registry.tensors.base_weights import BaseWeights
from adapter_registry.tensors.composing.compose import Composition, fit_of
from adapter_registry.tensors.composing.module import Fitted, Wanted, fit_dense, key_of, sound
from adapter_registry.tensors.composing.rows import Difference, Moved, Rows, by_rows
from adapter_registry.tensors.composing.sparsify import everything
from adapter_registry.tensors.devices import CPU, Device
from adapter_registry.tensors.over_modules import Told, each_module

Same = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """A matrix that a fine-tune changed: live path of its module, and the name of the tensor."""

    name: str
    tensor: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a fine-tune changed.

    Attributes:
        linear: modules with a matrix that a LoRA can change.
        whole: modules that are saved whole: norms, embeddings.
        biases: modules of which only, or also, the bias changed.
        left: names of other parameters: no adapter can carry them.
    """

    linear: tuple[Change, ...]
    whole: tuple[str, ...]
    biases: tuple[str, ...]
    left: tuple[str, ...]


def extract(  # noqa: PLR0913  every option of an extraction
    tuned: BaseWeights,
    base: BaseWeights,
    table: Base,
    wanted: Wanted,
    *,
    seed: int = 0,
    leave_out: bool = False,
    tell: Told | None = None,
    device: Device = CPU,
) -> Composition:
    """An adapter of the base whose deltas are nearest to what the fine-tune changed.

    Args:
        tuned: the fine-tuned checkpoint.
        base: what it was trained from.
        table: the base's table of tensors.
        wanted: rank or tolerance, and type.
        seed: of the subspace iteration.
        leave_out: leave out what an adapter cannot carry, told in a notice, instead of refusing.
        tell: hears of each module that is done.
        device: where factors are found; what changed at all is seen by the processor.

    Raises:
        InvalidInput: the checkpoint has other tensors than the base, or is the base.
        Unsupported: it changed what no adapter can carry.
    """
    modules = modules_of(table, next(namings(table, [])))
    more = _more_tensors(tuned, table, leave_out=leave_out)
    changes = changes_of(modules, lambda name: _unchanged(tuned, base, name))
    if changes.left and not leave_out:
        _refuse(changes.left)
    if not (changes.linear or changes.whole or changes.biases):
        raise InvalidInput("the checkpoint is its base, tensor by tensor: there is nothing to extract.")
    tensors: dict[str, Float32] = dict(_kept(changes, modules, tuned))
    ranks, fits = dict[str, int](), list[ModuleFit]()
    work = _Work(tuned, base, wanted, seed, device)
    for change, fitted in each_module(changes.linear, work.fitted, tell):
        swapped = modules.conv1d and not OUTPUT_HEAD.fullmatch(change.name)
        ups = (fitted.down.T, fitted.up.T) if swapped else (fitted.up, fitted.down)
        tensors[f"{WRAPPER}{change.name}.lora_B.weight"] = np.ascontiguousarray(ups[0])
        tensors[f"{WRAPPER}{change.name}.lora_A.weight"] = np.ascontiguousarray(ups[1])
        ranks[change.name] = fitted.rank
        fits.append(fit_of(change.name, [fitted]))
    config = {
        "task_type": "CAUSAL_LM" if "CausalLM" in (table.architecture or "") else None,
        "base_model_name_or_path": table.repository,
        "bias": "all" if changes.biases else "none",
        "fan_in_fan_out": modules.conv1d,
        "target_modules": sorted(ranks),
        "modules_to_save": list(changes.whole) or None,
    }
    notices = [f"{path}: saved whole" for path in changes.whole]
    notices += [f"{path}.bias: saved" for path in changes.biases]
    notices += [f"{name}: changed, and left out" for name in changes.left]
    notices += [f"{name}: not in the base, and left out" for name in more]
    adapter = Adapter(tensors, ranks, config, readme="", dtype=wanted.dtype)
    return Composition(adapter, tuple(sorted(fits, key=lambda fit: fit.name)), tuple(notices))


def changes_of(modules: Modules, unchanged: Same) -> Changes:
    """What differs, sorted by what an adapter can do about it."""
    linear, whole, biases, left = list[Change](), set[str](), list[str](), list[str]()
    for name, tensor in sorted(modules.tensors.items()):
        if unchanged(tensor.name):
            continue
        if tensor.dtype not in FLOATS:
            left.append(name)
            continue
        path, _, leaf = name.rpartition(".")
        module = modules.by_path.get(path)
        embedding = module is not None and module.embedding
        if module is not None and leaf == "weight" and len(tensor.shape) == 2 and not embedding:
            linear.append(Change(path, tensor.name))
        elif module is not None and leaf == "bias" and len(module.shape or ()) == 2:
            biases.append(path)
        elif module is not None and (len(module.shape or ()) == 1 or (embedding and not modules.tied)):
            whole.add(path)
        else:
            left.append(name)
    return Changes(tuple(linear), tuple(sorted(whole)), tuple(biases), tuple(left))


def _kept(changes: Changes, modules: Modules, tuned: BaseWeights) -> Iterator[tuple[str, Float32]]:
    adapted = {change.name for change in changes.linear}
    for path in changes.whole:
        for leaf in ("weight", "bias"):
            tensor = modules.tensors.get(f"{path}.{leaf}")
            if tensor is not None:
                yield f"{WRAPPER}{path}.{leaf}", tuned.array(tensor.name)
    for path in changes.biases:
        inner = "base_layer.bias" if path in adapted else "bias"
        yield f"{WRAPPER}{path}.{inner}", tuned.array(modules.tensors[f"{path}.bias"].name)


def _more_tensors(tuned: BaseWeights, table: Base, *, leave_out: bool) -> tuple[str, ...]:
    """Tensors that the base does not have; all of the base's have to be there, in their shapes."""
    wanted, there = {tensor.name: tensor.shape for tensor in table.tensors}, set(tuned.names)
    told = [f"{name} is missing" for name in sorted(wanted.keys() - there)]
    more = tuple(sorted(there - wanted.keys()))
    told += [] if leave_out else [f"{name} is not in the base" for name in more]
    shapes = {name: tuned.file(name).entries[name].shape for name in sorted(there & wanted.keys())}
    told += [f"{name} is {list(s)}, not {list(wanted[name])}" for name, s in shapes.items() if s != wanted[name]]
    if told:
        others = f" and {len(told) - 5} more" if len(told) > 5 else ""
        raise InvalidInput(
            f"the checkpoint has other tensors than the base: {'; '.join(told[:5])}{others}. Nothing was written. "
            "Extract from a fine-tune of this base with the same vocabulary and names; --leave-out leaves out tensors "
            "that the base does not have."
        )
    return more


def _refuse(left: Sequence[str]) -> None:
    fix = "Add --leave-out to extract an adapter without it."
    problems = [
        Problem("cannot-extract", "", name, "a linear weight, a norm, a bias or an untied embedding", "changed", fix)
        for name in left
    ]
    listed = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
    raise Unsupported(
        f"the fine-tune changed what no adapter carries: {listed}. Nothing was written. Add --leave-out to extract an "
        "adapter without them.",
        problems=problems,
    )


def _unchanged(tuned: BaseWeights, base: BaseWeights, name: str) -> bool:
    """Whether a tensor has the same values; the same bytes are quickest to see, and all that is asked of no floats."""
    one, other = tuned.file(name), base.file(name)
    kinds = {one.entries[name].dtype, other.entries[name].dtype}
    if len(kinds) == 1 and np.array_equal(one.raw(name), other.raw(name)):
        return True
    return kinds <= FLOATS and np.array_equal(one.array(name), other.array(name))


@dataclass(frozen=True, slots=True)
class _Work:
    tuned: BaseWeights
    base: BaseWeights
    wanted: Wanted
    seed: int
    device: Device

    def fitted(self, change: Change) -> Fitted:
        """The factors of what changed in a module; the difference is held whole while they are found."""
        rows: Rows = Difference(self.tuned.rows(change.tensor), self.base.rows(change.tensor))
        if self.device != CPU:
            rows = Moved(rows, self.device)
        exact = by_rows([rows], [everything], lambda stack: stack[0])
        key = key_of(self.seed, change.name)
        return sound(change.name, self.wanted.dtype, lambda: [fit_dense(exact, self.wanted, key=key)])[0]
