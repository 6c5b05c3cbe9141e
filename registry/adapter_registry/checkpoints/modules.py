"""The modules of a base, as its table of tensors shows them, under the names an adapter uses for them.

A checkpoint's tensor names and the live model's module paths agree up to a prefix: a base saved without its head lacks
it (`h.0...` against `transformer.h.0...`), one saved with another wrapper has another. One prefix is found for the
whole adapter; nothing is guessed module by module.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from adapter_registry.domain.base import Base, Tensor

CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "trajectory_transformer"})
"""Model types whose linear layers hold their weight as (in, out)."""

INPUT_EMBEDDING = re.compile(
    r"(.*\.)?(embed_tokens|wte|word_embeddings|tok_embeddings|shared|embed_in|embeddings|token_embedding)"
)
OUTPUT_HEAD = re.compile(r"(.*\.)?(lm_head|embed_out|output_layer|cls\.predictions\.decoder)")
_PACKED = frozenset({"U8", "I8", "I32", "U32", "I16"})
_QUANTISED_LEAVES = ("qweight", "weight_packed", "weight_q", "weight_int8pack")
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.([A-Za-z0-9_]+)\.weight")
_OLD_BLOCK, _NEW_BLOCK = "block_sparse_moe", "mlp"
"""Mixtral's expert block in checkpoints, and in the live model since transformers 5."""
_LEGACY = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the base that holds a weight.

    Attributes:
        path: its live path.
        shape: of its weight as stored; None when the weight is packed by quantisation.
        bias: shape of its bias; None without one.
        weight: name of the tensor that holds the weight.
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
    def adaptable(self) -> bool:
        """Whether a low-rank delta makes sense: the weight has at least two dimensions, or is packed."""
        return self.shape is None or len(self.shape) >= 2


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a base under live paths.

    Attributes:
        by_path: live path -> Module.
        tensors: live tensor name -> Tensor.
        prefix: what was done to the checkpoint's names: `+transformer.`, `-model.` or empty.
        conv1d: whether linear weights are (in, out).
        tied: whether the output head is the input embedding.
    """

    by_path: Mapping[str, Module]
    tensors: Mapping[str, Tensor]
    prefix: str
    conv1d: bool
    tied: bool

    def find(self, path: str) -> Module | None:
        """The module at `path`; a tied output head is the input embedding."""
        found = self.by_path.get(path)
        if found is None and self.tied and OUTPUT_HEAD.fullmatch(path):
            embedding = self.input_embedding()
            return embedding
        return found

    def input_embedding(self) -> Module | None:
        """The input embedding, the largest where several modules bear such a name."""
        candidates = [m for m in self.by_path.values() if INPUT_EMBEDDING.fullmatch(m.path) and m.shape]
        return max(candidates, key=lambda m: (m.shape or (0,))[0], default=None)

    @property
    def depth(self) -> int:
        """How many layers the deepest numbered stack has."""
        numbers = (int(n) for path in self.by_path for n in re.findall(r"\.(\d+)\.", f".{path}."))
        return max(numbers, default=-1) + 1


def modules_of(base: Base, paths: Collection[str]) -> Modules:
    """The modules of `base` under the names that `paths`, an adapter's module paths, use for them."""
    plain = {_modern(tensor.name): tensor for tensor in base.tensors}
    if any(f".{_NEW_BLOCK}." in path for path in paths):
        plain = {name.replace(f".{_OLD_BLOCK}.", f".{_NEW_BLOCK}."): tensor for name, tensor in plain.items()}
    prefix = _prefix({name.rpartition(".")[0] for name in plain}, paths)
    live = {_renamed(name, prefix): tensor for name, tensor in plain.items()}
    found = dict(_modules(live))
    found.update(_fused_experts(live))
    return Modules(found, live, prefix, base.model_type in CONV1D_MODELS, base.tied or _headless(found))


def _headless(found: Mapping[str, Module]) -> bool:
    return not any(OUTPUT_HEAD.fullmatch(path) for path in found)


def _modern(name: str) -> str:
    head, _, leaf = name.rpartition(".")
    return f"{head}.{_LEGACY[leaf]}" if leaf in _LEGACY else name


def _renamed(name: str, prefix: str) -> str:
    if prefix.startswith("+"):
        return prefix[1:] + name
    return name.removeprefix(prefix[1:]) if prefix else name


def _prefix(modules: Collection[str], paths: Collection[str]) -> str:
    """The change of prefix under which most of `paths` are modules; none when it changes nothing."""
    if not paths:
        return ""
    best, most = "", sum(path in modules for path in paths)
    if most == len(paths):
        return best
    heads = {path.split(".", 1)[0] + "." for path in paths if "." in path}
    firsts = {name.split(".", 1)[0] + "." for name in modules if "." in name}
    seconds = {".".join(name.split(".", 2)[:2]) + "." for name in modules if name.count(".") > 1}
    pairs = {".".join(path.split(".", 2)[:2]) + "." for path in paths if path.count(".") > 1}
    for candidate in [f"+{head}" for head in heads | pairs] + [f"-{first}" for first in firsts | seconds]:
        count = sum(_original(path, candidate) in modules for path in paths)
        if count > most:
            best, most = candidate, count
    return best


def _original(path: str, prefix: str) -> str:
    if prefix.startswith("+"):
        return path.removeprefix(prefix[1:]) if path.startswith(prefix[1:]) else ""
    return prefix[1:] + path


def _modules(live: Mapping[str, Tensor]) -> Iterable[tuple[str, Module]]:
    for name, tensor in live.items():
        path, _, leaf = name.rpartition(".")
        if leaf == "weight":
            bias = live.get(f"{path}.bias")
            packed = tensor.dtype in _PACKED
            yield path, Module(path, None if packed else tensor.shape, bias.shape if bias else None, name, tensor.dtype)
        elif leaf in _QUANTISED_LEAVES:
            yield path, Module(path, None, None, name, tensor.dtype)


def _fused_experts(live: Mapping[str, Tensor]) -> dict[str, Module]:
    """What transformers 5 makes of per-expert tensors: 3-dimensional `experts.gate_up_proj` and `experts.down_proj`."""
    stacks: dict[str, dict[str, tuple[int, ...]]] = {}
    counts: dict[str, int] = {}
    for name, tensor in live.items():
        found = _EXPERT.fullmatch(name)
        if found and len(tensor.shape) == 2:
            stacks.setdefault(found[1], {})[found[3]] = tensor.shape
            counts[found[1]] = max(counts.get(found[1], 0), int(found[2]) + 1)
    fused = {}
    for path, shapes in stacks.items():
        gate = shapes.get("gate_proj") or shapes.get("w1")
        down = shapes.get("down_proj") or shapes.get("w2")
        if gate and down:
            up = (counts[path], 2 * gate[0], gate[1])
            for leaf, shape in (("gate_up_proj", up), ("down_proj", (counts[path], *down))):
                fused[f"{path}.{leaf}"] = Module(f"{path}.{leaf}", shape, None, f"{path}.0", "F32")
    return fused
