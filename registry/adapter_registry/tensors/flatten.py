"""A LoRA as the plainest one that adds the same: one rank, scale 1, targets as a list, for stacks that read no more."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adapter_registry.domain.errors import Problem, Unsupported
from adapter_registry.domain.lineage import ModuleFit
from adapter_registry.domain.peft.fields import CONFIG
from adapter_registry.tensors.adapter_out import Adapter
from adapter_registry.tensors.arrays import Float32
from adapter_registry.tensors.composing.refusals import NO_WEIGHT_DELTA, OTHER_METHODS
from adapter_registry.tensors.layers import Layer, Pair
from adapter_registry.tensors.loaded import Loaded
from adapter_registry.tensors.lowrank import distance
from adapter_registry.tensors.pieces import Piece, pieces_of

TOLERANCE = 2**-7
"""Twice the largest relative error of rounding to bfloat16: what rounding alone may move a module's delta by."""
_DROPPED = ("alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform", "rank_pattern")


def refuse(adapter: Loaded) -> None:
    """Raise Unsupported with every reason for which no plain LoRA adds what this adapter does."""
    config = adapter.config
    problems = []
    if config.peft_type != "LORA":
        problems.append(Problem("bad-config-value", CONFIG, "peft_type", "LORA", config.peft_type, OTHER_METHODS))
    for variant in (each for each in config.variant if each != "rslora"):
        fix = f"Serve it with PEFT, or merge it into its base: {_why(variant)}."
        problems.append(Problem("bad-config-value", CONFIG, variant, "a LoRA of factors alone", variant, fix))
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise Unsupported(f"no plain LoRA adds what this adapter does; nothing was written.{listed}", problems=problems)


def _why(variant: str) -> str:
    if variant == "dora":
        return "its lengths act on base and delta together (`adapters compose` makes a LoRA that comes near)"
    return NO_WEIGHT_DELTA.get(variant, "a stack that reads factors alone leaves that part out")


def is_plain(adapter: Loaded) -> bool:
    """Whether r, lora_alpha and a list of modules say all there is to say of it, as the base has those modules."""
    config = adapter.config
    scale = config.lora_alpha / config.r
    listed = not isinstance(config.target_modules, str) and config.layers_to_transform is None
    same = all(layer.rank == config.r and layer.scale == scale for layer in adapter.layers)
    whole = all(piece.expert is None for piece in pieces_of(adapter))
    return same and whole and listed and not config.use_rslora and not config.exclude_modules


def flattened(
    adapter: Loaded, document: Mapping[str, Any], *, dtype: str | None = None, rank: int | None = None
) -> Adapter:
    """The same deltas with one rank and scale 1.

    Factors get rows and columns of zeros up to `rank`; `lora_B` is multiplied by the layer's true scale, and
    rounded once into its type. Stacks of experts become the modules that the base has in their place, where it has
    such. What is saved whole stays as it is.

    Args:
        adapter: opened; `refuse` found nothing.
        document: its config as it was parsed.
        dtype: of the new factors, `F32`; default: what each has, float32 for float64.
        rank: of the new factors, no smaller than the largest; default: the largest.

    Returns:
        The adapter, without a README.
    """
    rank = rank or max((layer.rank for layer in adapter.layers), default=adapter.config.r)
    pieces, tensors, dtypes = pieces_of(adapter), dict[str, Float32](), dict[str, str]()
    for piece in pieces:
        found = dict(_padded(piece.layer, rank) if piece.expert is None else _of_expert(piece, rank))
        tensors.update(found)
        key = piece.layer.place.layer.down
        stored = dtype or _stored(key.entry.dtype if key else "F32")
        dtypes.update(dict.fromkeys(found, stored))
    factors = {key.entry.name for layer in adapter.layers for key in layer.place.layer.parts.values()}
    for name, entry in adapter.weights.entries.items():
        if name not in factors:
            tensors[name], dtypes[name] = adapter.weights.array(name), _stored(entry.dtype)
    split = any(piece.expert is not None for piece in pieces)
    dropped = {*_DROPPED, *(("target_parameters",) if split else ())}
    config = {key: value for key, value in document.items() if key not in dropped}
    config.update(
        r=rank,
        lora_alpha=rank,
        rank_pattern={},
        alpha_pattern={},
        use_rslora=False,
        init_lora_weights=True,
        target_modules=targets(pieces, adapter),
    )
    return Adapter(tensors, {piece.module: rank for piece in pieces}, config, readme="", dtypes=dtypes)


def targets(pieces: Sequence[Piece], adapter: Loaded) -> list[str]:
    """`target_modules` that select exactly these modules: their last names where those do, else their whole paths."""
    wanted = {
        piece.module: piece.named for piece in pieces if piece.expert is not None or not piece.layer.place.parameter
    }
    kinds = {name.rpartition(".")[2] for name in wanted}
    borne = (path for path, module in adapter.subject.modules.by_path.items() if module.adaptable)
    exact = all(path in wanted or path.rpartition(".")[2] not in kinds for path in borne)
    return sorted(kinds if exact else wanted.values())


def _stored(dtype: str) -> str:
    return "F32" if dtype == "F64" else dtype


def _padded(layer: Layer, rank: int) -> Iterator[tuple[str, Float32]]:
    """Both factors of a layer by name; experts are slowest in `lora_A` and fastest in `lora_B`, as PEFT has them."""
    down_key, up_key = layer.place.layer.down, layer.place.layer.up
    down, up = layer.read("lora_A"), layer.read("lora_B")
    if down is None or up is None or down_key is None or up_key is None:
        raise ValueError(f"{layer.name} has one factor only; intake refuses that")
    experts, more = layer.experts, rank - layer.rank
    stack = down.reshape(experts, layer.rank, *down.shape[1:])
    wide = np.pad(stack, [(0, 0), (0, more), *[(0, 0)] * (stack.ndim - 2)])
    yield down_key.entry.name, wide.reshape(experts * rank, *down.shape[1:])
    columns = up.reshape(up.shape[0], layer.rank, experts, *up.shape[2:])
    scaled = (columns.astype(np.float64) * layer.scale).astype(np.float32)
    tall = np.pad(scaled, [(0, 0), (0, more), *[(0, 0)] * (columns.ndim - 2)])
    yield up_key.entry.name, tall.reshape(up.shape[0], rank * experts, *up.shape[2:])


def _of_expert(piece: Piece, rank: int) -> Iterator[tuple[str, Float32]]:
    [pair] = piece.pairs()
    more = rank - pair.rank
    yield piece.down, np.pad(pair.down, [(0, more), (0, 0)])
    scaled = (pair.up.astype(np.float64) * pair.scale).astype(np.float32)
    yield piece.down.replace(".lora_A.", ".lora_B."), np.pad(scaled, [(0, 0), (0, more)])


def measured(before: Loaded, after: Loaded) -> tuple[ModuleFit, ...]:
    """How far what was written is from what it was made of, module by module, in float64."""
    written = {piece.down: piece.layer for piece in pieces_of(after)}
    return tuple(_fit(piece, written[piece.down]) for piece in pieces_of(before))


def _fit(piece: Piece, other: Layer) -> ModuleFit:
    there = (other.pair(expert) for expert in range(other.experts))
    pairs = list(zip(piece.pairs(), there, strict=True))
    # What overflowed its type is no number to measure with.
    finite = all(np.isfinite(each).all() for _, two in pairs for each in (two.up, two.down))
    error = math.hypot(*(distance(one, two) for one, two in pairs)) if finite else math.inf
    norm = math.hypot(*(distance(one, _nothing(one)) for one, _ in pairs))
    return ModuleFit(piece.module, other.rank, norm, error / norm if norm else 0.0)


def _nothing(pair: Pair) -> Pair:
    rows, columns = pair.shape
    return Pair(np.zeros((rows, 0), dtype=np.float32), np.zeros((0, columns), dtype=np.float32), 0.0)


def require_near(fits: Sequence[ModuleFit], tolerance: float) -> None:
    """Refuse a rounding that moved a module's delta further than is allowed.

    Raises:
        Unsupported: with the modules, furthest first; what is not finite is furthest.
    """
    far = [fit for fit in fits if not fit.error <= tolerance]
    if far:
        far.sort(key=lambda fit: -fit.error if math.isfinite(fit.error) else -math.inf)
        listed = "".join(f"\n  {fit.name}: {fit.error:.3g} of the delta's norm" for fit in far[:5])
        raise Unsupported(
            f"rounding moves {len(far)} of {len(fits)} modules by more than {tolerance:g} of their delta; nothing was "
            f"written.{listed}\nWrite it with --dtype float32, or allow more with --tolerance."
        )
