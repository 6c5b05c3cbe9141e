"""Which adapters can be merged here, which through PEFT, and which not at all, by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import InvalidInput, Problem, Unsupported
from adapter_registry.domain.peft.config import AdapterConfig, read_config
from adapter_registry.domain.peft.fields import CONFIG, PROMPT_TYPES

if TYPE_CHECKING:
    from adapter_registry.tensors.merging.merge import Ingredient, Options

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
    "layer_replication": "the layers that layer_replication makes share one weight of the base, and each adds its own "
    "change to it, so that no checkpoint of this base holds the result",
}
"""Variants of LoRA whose change is none of the weights."""

THROUGH_PEFT = frozenset({"kasa", "velora", "monteclora", "bdlora"})
"""Variants of LoRA whose arithmetic is PEFT's alone."""

ORIGINAL = "Register the original weights, declare this base to stand in for them, and merge onto those."
ONTO = " Or merge onto the floats that these weights stand for, which the adapter was trained on: --onto dequantized."


def check_mergeable(base: Base, ingredients: Sequence[Ingredient], options: Options) -> bool:
    """Whether the adapters are merged by our own arithmetic; False: one of them, by PEFT.

    Raises:
        InvalidInput: there is none.
        Unsupported: the base is quantised, or an adapter changes no weights; `problems` has every reason.
    """
    if not ingredients:
        raise InvalidInput("name at least one adapter to merge.")
    configs = [config_of(each) for each in ingredients]
    problems = [] if options.onto else [*_base_problems(base)]
    for each, config in zip(ingredients, configs, strict=True):
        problems += _problems(each, config)
    ours = options.accumulate != "peft" and all(map(_is_native, configs))
    if not ours and options.onto:
        found = "one that PEFT merges, which it does into weights as they are stored"
        problems.append(Problem("cannot-merge", "--onto", "", "a method whose arithmetic is here", found, ORIGINAL))
    if not ours and (len(ingredients) > 1 or ingredients[0].weight != 1):
        problems += [_alone(each, config) for each, config in zip(ingredients, configs, strict=True)]
    if problems:
        listed = "; ".join(map(str, problems[:4]))
        raise Unsupported(f"this cannot be merged: {listed} Nothing was written.", problems=problems)
    return ours


def no_change_of_weights(peft_type: str, variant: Sequence[str]) -> list[str]:
    """Why an adapter of this method and these variants of it has nothing that could be merged; empty when it has."""
    reasons = [NOT_A_WEIGHT[peft_type]] if peft_type in NOT_A_WEIGHT else []
    return reasons + [NOT_MERGEABLE[each] for each in variant if each in NOT_MERGEABLE]


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


def _is_native(config: AdapterConfig) -> bool:
    return config.peft_type in NATIVE and not THROUGH_PEFT & set(config.extensions)


def _base_problems(base: Base) -> Iterator[Problem]:
    if base.quantization:
        yield Problem(
            "cannot-merge",
            "the base",
            "quantization_config",
            "weights in a float type",
            f"{base.quantization}: what is added would be rounded to the few values that a quantised weight can have",
            f"{ORIGINAL}{ONTO}" if base.quantization == "bitsandbytes" else ORIGINAL,
        )


def _problems(ingredient: Ingredient, config: AdapterConfig) -> Iterator[Problem]:
    for reason in no_change_of_weights(config.peft_type, config.variant):
        found = f"{config.peft_type}: {reason}"
        yield Problem("cannot-merge", _name(ingredient), "", "a change of weights", found, "Load it beside its base.")


def _alone(ingredient: Ingredient, config: AdapterConfig) -> Problem:
    expected = "one adapter, of weight 1, as PEFT merges it"
    found = f"{config.peft_type} x {ingredient.weight:g}"
    return Problem("cannot-merge", _name(ingredient), "", expected, found, "Merge it alone.")


def _name(ingredient: Ingredient) -> str:
    return ingredient.name or ingredient.folder.name
