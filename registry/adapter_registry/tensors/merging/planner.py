"""Which tensors of a base some adapters change when they are merged into it, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.base_folder import Opened
from adapter_registry.checkpoints.full_weights import declared_by, in_base, is_embedding
from adapter_registry.checkpoints.ia3 import PART as IA3_PART
from adapter_registry.checkpoints.modules import OUTPUT_HEAD
from adapter_registry.domain.base import Base, Tensor
from adapter_registry.domain.errors import Problem, Unsupported
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.layers import Layer, Pair
from adapter_registry.tensors.loaded import Loaded
from adapter_registry.tensors.merging.blocks import ITEM
from adapter_registry.tensors.merging.edits import Edit, Part, Rows, Scaling
from adapter_registry.tensors.merging.heads import SHARED, head_of, shared_embedding, untied
from adapter_registry.tensors.merging.plan import Decode, Origin, Plan, cannot

_HALVES = {"gate_up_proj": (("gate_proj", "w1"), ("up_proj", "w3")), "down_proj": (("down_proj", "w2"),)}
"""Parameter that the live model makes of single experts -> what its rows are made of, by either of two names."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """An adapter, what people call it, and with which weight it goes in."""

    loaded: Loaded
    weight: float
    name: str


def plan_of(base: Base, opened: Opened, adapters: list[Weighed], *, decoders: Mapping[str, Decode]) -> Plan:
    """What merging these adapters into their base does to each tensor; `decoders` are of those that are packed.

    Raises:
        Unsupported: something of them cannot be merged; `problems` has every reason.
    """
    entries = ((path, entry) for path, header in opened.files for entry in header.tensors)
    plan = Plan({entry.name: Origin(path, entry, decoders.get(entry.name)) for path, entry in entries})
    problems: list[Problem] = []
    for each in adapters:
        _Planner(plan, base, each, problems).add()
    if not problems and not plan.edits and not plan.replaced:
        problems.append(cannot(adapters[0].name, "", "something that changes weights", "nothing of the kind"))
    if problems:
        listed = "; ".join(map(str, problems[:4]))
        raise Unsupported(f"this cannot be merged: {listed} Nothing was written.", problems=problems)
    return plan


class _Planner:
    """Adds one adapter to a plan."""

    def __init__(self, plan: Plan, base: Base, adapter: Weighed, problems: list[Problem]) -> None:
        self._plan, self._base, self._problems = plan, base, problems
        self._loaded, self._weight, self._name = adapter.loaded, adapter.weight, adapter.name
        self._config, self._modules = adapter.loaded.config, adapter.loaded.subject.modules
        self._mine: dict[str, str] = {}
        embedding = self._modules.input_embedding()
        self._embedding = self._modules.tensors[embedding.weight].name if embedding else ""

    def add(self) -> None:
        """Add everything of it; what cannot be goes to the problems."""
        self._full_parameters()
        for layer in self._loaded.layers:
            self._layer(layer)
        for key in self._loaded.subject.keys:
            if key.part == IA3_PART:
                self._ia3(key)
            elif key.part == "token_delta":
                self._tokens(key)

    def _refuse(self, field_: str, expected: str, found: str, fix: str = "") -> None:
        self._problems.append(cannot(self._name, field_, expected, found, fix))

    def _edit(self, tensor: str, name: str) -> Edit:
        return self._plan.edits.setdefault(tensor, Edit(name))

    # Low-rank layers

    def _layer(self, layer: Layer) -> None:
        if self._tied_twin(layer.name):
            return
        if layer.experts > 1 and layer.tensor is None:
            self._single_experts(layer)
            return
        tensor = self._tensor_of(layer)
        if tensor is None:
            return
        layer = layer.remembering()
        edit = self._edit(tensor, layer.name)
        edit.stacked = layer.experts > 1
        _, rows, columns = edit.matrices(self._plan.origins[tensor].entry.shape)
        if layer.shape != (rows, columns):
            found = f"a delta of {list(layer.shape)}"
            self._refuse(layer.name, f"a delta of {[rows, columns]}, the weight's size", found)
            return
        for number in range(layer.experts):
            edit.parts.setdefault(number, []).append(self._part(layer, partial(layer.pair, number)))
        self._bias_of(layer)

    def _part(self, layer: Layer, pair: Callable[[], Pair]) -> Part:
        if not self._config.use_dora or layer.experts > 1:
            return Part(self._weight, pair)
        across = layer.kind in ("transposed", "embedding")
        return Part(self._weight, pair, partial(layer.required, "lora_magnitude_vector"), across)

    def _tensor_of(self, layer: Layer) -> str | None:
        """The tensor of the result that a layer changes; an output head that was tied gets one of its own."""
        head = OUTPUT_HEAD.fullmatch(layer.name) is not None
        if head and self._base.tied:
            name = self._untied_head(layer.name)
            return self._claim(name, layer.name) if name else None
        if shared_embedding(self._modules, layer.name):
            self._refuse(layer.name, "an embedding that PEFT changes wherever it is used", SHARED)
            return None
        if layer.tensor is None:
            self._refuse(layer.name, "a weight that the base stores as one tensor", "none")
            return None
        if self._base.tied and layer.tensor.name == self._embedding and not self._config.ensure_weight_tying:
            self._untied_head()
        return self._claim(layer.tensor.name, layer.name)

    def _claim(self, tensor: str, name: str) -> str | None:
        """The tensor, unless another module of this adapter changes it already: they would be added up."""
        other = self._mine.setdefault(tensor, name)
        if other != name:
            self._refuse(name, "a weight of its own", f"{tensor}, which {other} changes too")
            return None
        if self._dtype(tensor) not in ITEM:
            self._refuse(name, f"a weight stored as one of {', '.join(ITEM)}", self._dtype(tensor))
            return None
        return tensor

    def _dtype(self, tensor: str) -> str:
        return self._plan.origins[tensor].entry.dtype

    def _tied_twin(self, path: str) -> bool:
        """Whether a layer is the head's copy of what the tied embedding has too, as `ensure_weight_tying` saves it."""
        return bool(self._config.ensure_weight_tying and self._base.tied and OUTPUT_HEAD.fullmatch(path))

    def _untied_head(self, path: str | None = None) -> str | None:
        """Give the output head, tied until now, a tensor that begins as the embedding; its name, None without one.

        Args:
            path: of the head, where the adapter names it.
        """
        try:
            head = head_of(self._base, self._modules, self._config.task_type, path)
        except LookupError as error:
            self._refuse(path or self._embedding, "a head that can be stored apart from the embedding", str(error))
            return None
        return untied(self._plan, self._modules, self._embedding, head) if head else None

    def _bias_of(self, layer: Layer) -> None:
        if layer.read("lora_B.bias") is None:
            return
        bias = self._modules.tensors.get(f"{layer.name}.bias")
        if bias is None:
            expected = "a bias in the base, to add the adapter's to (lora_bias)"
            self._refuse(layer.name, expected, "a layer without one", "PEFT cannot merge it either: load it instead.")
            return

        def added() -> Float32:
            return np.float32(layer.scale) * layer.required("lora_B.bias")

        self._edit(bias.name, f"{layer.name}.bias").added.append((self._weight, added))

    def _single_experts(self, layer: Layer) -> None:
        """Spread the delta of a fused stack over experts that are stored one by one."""
        stack, _, leaf = layer.name.rpartition(".")
        halves = _HALVES.get(leaf, ((leaf,),))
        layer = layer.remembering()
        for number in range(layer.experts):
            first = 0
            for names in halves:
                tensor = self._expert(stack, number, names)
                if tensor is None:
                    self._refuse(layer.name, f"expert {number} in the base", f"none of {', '.join(names)}")
                    return
                last = first + tensor.shape[0]
                if layer.kind != "experts" or layer.shape[1] != tensor.shape[1] or last > layer.shape[0]:
                    self._refuse(layer.name, f"factors that fit expert {number}", f"{list(layer.shape)}")
                    return
                pair = partial(_some_rows, layer, number, first, last)
                self._edit(tensor.name, layer.name).parts.setdefault(0, []).append(Part(self._weight, pair))
                first = last

    def _expert(self, stack: str, number: int, names: tuple[str, ...]) -> Tensor | None:
        found = (self._modules.tensors.get(f"{stack}.{number}.{name}.weight") for name in names)
        return next((tensor for tensor in found if tensor), None)

    # Everything else

    def _full_parameters(self) -> None:
        for key in self._loaded.full:
            if self._tied_twin(key.module):
                continue
            declared = declared_by(key.module, self._config) is not None
            stored = in_base(key, self._modules)
            if stored is not None and not declared and is_embedding(key.module):
                self._saved_whole(key, stored)
            else:
                self._replace(key, stored)

    def _saved_whole(self, key: Key, stored: Tensor) -> None:
        """An embedding that was saved because it was targeted or resized: the base's own, but for the rows."""
        if key.entry.shape == stored.shape:
            return
        self._plan.resized = key.entry.shape[0]
        if not (self._base.tied and OUTPUT_HEAD.fullmatch(key.module)):
            self._plan.origins[stored.name] = self._origin(key)
            self._plan.replaced[stored.name] = self._name

    def _replace(self, key: Key, stored: Tensor | None) -> None:
        live = f"{key.module}.{key.part}"
        name = stored.name if stored else live
        if shared_embedding(self._modules, key.module):
            self._refuse(live, "an embedding that PEFT changes wherever it is used", SHARED)
            return
        if self._weight != 1:
            self._refuse(live, "weight 1, as it replaces the base's values", f"{self._weight:g}")
        if self._base.tied and stored is not None and key.part == "weight":
            if OUTPUT_HEAD.fullmatch(key.module):
                name = self._untied_head(key.module) or name
            elif stored.name == self._embedding and not self._config.ensure_weight_tying:
                self._untied_head()
        other = self._plan.replaced.setdefault(name, self._name)
        if other != self._name:
            fix = "Merge one of them only."
            self._refuse(live, "one adapter that replaces it", f"{other} does too", fix)
        if stored is None and key.part == "weight":
            self._plan.heads[live] = key.entry.shape[0]
            self._plan.tasks.add(self._config.task_type or "")
        if stored is not None and key.entry.shape != stored.shape and is_embedding(key.module):
            self._plan.resized = key.entry.shape[0]
        self._plan.origins[name] = self._origin(key)

    def _origin(self, key: Key) -> Origin:
        return Origin(self._loaded.weights.path, key.entry)

    def _tokens(self, key: Key) -> None:
        indices = self._config.trainable_token_indices or {}
        ids = next((ids for name, ids in indices.items() if not name or key.module.endswith(name)), ())
        module = self._modules.find(key.module)
        if module is None or self._weight != 1:
            self._refuse(key.module, "weight 1, as trained tokens replace rows", f"{self._weight:g}")
            return
        rows = Rows(ids, partial(self._loaded.array, key))
        names = [self._modules.tensors[module.weight].name]
        if self._plan.untied and names[0] == self._embedding:
            names.append(self._untied_head() or names[0])
        for name in names:
            edit = self._edit(name, key.module)
            if any(set(each.ids) & set(ids) for each in edit.rows):
                self._refuse(key.module, "tokens that one adapter trained", "two adapters that trained the same")
            edit.rows.append(rows)

    def _ia3(self, key: Key) -> None:
        module = self._modules.find(key.module)
        if module is None or module.shape is None or len(module.shape) != 2:
            self._refuse(key.module, "a linear layer", "another kind of weight")
            return
        tensor = self._claim(self._modules.tensors[module.weight].name, key.module)
        if tensor is None:
            return
        swapped = self._modules.conv1d and not OUTPUT_HEAD.fullmatch(key.module)
        vector = partial(_vector, self._loaded, key, swapped)
        self._edit(tensor, key.module).scalings.append(Scaling(self._weight, vector))
        writes = key.entry.shape[0] != 1
        if writes and module.bias is not None:
            bias = self._modules.tensors[f"{module.path}.bias"].name
            flat = partial(_vector, self._loaded, key, True)
            self._edit(bias, f"{key.module}.bias").scalings.append(Scaling(self._weight, flat))


def _vector(loaded: Loaded, key: Key, swapped: bool) -> Float32:
    found = loaded.array(key)
    return found.T if swapped else found


def _some_rows(layer: Layer, expert: int, first: int, last: int) -> Pair:
    return layer.pair(expert).rows(first, last)
