"""What decides about an adapter on serving stacks."""

from __future__ import annotations

from dataclasses import dataclass, field

from adapter_registry.domain.servable_experts import VLLM_STACKED, Experts, vllm_place
from adapter_registry.domain.servable_modules import (
    EMBEDDINGS,
    lorax_leaves,
    sglang_leaves,
    sgmv_rank,
    tgi_leaves,
    vllm_leaves,
)

BEYOND = frozenset({"dora", "rslora", "lora_bias"})
"""Variants that have rules of their own."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides about an adapter.

    Attributes:
        method: PEFT's name.
        variant: what modifies the method: `dora`, `rslora`, `lora_bias`, ...
        rank: the largest that a module really has.
        declared: the largest that the config names, whether or not a module has it.
        mixed_ranks: whether a module has another rank than `r` says.
        alphas: whether a module has another alpha than `lora_alpha` says.
        bias: whether biases were trained.
        saved: `modules_to_save`.
        tokens: whether tokens were trained or added.
        start: `init_lora_weights`, where that is a name.
        pattern: whether the targets are a regular expression.
        kinds: last names of the adapted modules.
        parameters: whether it adapts parameters by their names.
        experts: which experts it adapts.
        text: whether its modules are named as those of its base's language model alone.
        tied_head: whether it adapts an output head that is its base's input embedding.
        mixture: whether its base is a mixture of experts.
        quantised: how its base is quantised; None where it is not, or not known.
        architecture: of its base, `LlamaForCausalLM`; empty where that is not known.
        beside: towers and connectors beside the language model in which it adapts modules, `vision_tower`.
        unpaired: modules that are adapted without the one that stacks fuse them with, `v_proj without q_proj`.
        gaps: kinds of modules that are adapted in some layers of the base and not in all, `self_attn.v_proj`.
    """

    method: str
    variant: tuple[str, ...] = ()
    rank: int = 8
    declared: int = 0
    mixed_ranks: bool = False
    alphas: bool = False
    bias: bool = False
    saved: tuple[str, ...] = ()
    tokens: bool = False
    start: str = ""
    pattern: bool = False
    kinds: tuple[str, ...] = ()
    parameters: bool = False
    experts: Experts = field(default_factory=Experts)
    text: bool = False
    tied_head: bool = False
    mixture: bool = False
    quantised: str | None = None
    architecture: str = ""
    beside: tuple[str, ...] = ()
    unpaired: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def claimed(self) -> int:
        """The rank that a stack sees which takes the config's word for it."""
        return max(self.rank, self.declared)

    @property
    def classifies(self) -> bool:
        """Whether it brings the head of a classifier, for a base that is none."""
        return bool(self.saved) and not self.architecture.endswith("ForSequenceClassification")

    @property
    def towers(self) -> str:
        """The towers and connectors that it adapts, for people."""
        return ", ".join(self.beside)

    @property
    def padded(self) -> int:
        """The rank that LoRAX and TGI pad its factors to, on one GPU."""
        return sgmv_rank(self.rank)

    @property
    def norms(self) -> bool:
        """Whether all that is saved whole are norms."""
        return all("norm" in name for name in self.saved)

    @property
    def vllm_leaves(self) -> str:
        """Kinds of modules that vLLM does not take, for people."""
        return ", ".join(vllm_leaves(self.architecture, self.kinds))

    @property
    def lorax_leaves(self) -> str:
        """Kinds of modules that LoRAX leaves out, for people."""
        return ", ".join(lorax_leaves(self.architecture, self.kinds))

    @property
    def tgi_leaves(self) -> str:
        """Kinds of modules that TGI leaves out, for people."""
        return ", ".join(tgi_leaves(self.kinds))

    @property
    def sglang_leaves(self) -> str:
        """Kinds of modules that SGLang does not take, for people."""
        return ", ".join(sglang_leaves(self.kinds))

    @property
    def place(self) -> str:
        """Where vLLM looks for experts below a layer."""
        return vllm_place(self.architecture)

    @property
    def elsewhere(self) -> str:
        """Where it adapts stacks of experts that vLLM does not look for there, for people."""
        return self.experts.elsewhere(self.architecture)

    @property
    def reshaped(self) -> bool:
        """Whether vLLM has to be told that it adapts experts in the other form than the model keeps them in."""
        if self.architecture in VLLM_STACKED:
            return self.experts.singly
        return bool(self.experts.stacks) and not self.elsewhere

    @property
    def namesakes(self) -> str:
        """Modules beside experts that are called as those of experts, for people."""
        return ", ".join(self.experts.namesakes)

    @property
    def single(self) -> str:
        """The modules of experts that the base has in place of the stacks, for people."""
        return ", ".join(self.experts.single)

    @property
    def embeddings(self) -> str:
        """The input embedding and the output head that it adapts, for people."""
        return ", ".join(sorted(set(self.kinds) & EMBEDDINGS))

    @property
    def lonely(self) -> str:
        """What is adapted without its partner, for people."""
        return ", ".join(self.unpaired)

    @property
    def partial(self) -> str:
        """What is adapted in some layers only, for people."""
        return ", ".join(self.gaps)

    @property
    def named(self) -> str:
        """Its base's architecture, for people."""
        return self.architecture or "a base of unknown architecture"

    @property
    def unread(self) -> str:
        """Variants that none of the rules about one variant tells of."""
        return ", ".join(sorted(set(self.variant) - BEYOND))
