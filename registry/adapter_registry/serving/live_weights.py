"""A live torch model held against a Base: the same names, the same shapes, the same bytes.

Names are compared as the checkpoint spells them: PEFT's wrappers are looked through, fused weights are split again, and
where checkpoint and model bear different heads (`AutoModel`, `AutoModelForSequenceClassification`, ...) the trunk is
compared. Bytes are compared with the digests the Base was registered with; the checkpoint need not be at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from adapter_registry.domain.base import Base, Tensor
from adapter_registry.domain.lock import LISTED_DIFFERENCES, Difference, Level, Verdict
from adapter_registry.serving.live_names import LiveTensor, align, tensors_of, unwrapped

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_EMBEDDING_OR_HEAD = re.compile(
    r"(.*\.)?(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings|shared|lm_head|embed_out|output_layer)\.weight"
)


def live_differences(model: Any, base: Base, *, resized: bool = False, values: bool = True) -> Verdict:
    """How a live model fits an adapter that is locked to `base`. Nothing is changed.

    Args:
        model: a torch module as transformers loads it, with or without PEFT adapters attached.
        base: the locked Base with its whole table of tensors.
        resized: the adapter brings longer embeddings of its own: only the locked rows of the live ones are compared.
        values: False compares names and shapes only.

    Returns:
        `exact`: every byte agrees. `equivalent`: every value agrees, held in another dtype without loss.
        `structural`: names and shapes agree; the differences name tensors with other values. Without differences the
        values were not compared or cannot be proved, and the notes say why.
        `incompatible`: other names or shapes.
    """
    if method := quantisation(model):
        return Verdict(Level.STRUCTURAL, notes=(f"its weights were quantised in memory ({method})",))
    if spread(model):
        return Verdict(Level.STRUCTURAL, notes=("its weights are spread over several processes",))
    root = unwrapped(model)
    found = align(tensors_of(root), base, root=root)
    shapes = tuple(
        Difference(table.name, str(list(table.shape)), str(list(live.shape)))
        for table, live in found.pairs
        if not _fits(table, live, resized)
    )
    if found.differences or shapes:
        return Verdict(Level.INCOMPATIBLE, _first(shapes + found.differences), found.notes)
    if not values:
        return Verdict(Level.STRUCTURAL, notes=("only names and shapes were compared, no values", *found.notes))
    compared = [_compare(table, live) for table, live in found.pairs]
    verdict = _summary(compared)
    return Verdict(verdict.level, verdict.differences, (*verdict.notes, *found.notes))


def quantisation(model: Any) -> str | None:
    """The method by which a live model's weights were quantised, `bitsandbytes`; None when they were not."""
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    if config is None:
        return None
    method = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
    return str(getattr(method, "value", method) or "unknown method")


def spread(model: Any) -> bool:
    """Whether this process holds only parts of a live model's weights: FSDP of either kind, DeepSpeed's ZeRO-3."""
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        return True
    return any(hasattr(each, "device_mesh") or hasattr(each, "ds_id") for each in model.parameters())


def _fits(table: Tensor, live: LiveTensor, resized: bool) -> bool:
    shape = tuple(live.shape)
    if shape == table.shape:
        return True
    longer = resized and _EMBEDDING_OR_HEAD.fullmatch(table.name) is not None
    return longer and shape[1:] == table.shape[1:] and shape[:1] >= table.shape[:1]


@dataclass(frozen=True, slots=True)
class _Compared:
    """One tensor: whether its values are the locked ones; None and a reason where that cannot be told."""

    name: str
    same: bool | None
    expected: str = ""
    found: str = ""
    converted: str = ""
    unproved: str = ""


def _compare(table: Tensor, live: LiveTensor) -> _Compared:
    import torch  # noqa: PLC0415  slow, and absent without the extra

    if table.digest is None:
        return _Compared(table.name, None, unproved="the base was registered from file digests, without its values")
    if live.device.type == "meta":
        return _Compared(table.name, None, unproved="weights are offloaded, on no device")
    stored = getattr(torch, _TORCH_NAMES.get(table.dtype, ""), None)
    if stored is None:
        return _Compared(table.name, None, unproved=f"the checkpoint holds {table.dtype}, which torch has no name for")
    held = live.detach()[: table.shape[0]] if table.shape else live.detach()
    back = held.to(stored)
    digest = _digest(back)
    if digest == table.digest and held.dtype == stored:
        return _Compared(table.name, True)
    if digest == table.digest and torch.equal(back.to(held.dtype), held):
        return _Compared(table.name, True, converted=_short(held.dtype))
    if not _lossless(stored, held.dtype):
        return _Compared(table.name, None, unproved=f"{_short(stored)} weights are held as {_short(held.dtype)}")
    return _Compared(table.name, False, expected=f"bytes {table.digest[:12]}", found=f"bytes {digest[:12]}")


def _digest(tensor: LiveTensor) -> str:
    import torch  # noqa: PLC0415

    plain = tensor.to("cpu").contiguous().reshape(-1).view(torch.uint8)
    return str(blake3(memoryview(plain.numpy()), max_threads=blake3.AUTO).hexdigest())


def _lossless(stored: Any, held: Any) -> bool:
    """Whether every value of dtype `stored` is one of dtype `held`."""
    import torch  # noqa: PLC0415

    if stored == held or not (stored.is_floating_point and held.is_floating_point):
        return bool(stored == held)
    narrow, wide = torch.finfo(stored), torch.finfo(held)
    return bool(wide.eps <= narrow.eps and wide.max >= narrow.max and wide.tiny <= narrow.tiny)


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _summary(compared: list[_Compared]) -> Verdict:
    other = [each for each in compared if each.same is False]
    if other:
        count = Difference("tensors with equal values", str(len(compared)), str(len(compared) - len(other)))
        return Verdict(
            Level.STRUCTURAL, (count, *_first(tuple(Difference(e.name, e.expected, e.found) for e in other)))
        )
    unproved = sorted({each.unproved for each in compared if each.same is None})
    if unproved:
        return Verdict(Level.STRUCTURAL, notes=tuple(unproved))
    converted = sorted({each.converted for each in compared if each.converted})
    if converted:
        return Verdict(Level.EQUIVALENT, notes=(f"held as {', '.join(converted)}, converted back without loss",))
    return Verdict(Level.EXACT)


def _first(differences: tuple[Difference, ...]) -> tuple[Difference, ...]:
    more = len(differences) - LISTED_DIFFERENCES
    if more <= 0:
        return differences
    return (*differences[:LISTED_DIFFERENCES], Difference(f"{more:,} more tensors", "equal", "different"))
