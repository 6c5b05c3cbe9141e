"""What cannot be composed, by name and with the way out: everything that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapter_registry.domain.errors import Problem, Unsupported
from adapter_registry.domain.peft.fields import CONFIG
from adapter_registry.tensors.loaded import Loaded

OTHER_METHODS = "Convert it to a LoRA with PEFT first, or merge the adapters into the base one after another."
MIXED = "An IA3 multiplies the base's weights and a LoRA adds to them: merge them into the base instead."
COMPOSED = frozenset({"LORA", "IA3"})
NO_WEIGHT_DELTA = {
    "alora": "it acts from an invocation's tokens on only: its delta is not the same for every token",
    "arrow": "it chooses among adapters token by token",
    "bdlora": "its factors are the blocks of block-diagonal ones",
    "kasa": "it adds to a base whose smallest singular values are taken out",
    "layer_replication": "several of its layers share one weight of the base and differ in what they add to it",
    "lora_bias": "its delta has a bias beside the factors",
    "monteclora": "its factors are drawn anew in each pass",
    "qalora": "its lora_A reads pooled groups of inputs",
    "velora": "it adds an embedding beside the factors",
}
"""Variant of LoRA -> why it has no plain delta."""


@dataclass(frozen=True, slots=True)
class Part:
    """One adapter that goes in: opened, with its weight, and how people call it."""

    adapter: Loaded
    weight: float
    name: str


def refuse(parts: Sequence[Part]) -> None:
    """Raise Unsupported with everything that cannot be composed."""
    problems = [*_variants(parts), *_disagreements(parts), *_overlaps(parts)]
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems[:20])
        raise Unsupported(f"these adapters cannot be composed; nothing was written.{listed}", problems=problems)


def _variants(parts: Sequence[Part]) -> Iterator[Problem]:
    for part in parts:
        config = part.adapter.config
        if config.peft_type not in COMPOSED:
            yield _bad(part, "peft_type", "LORA", config.peft_type, OTHER_METHODS)
            continue
        for variant in config.variant:
            if variant in NO_WEIGHT_DELTA:
                fix = f"Leave it out: {NO_WEIGHT_DELTA[variant]}."
                yield _bad(part, variant, "a LoRA whose delta is scale · B · A", variant, fix)


def _disagreements(parts: Sequence[Part]) -> Iterator[Problem]:
    """Facts of a config that all of them have to share."""
    first = parts[0]
    kinds = {part.adapter.config.peft_type for part in parts}
    if len(kinds) > 1 and kinds <= COMPOSED:
        yield _bad(first, "peft_type", "one method for all", ", ".join(sorted(kinds)), MIXED)
    tasks = {part.adapter.config.task_type for part in parts} - {None}
    if len(tasks) > 1:
        yield _bad(
            first, "task_type", "one task for all", ", ".join(sorted(map(str, tasks))), "Compose those of one task."
        )
    named = {part.adapter.config.target_parameters for part in parts} - {()}
    if len(named) > 1:
        fix = "Compose adapters of the same parameters: PEFT tells those of one module apart by their order."
        yield _bad(first, "target_parameters", "the same parameters, or none", f"{len(named)} lists", fix)
    tokens = {_tokens(part) for part in parts} - {()}
    if len(tokens) > 1:
        fix = "Tokens trained apart cannot be added: leave out all adapters but one that trained tokens."
        yield _bad(first, "trainable_token_indices", "the same tokens, or none", f"{len(tokens)} sets", fix)


def _tokens(part: Part) -> tuple[object, ...]:
    found = part.adapter.config.trainable_token_indices
    return tuple(sorted(found.items())) if found else ()


def _overlaps(parts: Sequence[Part]) -> Iterator[Problem]:
    """A module that one adapter saves whole and another adds to."""
    added = {layer.name: part for part in parts for layer in part.adapter.layers}
    for part in parts:
        for module in sorted({key.module for key in part.adapter.full if key.part == "weight" and not key.base_layer}):
            other = added.get(module)
            if other is not None and other is not part:
                fix = f"Leave one of the two out: {other.name} adds a delta to this module."
                yield _bad(part, module, "a module that no other adapter adds to", "saved whole", fix)


def _bad(part: Part, field: str, expected: str, found: str, fix: str) -> Problem:
    return Problem("cannot-compose", f"{part.name} {CONFIG}", field, expected, found, fix)
