"""The tensors of a live torch model under the names its checkpoint uses for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from adapter_registry.domain.base import Base, Tensor
from adapter_registry.domain.lock import Difference

if TYPE_CHECKING:
    import torch

LiveTensor: TypeAlias = "torch.Tensor"
Pairs: TypeAlias = "list[tuple[Tensor, LiveTensor]]"

_HEAD = "head:"
_HEADS = {"lm_head", "score", "classifier", "classification_head", "qa_outputs", "cls", "pooler", "embed_out"}
_LEGACY = re.compile(r"(?<=\.)(gamma|beta)$")
_CONSTANT = re.compile(r".*(\.inv_freq|position_ids|\.attn\.bias|\.attn\.masked_bias)")


@dataclass(frozen=True, slots=True)
class Live:
    """One tensor of a live model: a parameter, or a buffer, which a checkpoint may or may not hold."""

    tensor: LiveTensor
    is_parameter: bool


@dataclass(frozen=True, slots=True)
class Aligned:
    """What matching names found.

    Attributes:
        pairs: each tensor of the Base with the live tensor of its name.
        differences: names that only one side has.
        notes: heads that only one side has, which an adapter's lock does not cover.
    """

    pairs: tuple[tuple[Tensor, LiveTensor], ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]


def unwrapped(model: Any) -> Any:
    """The model under PEFT's; `model` itself when it bears no adapters."""
    inside = _inside(model)
    return model if inside is None else unwrapped(inside)


def tensors_of(module: Any, prefix: str = "") -> dict[str, Live]:
    """Every tensor of a module but those that PEFT added; a tied one under each of its names."""
    return dict(_walk(module, prefix))


def _walk(module: Any, prefix: str) -> Iterator[tuple[str, Live]]:
    inside = _inside(module)
    if inside is not None:
        yield from _walk(inside, prefix)
        return
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        yield prefix + name, Live(parameter, is_parameter=True)
    for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        yield prefix + name, Live(buffer, is_parameter=False)
    # named_children leaves out a module that stands in two places, as tied heads do.
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{prefix}{name}.")


def _inside(module: Any) -> Any:
    """What a PEFT model, layer or wrapper stands in for; None when `module` is none of these."""
    from peft import PeftModel  # noqa: PLC0415  slow, and absent without the extra
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer  # noqa: PLC0415
    from peft.utils.other import AuxiliaryTrainingWrapper  # noqa: PLC0415

    if isinstance(module, PeftModel):
        return module.get_base_model()
    if isinstance(module, BaseTuner):
        return module.model
    if isinstance(module, AuxiliaryTrainingWrapper):
        return module.original_module
    return getattr(module, "base_layer", None) if isinstance(module, BaseTunerLayer) else None


def align(live: Mapping[str, Live], base: Base, *, root: Any) -> Aligned:
    """Match the tensors of a live model with those of `base` by name.

    Args:
        live: of `tensors_of`.
        base: with its whole table.
        root: the model without PEFT; tells the prefix of its trunk, its head, and how its weights were fused.
    """
    table = {tensor.name: tensor for tensor in base.tensors}
    if not table.keys() <= live.keys():
        live = _as_saved(live, root)
    trunk = f"{getattr(root, 'base_model_prefix', '')}."
    locked = _plain_names(table, trunk)
    held = _plain_names(live, trunk)
    pairs = [(table[name], live[held[plain]].tensor) for plain, name in locked.items() if plain in held]
    pairs += _untied_head(pairs, base, root)
    covered = {_memory(tensor) for _, tensor in pairs}
    missing = {plain: name for plain, name in locked.items() if plain not in held and not _is_constant(name, root)}
    extra = {
        plain: name
        for plain, name in held.items()
        if plain not in locked and live[name].is_parameter and _memory(live[name].tensor) not in covered
    }
    differences = [
        *(
            Difference(name, _shown(table[name].shape), "absent")
            for plain, name in missing.items()
            if not _is_head(plain)
        ),
        *(Difference(n, "absent", _shown(live[n].tensor.shape)) for plain, n in extra.items() if not _is_head(plain)),
    ]
    return Aligned(tuple(pairs), tuple(differences), tuple(_head_notes(missing, extra)))


def _plain_names(names: Iterable[str], trunk: str) -> dict[str, str]:
    """Name without the trunk's prefix -> name; what stands outside a trunk that has one begins with `head:`."""
    listed = list(names)
    within = trunk != "." and any(name.startswith(trunk) for name in listed)
    return {_plain(name, trunk if within else ""): name for name in listed}


def _plain(name: str, trunk: str) -> str:
    modern = _LEGACY.sub(lambda found: {"gamma": "weight", "beta": "bias"}[found.group()], name)
    inside = modern.removeprefix(trunk)
    outside = trunk and inside == modern
    return f"{_HEAD}{modern}" if outside or inside.split(".", 1)[0] in _HEADS else inside


def _is_head(plain: str) -> bool:
    return plain.startswith(_HEAD)


def _is_constant(name: str, root: Any) -> bool:
    """Whether a checkpoint's tensor is computed from the config in newer code, which no longer holds it."""
    ignored = getattr(root, "_keys_to_ignore_on_load_unexpected", None) or ()
    return _CONSTANT.fullmatch(name) is not None or any(re.search(pattern, name) for pattern in ignored)


def _as_saved(live: Mapping[str, Live], root: Any) -> Mapping[str, Live]:
    """`live` as saving the model would name and split it, e.g. one tensor for each expert."""
    try:
        from transformers import PreTrainedModel  # noqa: PLC0415  slow, and absent without the extra
        from transformers.core_model_loading import revert_weight_conversion  # noqa: PLC0415
    except ImportError:
        # Before version 5, transformers loads weights as the checkpoint holds them.
        return live
    if not isinstance(root, PreTrainedModel):
        return live
    saved = revert_weight_conversion(root, {name: each.tensor for name, each in live.items()})
    buffers = {_memory(each.tensor) for each in live.values() if not each.is_parameter}
    return {name: Live(tensor, is_parameter=_memory(tensor) not in buffers) for name, tensor in saved.items()}


def _untied_head(pairs: Pairs, base: Base, root: Any) -> Pairs:
    """The output head where it ought to be the input embedding and is not: held against that embedding."""
    ends = (getattr(root, "get_input_embeddings", None), getattr(root, "get_output_embeddings", None))
    if not base.tied or None in ends:
        return []
    first, last = (getattr(end() if end else None, "weight", None) for end in ends)
    if first is None or last is None or _memory(first) == _memory(last):
        return []
    return [(tensor, last) for tensor, live in pairs if _memory(live) == _memory(first)]


def _memory(tensor: LiveTensor) -> int:
    """Equal for tensors that are one in memory."""
    return id(tensor) if tensor.device.type == "meta" else int(tensor.data_ptr())


def _head_notes(missing: Mapping[str, str], extra: Mapping[str, str]) -> Iterator[str]:
    lost = [name for plain, name in missing.items() if _is_head(plain)]
    added = [name for plain, name in extra.items() if _is_head(plain)]
    if lost:
        yield f"the base's {', '.join(lost)} has no counterpart in the live model"
    if added:
        yield f"{', '.join(added)} is no part of the base and was not compared"


def _shown(shape: Iterable[int]) -> str:
    return str(list(shape))
