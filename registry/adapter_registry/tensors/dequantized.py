"""The float weights that a checkpoint quantised by bitsandbytes stands for: what an adapter trained on it has seen.

NF4 and FP4 (QLoRA, arXiv:2305.14314): two values a byte, the first in the high half; each is an index into a map of 16,
times the scale of its block. With double quantisation the scales are indices into a map of 256, times the scale of
their own block, plus an offset. LLM.int8() (arXiv:2208.07339): a row of int8 times its largest value, over 127.
All of it is float32 arithmetic, rounded once to the type that the weights had before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.checkpoints.base_folder import Opened
from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.json_strict import JsonRefused, parse
from adapter_registry.domain.base import Base, Tensor
from adapter_registry.domain.errors import Problem, Unsupported
from adapter_registry.tensors.arrays import Float32, as_stored
from adapter_registry.tensors.merging.plan import Decode

METHOD = "bitsandbytes"
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
OVER_127 = np.float32(1 / 127)
AT_ONCE = 1 << 20
"""Bytes that are looked up by turns: the float32 values of all would be eight times as many."""
LARGEST_STATE = 1 << 16
_STATE = ".weight.quant_state.bitsandbytes__"
_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_INT8_PARTS = ("SCB", "weight.SCB", "weight_format")

Place = tuple[Path, TensorEntry]


@dataclass(frozen=True, slots=True)
class Dequantized:
    """A quantised checkpoint seen as the float one that it stands for.

    Attributes:
        base: its record, as if its tensors were floats; its digest is that of the quantised one.
        opened: its headers likewise; dequantised tensors lie nowhere in the files.
        decoders: tensor -> computes its bytes.
    """

    base: Base
    opened: Opened
    decoders: Mapping[str, Decode]


def dequantized(base: Base, opened: Opened, *, dtype: str) -> Dequantized:
    """See a checkpoint by bitsandbytes as floats; nothing but the small states is read before `decoders` are called.

    Args:
        base: its record.
        opened: its files.
        dtype: of weights that do not tell theirs (LLM.int8): `float16`, ...

    Raises:
        Unsupported: it is quantised by another method, or not as that method writes it; every reason is told.
    """
    if base.quantization != METHOD:
        found = f"quantised by {base.quantization}" if base.quantization else "floats"
        raise Unsupported(
            f"only weights by {METHOD} are dequantised, and these are {found}. Nothing was written. "
            "Merge without --onto, onto the original weights."
        )
    places = {entry.name: (path, entry) for path, header in opened.files for entry in header.tensors}
    weights, problems, expected = {}, [], f"a weight as {METHOD} writes it"
    for module in _modules(places):
        try:
            weights[f"{module}.weight"] = _weight(module, places, DTYPES.get(dtype, "F16"))
        except (_Odd, OSError) as odd:
            problems.append(Problem("cannot-merge", "the base", module, expected, str(odd), ""))
    if problems:
        listed = "; ".join(map(str, problems[:4]))
        raise Unsupported(f"these weights cannot be dequantised: {listed} Nothing was written.", problems=problems)
    parts = {name for weight in weights.values() for name in weight.parts}
    return _seen(base, opened, weights, parts)


class _Odd(Exception):
    """What is not as the format has it."""


@dataclass(frozen=True, slots=True)
class _Weight:
    """A quantised weight: the type and shape it stands for, the tensors that only help, and how to decode it."""

    dtype: str
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    decode: Decode


def _seen(base: Base, opened: Opened, found: Mapping[str, _Weight], parts: set[str]) -> Dequantized:
    def entries(stored: tuple[TensorEntry, ...]) -> Iterator[TensorEntry]:
        for entry in stored:
            weight = found.get(entry.name)
            if weight is not None:
                yield replace(entry, dtype=weight.dtype, shape=weight.shape)
            elif entry.name not in parts:
                yield entry

    files = tuple((path, replace(header, tensors=tuple(entries(header.tensors)))) for path, header in opened.files)
    rows = (row for row in base.tensors if row.name not in parts)
    tensors = tuple(Tensor(r.name, found[r.name].dtype, found[r.name].shape) if r.name in found else r for r in rows)
    seen = replace(base, tensors=tensors, quantization=None)
    return Dequantized(seen, replace(opened, files=files), {name: weight.decode for name, weight in found.items()})


def _modules(places: Mapping[str, Place]) -> list[str]:
    four = {name.partition(_STATE)[0] for name in places if _STATE in name}
    int8 = (name for name, (_, entry) in places.items() if entry.dtype == "I8" and name.endswith(".weight"))
    return sorted(four | {name.removesuffix(".weight") for name in int8})


def _weight(module: str, places: Mapping[str, Place], dtype: str) -> _Weight:
    stored = places.get(f"{module}.weight")
    if stored is None:
        raise _Odd("no weight beside its state")
    state = next((name for name in places if name.startswith(f"{module}{_STATE}")), None)
    return _int8(module, places, stored, dtype) if state is None else _four_bits(module, places, stored, state)


# 8 bits


def _int8(module: str, places: Mapping[str, Place], stored: Place, dtype: str) -> _Weight:
    parts = tuple(f"{module}.{part}" for part in _INT8_PARTS if f"{module}.{part}" in places)
    scales = next((places[name] for name in parts if name.endswith("SCB")), None)
    shape = stored[1].shape
    if scales is None or scales[1].dtype != "F32" or len(shape) != 2 or prod(scales[1].shape) != shape[0]:
        raise _Odd(f"int8 of {list(shape)} without one F32 scale (SCB) a row")
    order = places.get(f"{module}.weight_format")
    if order is not None and _read(order, np.uint8).any():
        raise _Odd("int8 in an order of columns made for one kind of GPU")

    def decode() -> NDArray[np.uint8]:
        rows = _read(stored, np.int8).reshape(shape).astype(np.float32)
        return _bytes(rows * _read(scales, np.float32)[:, None] * OVER_127, dtype)

    return _Weight(dtype, shape, parts, decode)


# 4 bits


@dataclass(frozen=True, slots=True)
class _State:
    """What `quant_state` tells of a weight; `nested` is (block size, offset) of its scales where they are quantised."""

    dtype: str
    shape: tuple[int, ...]
    block: int
    nested: tuple[int, np.float32] | None

    @property
    def size(self) -> int:
        return prod(self.shape)


def _four_bits(module: str, places: Mapping[str, Place], stored: Place, name: str) -> _Weight:
    state = _state(_read(places[name], np.uint8).tobytes())
    found = {part: places.get(f"{module}.weight.{part}") for part in _PARTS}
    parts = (name, *(f"{module}.weight.{part}" for part in _PARTS if found[part]))
    blocks = -(-state.size // state.block)
    wanted = {"quant_map": ("F32", 16), "absmax": ("U8" if state.nested else "F32", blocks)}
    if state.nested:
        wanted |= {"nested_quant_map": ("F32", 256), "nested_absmax": ("F32", -(-blocks // state.nested[0]))}
    for part, (kind, count) in wanted.items():
        place = found[part]
        if place is None or place[1].dtype != kind or prod(place[1].shape) != count:
            raise _Odd(f"{part} that is not {count:,} of {kind}")
    if stored[1].end - stored[1].start != -(-state.size // 2):
        raise _Odd(f"{stored[1].end - stored[1].start:,} bytes for {state.size:,} values of 4 bits")
    there = {part: place for part, place in found.items() if place}
    return _Weight(state.dtype, state.shape, parts, lambda: _decoded(stored, there, state))


def _state(text: bytes) -> _State:
    try:
        told: dict[str, Any] = dict(parse(text, max_bytes=LARGEST_STATE, max_depth=4))
        shape, block = tuple(told["shape"]), told["blocksize"]
        nested = (told["nested_blocksize"], np.float32(told["nested_offset"])) if "nested_blocksize" in told else None
        numbers = (*shape, block, *(nested[:1] if nested else ()))
        if not all(type(each) is int and each > 0 for each in numbers) or block % 2:
            raise _Odd(f"a quant_state with sizes {numbers}")
        return _State(DTYPES[told["dtype"]], shape, block, nested)
    except (JsonRefused, KeyError, TypeError, ValueError) as error:
        raise _Odd(f"a quant_state that cannot be read: {error!r}"[:200]) from error


def _decoded(stored: Place, parts: Mapping[str, Place], state: _State) -> NDArray[np.uint8]:
    values, scales = _read(parts["quant_map"], np.float32), _scales(parts, state)
    both = np.stack([np.repeat(values, 16), np.tile(values, 16)], axis=1)  # of each byte: high half, low half
    packed = _read(stored, np.uint8)
    made = []
    step = max(1, AT_ONCE // state.block) * state.block // 2
    for first in range(0, packed.size, step):
        found = both[packed[first : first + step]].reshape(-1)
        start = 2 * first // state.block
        scale = np.repeat(scales[start : start - (-found.size // state.block)], state.block)[: found.size]
        made.append(_bytes((found * scale)[: state.size - 2 * first], state.dtype))
    return np.concatenate(made)


def _scales(parts: Mapping[str, Place], state: _State) -> Float32:
    if state.nested is None:
        return _read(parts["absmax"], np.float32)
    block, offset = state.nested
    index, values = _read(parts["absmax"], np.uint8), _read(parts["nested_quant_map"], np.float32)
    outer = np.repeat(_read(parts["nested_absmax"], np.float32), block)[: index.size]
    scales: Float32 = values[index] * outer + offset
    return scales


def _read(place: Place, kind: Any) -> NDArray[Any]:
    """A tensor's bytes as a flat array of some type."""
    path, entry = place
    count = (entry.end - entry.start) // np.dtype(kind).itemsize
    return np.fromfile(path, dtype=kind, count=count, offset=entry.start)


def _bytes(values: Float32, dtype: str) -> NDArray[np.uint8]:
    return np.ascontiguousarray(as_stored(values, dtype)).reshape(-1).view(np.uint8)
