"""What a flattened adapter is written as: its layers; stacks of experts as the modules that the base keeps them in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adapter_registry.domain.servable_experts import GATED
from adapter_registry.tensors.layers import Layer, Pair
from adapter_registry.tensors.loaded import Loaded


@dataclass(frozen=True, slots=True)
class Piece:
    """A pair of factors as it is written.

    Attributes:
        layer: that it is of.
        module: live path of the module; of a parameter that stays one, its live name.
        named: what a config calls the module.
        down: name of the factor that reads the input.
        expert: of which matrix of a stack it is; None for all of the layer.
        rows: first and last of that matrix, which has more than one module.
    """

    layer: Layer
    module: str
    named: str
    down: str
    expert: int | None = None
    rows: tuple[int, int] = (0, 0)

    def pairs(self) -> Iterator[Pair]:
        """What it adds, matrix by matrix."""
        if self.expert is None:
            layer = self.layer.remembering()
            yield from (layer.pair(each) for each in range(layer.experts))
        else:
            yield self.layer.pair(self.expert).rows(*self.rows)


def pieces_of(adapter: Loaded) -> tuple[Piece, ...]:
    """The pieces, in order of the layers: stacks as single modules where the base keeps all of them so."""
    stacks = [layer for layer in adapter.layers if layer.place.parameter]
    split = {layer.name: tuple(_modules(layer, adapter)) for layer in stacks}
    if not all(split.values()):
        split = {}
    return tuple(piece for layer in adapter.layers for piece in split.get(layer.name, ()) or (_whole(layer),))


def _whole(layer: Layer) -> Piece:
    down = layer.place.layer.down
    if down is None:
        raise ValueError(f"{layer.name} has one factor only; intake refuses that")
    return Piece(layer, layer.name, layer.name, down.entry.name)


def _modules(layer: Layer, adapter: Loaded) -> Iterator[Piece]:
    """The modules of a stack, expert by expert; none where the base keeps a stack, or one half is not adapted."""
    path, _, leaf = layer.name.rpartition(".")
    tensors, there = adapter.subject.modules.tensors, {each.name for each in adapter.layers}
    names = next((each for each in GATED if f"{path}.0.{each[0]}.weight" in tensors), None)
    whole = {f"{path}.gate_up_proj", f"{path}.down_proj"} <= there
    if names is None or layer.kind != "experts" or not whole:
        return
    stack, kinds = layer.remembering(), names[:2] if leaf == "gate_up_proj" else names[2:]
    for expert in range(layer.experts):
        first = 0
        for kind in kinds:
            tensor = tensors[f"{path}.{expert}.{kind}.weight"]
            last = first + tensor.shape[0]
            named = tensor.name.removesuffix(".weight")
            down = f"base_model.model.{named}.lora_A.weight"
            yield Piece(stack, f"{path}.{expert}.{kind}", named, down, expert, (first, last))
            first = last
