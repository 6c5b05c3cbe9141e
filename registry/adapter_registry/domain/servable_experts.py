"""Experts that an adapter adapts, and which of them serving stacks take; read in their source.

PEFT adapts experts as stacks, by the names of their parameters (`target_parameters`), where transformers keeps them so,
and one by one where they are modules. What is said of vLLM and stacks was seen too: the loading code of 0.32 and 0.33
ran over those of Qwen3-MoE and Mixtral. `tests/unit/serving/test_vllm_wheel.py` holds the architectures.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

VLLM_STACKED = frozenset(
    [
        "ClefOmniForJointSchema",
        "GptOssForCausalLM",
        "InternS1ProForConditionalGeneration",
        "InternS2MobiusForConditionalGeneration",
        "InternS2PreviewForConditionalGeneration",
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    ]
)
"""Architectures of which vLLM takes adapters of stacks as they are, and of single experts when told; of others it
is the other way round."""
VLLM_UNGATED = frozenset(
    [
        "NemotronHForCausalLM",
        "NemotronHPuzzleForCausalLM",
        "NemotronH_Nano_Omni_Reasoning_V3",
        "NemotronH_Nano_VL_V2",
        "NemotronH_Omni_Reasoning_V3",
        "NemotronH_Super_Omni_Reasoning_V3",
    ]
)
"""Those whose experts have no gate: of a stack of them vLLM takes one half for the gate."""
VLLM_PLACES: Mapping[str, str] = {
    "Gemma4ForCausalLM": "experts",
    "Gemma4ForConditionalGeneration": "experts",
    "Gemma4UnifiedForConditionalGeneration": "experts",
    "GraniteMoeForCausalLM": "block_sparse_moe.experts",
    "GraniteMoeHybridForCausalLM": "block_sparse_moe.experts",
    "GraniteMoeSWAForCausalLM": "block_sparse_moe.experts",
    "GraniteMoeSharedForCausalLM": "block_sparse_moe.experts",
    "JambaForCausalLM": "feed_forward.experts",
    "Lfm2MoeForCausalLM": "feed_forward.experts",
    "Llama4ForCausalLM": "feed_forward.experts",
    "Llama4ForConditionalGeneration": "feed_forward.experts",
    "MiniMaxM2ForCausalLM": "block_sparse_moe.experts",
    "MixtralForCausalLM": "block_sparse_moe.experts",
    "PhiMoEForCausalLM": "block_sparse_moe.experts",
}
"""Architecture -> where vLLM looks for experts below a layer, where that is not `mlp.experts`."""
PEFT_LEAVES = frozenset(
    ["JambaForCausalLM", "Lfm2MoeForCausalLM", "NemotronHForCausalLM", "PhimoeForCausalLM", "Qwen2MoeForCausalLM"]
)
"""Architectures whose experts transformers 5 keeps as stacks, and for which PEFT 0.21 makes none of single ones."""
GATED = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
"""What the modules of an expert are called that has a gate: gate, up, down. Flattening makes such of stacks."""
SGLANG_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj"})
"""What SGLang is to be started with, all of it, to adapt any part of experts."""

_STACK = re.compile(r"(?:^|\.)(?P<layer>\d+)\.(?P<place>(?:[a-z_]\w*\.)*experts)(?P<inner>(?:\.base_layer)*)$")
_SINGLE = re.compile(r"(?:^|\.)(?P<layer>\d+)\.(?P<place>(?:[a-z_]\w*\.)*experts)\.(?P<number>\d+)\.(?P<kind>\w+)")


@dataclass(frozen=True, slots=True)
class Experts:
    """Which experts an adapter adapts.

    Attributes:
        stacks: where it adapts stacks of them, below a layer: `mlp.experts`; sorted.
        halves: whether somewhere it adapts one of a stack's two parameters alone.
        singly: whether it adapts experts one by one.
        some: whether in some layer it does so to some of them only, or to some of their modules.
        torn: whether somewhere it adapts the gate of experts without what it gates.
        namesakes: modules that it adapts beside experts, and that are called as modules of experts that it adapts.
        single: what each expert's modules are called in the base, where that keeps singly what is adapted as stacks.
    """

    stacks: tuple[str, ...] = ()
    halves: bool = False
    singly: bool = False
    some: bool = False
    torn: bool = False
    namesakes: tuple[str, ...] = ()
    single: tuple[str, ...] = ()

    def elsewhere(self, architecture: str) -> str:
        """Where it adapts stacks that vLLM looks for in another place, for people; empty for nowhere."""
        return ", ".join(each for each in self.stacks if each != vllm_place(architecture))


def vllm_place(architecture: str) -> str:
    """Where vLLM looks for experts below a layer."""
    return VLLM_PLACES.get(architecture, "mlp.experts")


def experts_of(modules: Iterable[str], base: Iterable[str]) -> Experts:
    """Which experts are adapted.

    Args:
        modules: paths of the adapted ones.
        base: names of the base's tensors; none where they are not known.
    """
    modules = tuple(modules)
    stacks: dict[tuple[str, str], set[int]] = defaultdict(set)
    for match in filter(None, map(_STACK.search, modules)):
        stacks[match["layer"], match["place"]].add(match["inner"].count("."))
    adapted = _singly(modules)
    there = _singly(base) if adapted or stacks else {}
    halves = any(depths != {0, 1} for depths in stacks.values())
    return Experts(
        tuple(sorted({place for _, place in stacks})),
        halves,
        bool(adapted),
        any(_some(found, there.get(layer, set())) for layer, found in adapted.items()),
        any(map(_torn, adapted.values())),
        _namesakes(modules, {kind for found in adapted.values() for _, kind in found}),
        () if halves else _single({layer for layer, _ in stacks}, there),
    )


def _torn(adapted: set[tuple[int, str]]) -> bool:
    halves = [
        {number for number, kind in adapted if kind in names} for names in (("gate_proj", "w1"), ("up_proj", "w3"))
    ]
    return bool(halves[0]) and halves[0] != halves[1]


def _namesakes(modules: Iterable[str], kinds: set[str]) -> tuple[str, ...]:
    beside = (path.rpartition(".")[2] for path in modules if _SINGLE.search(path) is None)
    return tuple(sorted(kinds & set(beside)))


def _single(layers: set[str], there: Mapping[tuple[str, str], set[tuple[int, str]]]) -> tuple[str, ...]:
    """What the modules of experts are called that the base has, one by one, in all of these layers; () for none."""
    found: dict[str, set[str]] = defaultdict(set)
    for (layer, _), experts in there.items():
        found[layer] |= {kind for _, kind in experts}
    told = (kinds for kinds in GATED if layers and all(found[each].issuperset(kinds) for each in layers))
    return tuple(sorted(next(told, ())))


def _singly(names: Iterable[str]) -> dict[tuple[str, str], set[tuple[int, str]]]:
    """(layer, place below it) -> (number, module) of each expert there."""
    found: dict[tuple[str, str], set[tuple[int, str]]] = defaultdict(set)
    for match in filter(None, map(_SINGLE.search, names)):
        found[match["layer"], match["place"]].add((int(match["number"]), match["kind"]))
    return found


def _some(adapted: set[tuple[int, str]], there: set[tuple[int, str]]) -> bool:
    """Whether not all modules of all experts of a layer are adapted; three each where the base has them as stacks."""
    if there:
        return adapted != there
    last, kinds = max(number for number, _ in adapted), {kind for _, kind in adapted}
    return len(kinds) != len(SGLANG_EXPERTS) or len(adapted) != (last + 1) * len(kinds)
