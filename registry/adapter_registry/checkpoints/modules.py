"""The modules of a base, as its table of tensors shows them, under the names an adapter uses for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from adapter_registry.checkpoints.naming import Naming
from adapter_registry.domain.base import Base, Tensor, size_of

CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "trajectory_transformer"})
"""Model types whose linear layers hold their weight as (in, out); others are told by the sizes of their biases."""

INPUT_EMBEDDING = re.compile(
    r"(.*\.)?(embed_tokens|wte|word_embeddings|tok_embeddings|shared|embed_in|embeddings|token_embedding)"
)
OUTPUT_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out|output_layer|cls\.predictions\.decoder)")
EXPERT = re.compile(r"(?P<stack>.*\.experts)\.(?P<number>\d+)\.(?P<leaf>[A-Za-z0-9_]+)")
"""A module of one expert among several, as checkpoints store them."""

_PACKED = {"U8": 8, "U32": 32, "I8": 8, "I16": 16, "I32": 32}
"""Integer dtypes that hold several quantised values each -> their bits."""
_WEIGHT_LEAVES = ("weight", "weight_v", "in_proj_weight", "parametrizations.weight.original1")
_QUANTISED_LEAVES = ("qweight", "weight_packed", "weight_q", "weight_int8pack", "W_q", "codes")
_PACKED_PARAMETER = "_blocks"
_NUMBER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the base that holds a weight.

    Attributes:
        path: its live path.
        shape: of its weight; None when the weight is packed by quantisation.
        bias: shape of its bias; None without one.
        weight: live name of the tensor that holds the weight.
        dtype: of the weight as stored.
    """

    path: str
    shape: tuple[int, ...] | None
    bias: tuple[int, ...] | None
    weight: str
    dtype: str

    @property
    def kind(self) -> str:
        """Last component of the path, `q_proj`."""
        return self.path.rpartition(".")[2]

    @property
    def embedding(self) -> bool:
        """Whether it looks up rows, as far as its name tells."""
        return bool("emb" in self.kind or self.kind in ("wte", "wpe", "shared")) and not OUTPUT_HEAD.fullmatch(
            self.path
        )

    @property
    def adaptable(self) -> bool:
        """Whether a low-rank delta makes sense: the weight has at least two dimensions, or is packed."""
        return self.shape is None or len(self.shape) >= 2


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a base under live paths.

    Attributes:
        by_path: live path -> Module.
        tensors: live tensor name -> Tensor.
        parameters: live parameter name -> its shape, or None when packed; experts as the live model fuses them.
        naming: how live names follow from the checkpoint's.
        conv1d: whether linear weights are (in, out).
        tied: whether the output head is the input embedding.
    """

    by_path: Mapping[str, Module]
    tensors: Mapping[str, Tensor]
    parameters: Mapping[str, tuple[int, ...] | None]
    naming: Naming
    conv1d: bool
    tied: bool

    def packed_bits(self, path: str) -> int | None:
        """How many bits the packed weight at `path` takes; None when it is not packed, or in no way we know."""
        module = self.by_path.get(path)
        if module is None or module.shape is not None or module.weight.endswith(".codes"):
            return None
        return size_of(self.tensors[module.weight].shape) * _PACKED.get(module.dtype, 0) or None

    def find(self, path: str) -> Module | None:
        """The module at `path`; a tied output head, or a second embedding of an encoder-decoder, is the first one."""
        found = self.by_path.get(path)
        if found is not None:
            return found
        if self.tied and OUTPUT_HEAD.fullmatch(path):
            return self.input_embedding()
        if path.endswith(".embed_tokens"):
            return next((m for m in self.by_path.values() if m.kind == "shared"), None)
        return None

    def input_embedding(self) -> Module | None:
        """The input embedding, the largest where several modules bear such a name."""
        candidates = [m for m in self.by_path.values() if INPUT_EMBEDDING.fullmatch(m.path) and m.shape]
        return max(candidates, key=lambda m: (m.shape or (0,))[0], default=None)

    @property
    def depth(self) -> int:
        """How many layers the deepest numbered stack has."""
        found = (_NUMBER.search(f".{path}.") for path in self.by_path)
        return max((int(number[1]) for number in found if number), default=-1) + 1

    @property
    def containers(self) -> set[str]:
        """Paths of modules that hold other modules: PEFT matches patterns against those too."""
        return {path[:i] for path in self.by_path for i, c in enumerate(path) if c == "."}


def modules_of(base: Base, naming: Naming) -> Modules:
    """The modules of `base` under the names of `naming`."""
    live = naming.tensors
    by_path = {module.path: module for module in _modules(live)}
    tied = base.tied or not any(OUTPUT_HEAD.fullmatch(path) for path in by_path)
    conv1d = base.model_type in CONV1D_MODELS or any(map(_is_conv1d, by_path.values()))
    return Modules(by_path, live, dict(_parameters(live)), naming, conv1d, tied)


def _is_conv1d(module: Module) -> bool:
    """Whether a module's bias belongs to the second dimension of its weight, as only (in, out) has it."""
    shape = module.shape
    return bool(shape and module.bias and len(shape) == 2 and shape[0] != shape[1] and module.bias == shape[1:])


def _modules(live: Mapping[str, Tensor]) -> Iterator[Module]:
    for name, tensor in live.items():
        for leaf in _WEIGHT_LEAVES:
            if name.endswith(f".{leaf}"):
                path = name.removesuffix(f".{leaf}")
                bias = live.get(f"{path}.bias")
                shape = None if tensor.dtype in _PACKED else tensor.shape
                yield Module(path, shape, bias.shape if bias else None, name, tensor.dtype)
        path, _, leaf = name.rpartition(".")
        if leaf in _QUANTISED_LEAVES:
            yield Module(path, None, None, name, tensor.dtype)


def _parameters(live: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    for name, tensor in live.items():
        if name.endswith(_PACKED_PARAMETER):
            yield name.removesuffix(_PACKED_PARAMETER), None
        elif len(tensor.shape) in (2, 3):
            yield name, None if tensor.dtype in _PACKED else tensor.shape
    yield from _fused_experts(live)


def _fused_experts(live: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What transformers 5 makes of per-expert tensors: 3-dimensional `experts.gate_up_proj` and `experts.down_proj`."""
    stacks: dict[str, dict[str, tuple[int, ...]]] = {}
    counts: dict[str, int] = {}
    for name, tensor in live.items():
        found = EXPERT.fullmatch(name.removesuffix(".weight"))
        if found and len(tensor.shape) == 2:
            stacks.setdefault(found["stack"], {})[found["leaf"]] = tensor.shape
            counts[found["stack"]] = max(counts.get(found["stack"], 0), int(found["number"]) + 1)
    for path, shapes in stacks.items():
        gate, up = shapes.get("gate_proj") or shapes.get("w1"), shapes.get("up_proj") or shapes.get("w3")
        down = shapes.get("down_proj") or shapes.get("w2")
        if up and gate:
            yield f"{path}.gate_up_proj", (counts[path], up[0] + gate[0], up[1])
        elif up:
            yield f"{path}.up_proj", (counts[path], *up)
        if down:
            yield f"{path}.down_proj", (counts[path], *down)
