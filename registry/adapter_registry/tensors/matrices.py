"""Every matrix of the base that an adapter adds a product of two factors to, whatever its method calls them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from adapter_registry.checkpoints.modules import OUTPUT_HEAD
from adapter_registry.checkpoints.other_methods import owner_of
from adapter_registry.domain.base import Tensor
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.layers import Layer, Pair
from adapter_registry.tensors.loaded import Loaded

OTHER_FUNCTIONS = frozenset({"kasa", "qalora", "monteclora", "arrow", "bdlora"})
"""Variants of LoRA whose delta is not scale · up @ down."""
LARGEST_RANK = 1024
"""Factors of a higher rank than this (LoHa has the square of its own) are not worth being made."""
SWAPPED = ("transposed", "embedding", "experts-transposed")
"""Kinds of layers whose weight is stored (in, out)."""

_Parts = Mapping[str, Float32]
_Factors = tuple[Float32, Float32]
_Method = Callable[[_Parts, Mapping[str, Any], tuple[int, ...]], _Factors | None]
"""From a module's tensors by part, the config and the weight's shape: up and down, the scale in one of them."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix of the base that an adapter changes.

    Attributes:
        name: live path of the module or parameter, with `[e]` for one of a stack of experts.
        path: the same without.
        rank: of the factors.
        shape: (rows, columns) of the weight as the base stores it.
        scale: of their product.
        read: reads the factors, in the weight's orientation.
        tensor: the base's tensor that it is in; None where the base stores it in several.
        expert: which of a stack; None where the tensor is this one matrix.
        swapped: whether the weight is stored (in, out).
        lengths: reads DoRA's lengths; None without.
        embedding: whether it looks rows up.
    """

    name: str
    path: str
    rank: int
    shape: tuple[int, ...]
    scale: float
    read: Callable[[], Pair]
    tensor: Tensor | None
    expert: int | None = None
    swapped: bool = False
    lengths: Callable[[], Float32 | None] = lambda: None
    embedding: bool = False


def matrices(adapter: Loaded, document: Mapping[str, Any]) -> dict[str, Matrix]:
    """Every such matrix by name, in natural order; empty where the method has no factors that we know.

    Args:
        adapter: opened.
        document: its config as it was parsed.
    """
    if OTHER_FUNCTIONS & set(adapter.config.extensions):
        return {}
    found = [_of_layer(layer, expert) for layer in adapter.layers for expert in range(layer.experts)]
    made = _METHODS.get(adapter.config.peft_type)
    # Other methods than LoRA match patterns by rules of their own; the delta would be scaled wrongly in silence.
    if made is not None and not document.get("alpha_pattern") and not _needs_rank_pattern(document):
        found = _of_method(adapter, document, made)
    return {matrix.name: matrix for matrix in sorted(found, key=lambda matrix: natural(matrix.name))}


def natural(name: str) -> list[tuple[int, str]]:
    """A key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _of_layer(layer: Layer, expert: int) -> Matrix:
    several = layer.experts > 1
    return Matrix(
        name=f"{layer.name}[{expert}]" if several else layer.name,
        path=layer.name,
        rank=layer.rank,
        shape=layer.shape,
        scale=layer.scale,
        read=lambda: layer.pair(expert),
        tensor=layer.tensor,
        expert=expert if several else None,
        swapped=layer.kind in SWAPPED,
        lengths=lambda: layer.read("lora_magnitude_vector"),
        embedding=layer.kind == "embedding",
    )


def _needs_rank_pattern(document: Mapping[str, Any]) -> bool:
    return document.get("peft_type") == "LOKR" and bool(document.get("rank_pattern"))


def _of_method(adapter: Loaded, document: Mapping[str, Any], made: _Method) -> list[Matrix]:
    """Matrices of linear layers; none at all where one of them is something else, so that none goes missing unsaid."""
    modules, shared = adapter.subject.modules, _shared(adapter)
    parts: dict[str, dict[str, Float32]] = {}
    for key in adapter.subject.keys:
        module = owner_of(key, modules)
        name = f"{key.module}.{key.part}"[len(module.path) + 1 :].removesuffix(".weight") if module else ""
        if module is not None and name.startswith(_OWN):
            parts.setdefault(module.path, dict(shared))[name] = adapter.array(key)
    found = []
    for path, tensors in parts.items():
        module = modules.find(path)
        if module is None or module.shape is None or len(module.shape) != 2:
            return []
        pair = _pair(made, tensors, document, module.shape)
        if pair is None:
            return []
        # Made again when it is asked for: all of them at once may be larger than the base.
        read = partial(_again, made, tensors, document, module.shape)
        swapped = modules.conv1d and not OUTPUT_HEAD.fullmatch(path)
        tensor = modules.tensors.get(module.weight)
        found.append(Matrix(path, path, pair.rank, pair.shape, 1.0, read, tensor, swapped=swapped))
    return found


def _pair(made: _Method, tensors: _Parts, document: Mapping[str, Any], shape: tuple[int, ...]) -> Pair | None:
    """The factors in the weight's orientation; None where the method has none that fit."""
    factors = made(tensors, document, shape)
    if factors is None:
        return None
    up, down = factors
    if (len(up), down.shape[1]) != shape:
        up, down = down.T, up.T
    if (len(up), down.shape[1]) != shape:
        return None
    return Pair(np.ascontiguousarray(up), np.ascontiguousarray(down), 1.0)


def _again(made: _Method, tensors: _Parts, document: Mapping[str, Any], shape: tuple[int, ...]) -> Pair:
    pair = _pair(made, tensors, document, shape)
    assert pair is not None  # noqa: S101  it was made before
    return pair


def _number(document: Mapping[str, Any], name: str, default: float) -> float:
    """A field of the config; raises InvalidInput for what is no positive number."""
    value = document.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InvalidInput(f"{name} in the config is {str(value)[:40]!r}, not a number above 0; nothing was compared.")
    return float(value)


def _shared(adapter: Loaded) -> dict[str, Float32]:
    """Tensors of VeRA that all its modules share."""
    names = {"vera_A": "base_model.vera_A", "vera_B": "base_model.vera_B"}
    there = adapter.weights.entries
    return {part: adapter.weights.array(name) for part, name in names.items() if name in there}


def _adalora(parts: _Parts, document: Mapping[str, Any], _shape: tuple[int, ...]) -> _Factors | None:
    """B · diag(E) · A · alpha / ranks kept; PEFT divides by a hundred-thousandth more. arXiv:2303.10512."""
    if not {"lora_A", "lora_B", "lora_E"} <= parts.keys():
        return None
    kept = len(parts["lora_A"])
    scale = np.float32(_number(document, "lora_alpha", 8) / (kept + 1e-5))
    return parts["lora_B"], np.asarray(parts["lora_A"] * parts["lora_E"] * scale)


def _vera(parts: _Parts, _document: Mapping[str, Any], shape: tuple[int, ...]) -> _Factors | None:
    """diag(b) · B · diag(d) · A with A and B shared; they must be in the file. arXiv:2310.11454."""
    if not {"vera_A", "vera_B", "vera_lambda_b", "vera_lambda_d"} <= parts.keys():
        return None
    writes = parts["vera_lambda_b"]
    reads = shape[1] if len(writes) == shape[0] else shape[0]
    down = parts["vera_A"][:, :reads] * parts["vera_lambda_d"][:, None]
    return writes[:, None] * parts["vera_B"][: len(writes)], down


def _loha(parts: _Parts, document: Mapping[str, Any], _shape: tuple[int, ...]) -> _Factors | None:
    """(W1a·W1b) ∘ (W2a·W2b) · alpha / r, of rank r² by products of columns and of rows. arXiv:2108.06098."""
    names = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    if not all(name in parts and parts[name].ndim == 2 for name in names) or "hada_t1" in parts:
        return None
    one_up, one_down, two_up, two_down = (parts[name] for name in names)
    rank = one_up.shape[1]
    if rank * rank > LARGEST_RANK:
        return None
    scale = np.float32(_number(document, "alpha", 8) / rank)
    up = (one_up[:, :, None] * two_up[:, None, :]).reshape(len(one_up), -1)
    down = (one_down[:, None, :] * two_down[None, :, :]).reshape(-1, one_down.shape[1])
    return up, np.asarray(down * scale)


def _lokr(parts: _Parts, document: Mapping[str, Any], _shape: tuple[int, ...]) -> _Factors | None:
    """kron(W1, W2) · alpha / r: the Kronecker products of both sides' factors. arXiv:2309.14859."""
    if "lokr_t2" in parts:
        return None
    one, two = _halves(parts, "lokr_w1"), _halves(parts, "lokr_w2")
    if one is None or two is None or one[0].shape[1] * two[0].shape[1] > LARGEST_RANK:
        return None
    scale = np.float32(_number(document, "alpha", 8) / _number(document, "r", 8))
    return np.kron(one[0], two[0]), np.asarray(np.kron(one[1], two[1]) * scale)


def _halves(parts: _Parts, name: str) -> _Factors | None:
    """Two factors of a matrix that is stored as such, or whole."""
    if f"{name}_a" in parts and f"{name}_b" in parts:
        return parts[f"{name}_a"], parts[f"{name}_b"]
    whole = parts.get(name)
    if whole is None or whole.ndim != 2:
        return None
    rows, columns = whole.shape
    return (np.eye(rows, dtype=np.float32), whole) if rows <= columns else (whole, np.eye(columns, dtype=np.float32))


_OWN = ("lora_", "vera_", "hada_", "lokr_")
"""How the parts of these methods begin."""
_METHODS: Mapping[str, _Method] = {
    "ADALORA": _adalora,
    "VERA": _vera,
    "LOHA": _loha,
    "LOKR": _lokr,
}
