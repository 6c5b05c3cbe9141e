"""Servable: what a serving stack does with an adapter, judged by what the adapter is, before anything is started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from adapter_registry.domain.adapter import Description
from adapter_registry.domain.base import Base
from adapter_registry.domain.servable_architectures import beside_language
from adapter_registry.domain.servable_experts import experts_of
from adapter_registry.domain.servable_facts import Facts
from adapter_registry.domain.servable_modules import gaps, paths, unpaired
from adapter_registry.domain.servable_names import as_text
from adapter_registry.domain.servable_rules import NOTES, PADDING, RULES, STACKS, Fate, Stack
from adapter_registry.domain.servable_rules import parse as parse

HEADS = ("lm_head", "embed_out", "output_layer")


class Servable(StrEnum):
    """What becomes of an adapter on a stack, best first."""

    LOADS = "loads"
    FLAGS = "loads with flags"
    FLATTEN = "loads after flattening"
    WRONG = "loads but wrong"
    REFUSED = "refused"

    @property
    def serves(self) -> bool:
        """Whether it is served right as it is."""
        return self in (Servable.LOADS, Servable.FLAGS)


@dataclass(frozen=True, slots=True)
class Report:
    """What one stack does with one adapter.

    Attributes:
        stack: `vllm:0.33`.
        verdict: the worst that is true of it.
        reasons: what stands in the way, or is needed, each a sentence without a full stop.
        flags: what to start the stack with, ready to paste; also where it loads only once flattened.
        notes: what is worth knowing and decides nothing.
        load: what each load of it has to say beside its name and path, `is_3d_lora_weight`; empty for nothing.
        pad_to: the rank to write where it loads only once flattened to that; None where any does.
    """

    stack: str
    verdict: Servable
    reasons: tuple[str, ...]
    flags: str
    notes: tuple[str, ...]
    load: str = ""
    pad_to: int | None = None


def flattening(reports: Sequence[Report]) -> str | None:
    """The options of `adapters export` with which it loads on all that want it flattened; None where none does."""
    if all(each.verdict is not Servable.FLATTEN for each in reports):
        return None
    rank = padding(reports)
    return "--flatten" if rank is None else f"--flatten --rank {rank}"


def padding(reports: Sequence[Report]) -> int | None:
    """The rank to flatten to, with which it loads on all that want one; None where any does."""
    return max((each.pad_to for each in reports if each.pad_to is not None), default=None)


def facts_of(
    description: Description, document: Mapping[str, Any], base: Base | None, *, tensors: Iterable[str]
) -> Facts:
    """What decides, from what intake found, the parsed config, the base where it is known, and names of tensors."""
    start = document.get("init_lora_weights")
    ranks = set(description.ranks)
    tokens = document.get("trainable_token_indices")
    heads = set(description.matched) & set(HEADS)
    tensors = tuple(tensors)
    modules, there = paths(tensors), [tensor.name for tensor in base.tensors] if base else []
    return Facts(
        method=description.peft_type,
        variant=description.variant,
        rank=description.rank or 0,
        declared=max(_named_ranks(document), default=0),
        mixed_ranks=bool(ranks) and ranks != {str(document.get("r", 8))},
        alphas=bool(document.get("alpha_pattern")) and not _one_alpha(description),
        bias=str(document.get("bias") or "none") != "none",
        saved=tuple(document.get("modules_to_save") or ()),
        tokens=bool(tokens) or description.vocab_resized,
        start=start if isinstance(start, str) else "",
        pattern=isinstance(document.get("target_modules"), str) and document["target_modules"].lower() != "all-linear",
        kinds=tuple(sorted(description.matched)),
        parameters=bool(document.get("target_parameters")),
        experts=experts_of(modules, there),
        text=as_text(modules, there),
        tied_head=bool(heads) and base is not None and base.tied,
        mixture=any(".experts." in name for name in there),
        quantised=base.quantization if base else None,
        architecture=(base.architecture or "") if base else "",
        beside=beside_language(tensors),
        unpaired=unpaired(modules, there),
        gaps=gaps(modules, there),
    )


def _named_ranks(document: Mapping[str, Any]) -> Iterator[int]:
    """`r`, and what `rank_pattern` gives to modules, were there such."""
    for rank in (document.get("r"), *(document.get("rank_pattern") or {}).values()):
        if isinstance(rank, int):
            yield rank


def _one_alpha(description: Description) -> bool:
    """Whether every module has the scale that the config's alpha and the one rank give, whatever patterns say."""
    if len(description.ranks) != 1 or len(description.scaling) != 1 or description.alpha is None:
        return False
    rank = float(next(iter(description.ranks)))
    plain = description.alpha / (rank**0.5 if "rslora" in description.variant else rank)
    return next(iter(description.scaling)) == f"{plain:.6g}"


def report(stack: Stack, facts: Facts) -> Report:
    """What `stack` does with an adapter of which `facts` are true."""
    about = STACKS[stack.name]
    found = list(_found(stack, facts))
    more = about.needs(facts)
    if any(fate is Fate.REFUSED for fate, _ in found):
        verdict = Servable.REFUSED
    elif any(fate is Fate.WRONG for fate, _ in found):
        verdict = Servable.WRONG
    elif found:
        verdict = Servable.FLATTEN
    else:
        verdict = Servable.FLAGS if more else Servable.LOADS
    flags = "" if verdict in (Servable.REFUSED, Servable.WRONG) else about.flags(facts)
    told = (each for each in NOTES if stack.name in each.stacks and each.test(facts))
    notes = (*about.notes, *(each.text.format(facts=facts) for each in told))
    load = about.load(facts) if flags else ""
    if load:
        notes = (*notes, f"each load has to say {load}, as `adapters deploy`, the follower and the resolver do")
    reasons = (text for _, text in found) if found else more
    pads = verdict is Servable.FLATTEN and stack.name in PADDING and facts.padded != facts.rank
    return Report(str(stack), verdict, tuple(reasons), flags, notes, load, facts.padded if pads else None)


def _found(stack: Stack, facts: Facts) -> Iterator[tuple[Fate, str]]:
    for rule in RULES:
        fate = rule.fates.get(str(stack)) or rule.fates.get(stack.name)
        if fate is not None and rule.test(facts):
            yield fate, rule.text.format(stack=stack.name, facts=facts)
            if facts.method != "LORA":
                return  # what is true of another method's modules and ranks says nothing more


def stacks_of(text: str) -> tuple[Stack, ...]:
    """The stacks that a comma-separated text names; every one in its newest version for an empty text.

    Raises:
        InvalidInput: one that no rules are known for.
    """
    names = [each.strip() for each in text.split(",") if each.strip()]
    return tuple(dict.fromkeys(parse(name) for name in names or STACKS))


def judged(facts: Facts, stacks: Sequence[Stack]) -> tuple[Report, ...]:
    """A report for each stack, in their order."""
    return tuple(report(stack, facts) for stack in stacks)
