"""Values of an adapter's tensors: whether they are numbers at all, and whether they change anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from adapter_registry.checkpoints.adapter_files import Source
from adapter_registry.checkpoints.adapter_keys import Key
from adapter_registry.checkpoints.full_weights import changed
from adapter_registry.checkpoints.header import TensorEntry
from adapter_registry.checkpoints.ia3 import PART
from adapter_registry.checkpoints.lora import Place
from adapter_registry.checkpoints.subject import Subject, method_names
from adapter_registry.checkpoints.targets import scaling_of
from adapter_registry.domain.base import size_of
from adapter_registry.domain.errors import Problem
from adapter_registry.domain.peft.fields import MODELLED, WEIGHTS

if TYPE_CHECKING:
    from adapter_registry.checkpoints.values import Values


def values_of(file: Source, entries: Sequence[TensorEntry]) -> dict[str, Values]:
    """What each float tensor holds, by name; tensors of other types are left out."""
    # numpy is needed for values only, and listing adapters must not import it.
    from adapter_registry.checkpoints import values  # noqa: PLC0415

    with file.open() as stream:
        return {entry.name: values.examine(stream, entry) for entry in entries if entry.dtype in values.FLOATS}


def value_problems(subject: Subject, values: Mapping[str, Values]) -> Iterator[Problem]:
    """Tensors that hold NaN, infinity or no floats, and a file that holds nothing but zeros."""
    modelled = subject.config.peft_type in MODELLED
    methods = method_names(subject)
    for entry in subject.entries:
        found = values.get(entry.name)
        if found is None:
            # A full parameter may be a counter, as those of a batch normalisation.
            if modelled and entry.name in methods:
                fix = "Save the adapter again from the model it was trained on."
                yield Problem("not-float", WEIGHTS, entry.name, "a float type", entry.dtype, fix)
        elif found.not_finite:
            told = f"{found.not_finite:,} of {size_of(entry.shape):,} values NaN or infinite"
            fix = "Train it again, or repair it."
            yield Problem("not-finite", WEIGHTS, entry.name, "finite values", told, fix)
    # Methods that are not modelled may start at zero everywhere; so may a prefix, when told to.
    if modelled and not subject.config.zero_prompt and _all_zero(subject, values):
        fix = "It was saved without its values: save it again from the trained model."
        yield Problem("zero-weights", WEIGHTS, "", "values", "zeros in every tensor", fix)


def changes(subject: Subject, values: Mapping[str, Values]) -> bool:
    """Whether the adapter changes what the base computes, as far as its values can tell."""
    if subject.config.peft_type == "LORA":
        added = [key for key in subject.keys if key.part in ("token_delta", "lora_B.bias")]
        if any(not _zero(key, values) for key in added) or any(_moves(p, subject, values) for p in subject.places):
            return True
        return changed(subject.keys, subject.modules, subject.digest_as)
    if subject.config.peft_type == "IA3":
        vectors = [key for key in subject.keys if key.part == PART]
        if not all(key.entry.name in values and values[key.entry.name].all_one for key in vectors):
            return True
        return changed(subject.keys, subject.modules, subject.digest_as)
    return not _all_zero(subject, values)


def _moves(place: Place, subject: Subject, values: Mapping[str, Values]) -> bool:
    """A product of two factors is zero when one of them is; a fresh LoRA has one such factor in each layer."""
    down, up = place.layer.down, place.layer.up
    if down is None or up is None or _zero(down, values) or _zero(up, values):
        return False
    return scaling_of(place.name, subject.config, subject.targets) != 0


def _zero(key: Key, values: Mapping[str, Values]) -> bool:
    found = values.get(key.entry.name)
    return found is not None and found.all_zero


def _all_zero(subject: Subject, values: Mapping[str, Values]) -> bool:
    return all(entry.name in values and values[entry.name].all_zero for entry in subject.entries)
