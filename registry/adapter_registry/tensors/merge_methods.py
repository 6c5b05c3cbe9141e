"""Which adapters can be merged here, which through PEFT, and which not at all, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from adapter_registry.checkpoints.base_folder import Opened
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput, Problem, Unsupported
from adapter_registry.domain.peft import AdapterConfig, read_config
from adapter_registry.domain.peft_fields import CONFIG, PROMPT_TYPES

if TYPE_CHECKING:
    from adapter_registry.tensors.merge import Ingredient, Options

NATIVE = frozenset({"LORA", "IA3"})
"""Methods whose arithmetic is here."""

NOT_A_WEIGHT = {
    "ADAPTION_PROMPT": "it adds prompts inside attention",
    "LILY": "its change depends on the input",
    "POLY": "its change depends on the task",
    "SHADOW": "it runs a network beside the base",
    "XLORA": "its change depends on the input",
    **{kind: "it adds virtual tokens, not weights" for kind in PROMPT_TYPES},
}
"""Methods that change no weight -> why there is nothing to merge."""

NOT_MERGEABLE = {
    "alora": "an activated LoRA acts on tokens after its invocation only",
    "arrow": "Arrow routes each token among adapters",
    "qalora": "QALoRA pools the inputs of a quantised layer",
    "layer_replication": "layer_replication makes layers that share weights, which differ after merging",
}
"""Variants of LoRA whose change is none of the weights."""

THROUGH_PEFT = frozenset({"kasa", "velora", "monteclora", "bdlora"})
"""Variants of LoRA that PEFT itself has to merge."""


def check_mergeable(
    base: Base, opened: Opened, ingredients: Sequence[Ingredient], options: Options, stack: ExitStack
) -> list[Ingredient]:
    """The adapters to merge by our own arithmetic.

    Raises:
        InvalidInput: there is none.
        Unsupported: the base is quantised, or an adapter changes no weights.
    """
    if not ingredients:
        raise InvalidInput("name at least one adapter to merge.")
    problems = [*_base_problems(base), *(p for each in ingredients for p in _problems(each))]
    if problems:
        listed = "; ".join(map(str, problems))
        raise Unsupported(f"this cannot be merged: {listed} Nothing was written.", problems=problems)
    return list(ingredients)


def config_of(ingredient: Ingredient) -> AdapterConfig:
    """The config of an adapter's folder.

    Raises:
        InvalidInput: it has none that can be read.
    """
    path = ingredient.folder / CONFIG
    if not path.is_file():
        raise InvalidInput(f"{ingredient.folder} holds no {CONFIG}: it is no adapter.")
    try:
        reading = read_config(json.loads(path.read_bytes()))
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be read: {error}.") from error
    if reading.config is None:
        raise InvalidInput(f"{path}: {reading.problems[0]}", problems=reading.problems)
    return reading.config


def _base_problems(base: Base) -> Iterator[Problem]:
    if base.quantization:
        yield Problem(
            "cannot-merge",
            "the base",
            "quantization_config",
            "weights in a float type",
            f"{base.quantization}: what is added would be rounded to the few values that a quantised weight can have",
            "Merge onto the original weights, or onto what was dequantised from them (--onto dequantized).",
        )


def _problems(ingredient: Ingredient) -> Iterator[Problem]:
    config = config_of(ingredient)
    reasons = [NOT_A_WEIGHT[config.peft_type]] if config.peft_type in NOT_A_WEIGHT else []
    reasons += [NOT_MERGEABLE[each] for each in config.variant if each in NOT_MERGEABLE]
    for reason in reasons:
        found = f"{config.peft_type}: {reason}"
        fix = "Load it beside its base instead."
        yield Problem("cannot-merge", ingredient.name or ingredient.folder.name, "", "a change of weights", found, fix)
