"""Which sizes the two factors of a LoRA layer must have, for each kind of weight that PEFT adapts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

from adapter_registry.domain.peft.config import AdapterConfig

Shape = tuple[int, ...]
PACKINGS = (2, 3, 4, 8)
"""Bits of one quantised value; 3-bit packings and paddings round up a little."""
MAX_PERMUTED = 4
"""Parameters of one module whose order is tried; real modules have two."""


class Factors(NamedTuple):
    """Shapes of `lora_A` and `lora_B`."""

    down: Shape
    up: Shape


@dataclass(frozen=True, slots=True)
class Fit:
    """How factors fit a weight.

    Attributes:
        agree: whether both have the same rank.
        fits: whether their other sizes are the weight's; true when those are unknown.
        expected: the sizes that fit, for people.
    """

    agree: bool
    fits: bool
    expected: str = ""


def fitting(
    shape: Shape | None, embedding: bool, factors: Factors, config: AdapterConfig, name: str, *, conv1d: bool
) -> Fit:
    """Whether two factors fit a weight of this shape.

    Args:
        shape: of the weight; None when it is not known.
        embedding: whether the weight is an embedding's, (rows, width).
        factors: of the adapter.
        config: the variants that make a factor smaller.
        name: of the module, which `use_bdlora` selects by.
        conv1d: whether linear weights of this model are (in, out).
    """
    down, up = factors
    ranks = {up[1] * blocks for blocks in _blocks(config, name, up=True)}
    if shape is None:
        return Fit(down[0] in ranks or len(up) > 2, fits=True)
    if len(shape) > 2 and len(down) == len(shape):
        return _convolution(shape, factors)
    expected = list(_sizes(shape, embedding, config, name, conv1d=conv1d))
    found = (down[1:], (up[0], *up[2:]))
    reads, writes = expected[0]
    told = f"lora_A (r, {_joined(reads)}) and lora_B ({_joined(writes[:1])}, r)"
    return Fit(down[0] in ranks, found in expected, told)


def packed_fit(bits: int, factors: Factors) -> bool:
    """Whether a weight of the factors' sizes can be what is packed into so many bits: 2, 3, 4 or 8 for each value."""
    values = factors.down[1] * factors.up[0]
    return any(abs(bits - values * each) <= max(64, values * each // 20) for each in PACKINGS)


def _sizes(
    shape: Shape, embedding: bool, config: AdapterConfig, name: str, *, conv1d: bool
) -> Iterator[tuple[Shape, Shape]]:
    """(what lora_A has after r, what lora_B has but r), likeliest first."""
    if embedding:
        yield (shape[0],), (shape[1],)
    elif len(shape) == 3:
        # A stack of experts; which of the two sizes is read differs between models.
        yield (shape[2],), (shape[1],)
        yield (shape[1],), (shape[2],)
    elif len(shape) == 2:
        reads, writes = (shape[0], shape[1]) if conv1d else (shape[1], shape[0])
        if "qalora" in config.extensions:
            # PEFT groups inputs on quantised layers only.
            yield (reads // config.qalora_group_size,), (writes,)
        for blocks in _blocks(config, name, up=False):
            yield (reads // blocks,), (writes,)
    else:
        yield (0,), (0,)


def _blocks(config: AdapterConfig, name: str, *, up: bool) -> tuple[int, ...]:
    """Into how many blocks a factor may be cut: 1, unless `use_bdlora` names the module."""
    if config.blocks is None:
        return (1,)
    named = config.blocks.up if up else config.blocks.down
    return (config.blocks.count,) if any(text in name for text in named) else (1,)


def _convolution(shape: Shape, factors: Factors) -> Fit:
    """A convolution's weight is (out, in / groups, *kernel); `lora_A` reads all channels, `lora_B` is 1 wide."""
    down, up = factors
    groups = down[1] // shape[1] if shape[1] and down[1] % shape[1] == 0 else 0
    told = f"lora_A (r, {_joined(shape[1:])}) and lora_B ({shape[0]}, r, {_joined((1,) * (len(shape) - 2))})"
    sized = groups >= 1 and shape[0] % groups == 0 and (groups == 1 or down[0] % groups == 0)
    fits = sized and down[2:] == shape[2:] and up[0] == shape[0] and set(up[2:]) <= {1} and len(up) == len(shape)
    return Fit(up[1] * max(groups, 1) == down[0], fits, told)


def parameter_places(
    factors: Sequence[Factors | None], shapes: Mapping[str, Shape | None], ranks: Mapping[str, int]
) -> list[str | None]:
    """Which parameter of a module each pair of factors adapts: the order that fits, else the order of names.

    Args:
        factors: innermost wrapper first; None where one of the two is missing.
        shapes: parameter -> its shape, None when packed.
        ranks: parameter -> its rank by the config.
    """
    # Experts' modules register what reads the input first.
    names = sorted(shapes, key=lambda name: ("down" in name, name))
    if len(names) == len(factors) <= MAX_PERMUTED:
        for order in permutations(names):
            if all(_may_be(pair, shapes[name], ranks[name]) for pair, name in zip(factors, order, strict=True)):
                return list(order)
    return [names[i] if i < len(names) else None for i in range(len(factors))]


def _may_be(pair: Factors | None, shape: Shape | None, rank: int) -> bool:
    if pair is None or len(pair.down) != 2 or len(pair.up) != 2:
        return False
    if shape is None:
        return pair.down[0] % rank == 0
    experts = shape[0] if len(shape) == 3 else 1
    return pair.down[0] == rank * experts and sorted((pair.down[1], pair.up[0])) == sorted(shape[-2:])


def _joined(sizes: Shape) -> str:
    return ", ".join(map(str, sizes))
