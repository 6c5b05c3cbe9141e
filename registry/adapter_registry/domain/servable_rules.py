"""The rules by which serving stacks load adapters, as data: read in their source, or seen when they ran.

vLLM 0.32 (ran) and 0.33 (source); SGLang 0.5.23, llama.cpp's converter and server, LoRAX and TGI 3.3 (source). Where a
stack keeps silent and serves something else, the rule says `wrong`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.servable_architectures import VLLM_TOWERS, VLLM_WITHOUT, VLLM_WITHOUT_BEFORE
from adapter_registry.domain.servable_modules import (
    SGLANG_NAMES,
    lorax_adapts,
    lorax_leaves,
    sglang_leaves,
    sgmv_rank,
    tgi_adapts,
    tgi_leaves,
    vllm_leaves,
)

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be."""
VLLM_DEFAULT_RANK = 16
VLLM_STARTS = frozenset({"", "gaussian", "eva", "orthogonal", "mica", "lora_ga"})
VLLM_SAVED = frozenset({"classifier", "score"})
VLLM_STACKED = frozenset(
    {
        "GptOssForCausalLM",
        "InternS1ProForConditionalGeneration",
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
        "Qwen3_5MoeForConditionalGeneration",
    }
)
"""Architectures whose experts vLLM keeps as stacks; of all others it refuses adapters of stacks."""
_BEYOND = frozenset({"dora", "rslora", "lora_bias"})
_VLLM_REFUSES = frozenset({"alora", "bdlora", "qalora", "layer_replication"})


class Fate(StrEnum):
    """What a rule means for a stack that it concerns."""

    FLATTEN = "flatten"
    WRONG = "wrong"
    REFUSED = "refused"


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
        parameters: whether it adapts parameters (stacks of experts) by their names.
        tied_head: whether it adapts an output head that is its base's input embedding.
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
    tied_head: bool = False
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
        return ", ".join(sorted(set(self.variant) - _BEYOND))


@dataclass(frozen=True, slots=True)
class Rule:
    """What is true of some adapters, and what stacks then do, `vllm`, or one version of them, `vllm:0.32`.

    A stack that is not named does the right thing.
    """

    test: Callable[[Facts], bool]
    fates: Mapping[str, Fate]
    text: str


def _all(vllm: Fate | None, sglang: Fate | None, llama: Fate | None, lorax: Fate | None) -> Mapping[str, Fate]:
    """Fates by stack; TGI's LoRA code is LoRAX's."""
    given = {"vllm": vllm, "sglang": sglang, "llama.cpp": llama, "lorax": lorax, "tgi": lorax}
    return {name: fate for name, fate in given.items() if fate is not None}


_FLAT, _WRONG, _NO = Fate.FLATTEN, Fate.WRONG, Fate.REFUSED
RULES: tuple[Rule, ...] = (
    Rule(lambda f: f.method != "LORA", _all(_NO, _NO, _NO, _NO), "it takes LoRA, and this is {facts.method}"),
    Rule(
        lambda f: f.architecture in VLLM_WITHOUT,
        {"vllm": _NO},
        "it takes no adapters for {facts.architecture}",
    ),
    Rule(
        lambda f: f.architecture in VLLM_WITHOUT_BEFORE,
        {"vllm:0.32": _NO},
        "it takes no adapters for {facts.architecture} before 0.33",
    ),
    Rule(lambda f: not lorax_adapts(f.architecture), {"lorax": _NO}, "it takes no adapters for {facts.architecture}"),
    Rule(lambda f: not tgi_adapts(f.architecture), {"tgi": _NO}, "it takes no adapters for {facts.architecture}"),
    Rule(lambda f: "dora" in f.variant, _all(_NO, _NO, _NO, _WRONG), "it knows no DoRA"),
    Rule(lambda f: "lora_bias" in f.variant, _all(_NO, _WRONG, _NO, _WRONG), "it leaves lora_bias out"),
    Rule(
        lambda f: bool(set(f.variant) & _VLLM_REFUSES),
        {"vllm": _NO},
        "it refuses {facts.unread}",
    ),
    Rule(
        lambda f: bool(set(f.variant) - _BEYOND - _VLLM_REFUSES),
        {"vllm": _WRONG},
        "it reads the factors alone and leaves {facts.unread} out",
    ),
    Rule(
        lambda f: bool(set(f.variant) - _BEYOND),
        _all(None, _WRONG, None, _WRONG),
        "it reads the factors alone and leaves {facts.unread} out",
    ),
    Rule(
        lambda f: bool(set(f.variant) - _BEYOND - {"alora"}),
        {"llama.cpp": _WRONG},
        "it reads the factors alone and leaves {facts.unread} out",
    ),
    Rule(lambda f: f.bias, _all(_NO, _WRONG, _NO, _WRONG), "it leaves trained biases out"),
    Rule(
        lambda f: bool(set(f.saved) - VLLM_SAVED),
        {"vllm": _NO},
        "modules that are saved whole may be classifier or score only",
    ),
    Rule(lambda f: bool(f.saved), _all(None, _WRONG, None, _WRONG), "it leaves out modules that are saved whole"),
    Rule(lambda f: bool(f.saved) and f.norms, {"llama.cpp": _WRONG}, "it leaves out norms that are saved whole"),
    Rule(lambda f: not f.norms, {"llama.cpp": _NO}, "its converter takes no modules that are saved whole"),
    Rule(lambda f: f.tokens, _all(_NO, _WRONG, _NO, _WRONG), "it leaves out trained or added tokens"),
    Rule(
        lambda f: f.parameters,
        _all(_WRONG, _WRONG, _WRONG, _WRONG),
        "stacks of experts adapted by the names of their parameters were not examined on it, and may be left out",
    ),
    Rule(
        lambda f: f.parameters and bool(f.architecture) and f.architecture not in VLLM_STACKED,
        {"vllm": _NO},
        "it takes no stacks of experts for {facts.architecture}",
    ),
    Rule(
        lambda f: bool(f.beside),
        _all(None, _WRONG, _WRONG, _WRONG),
        "it adapts language models alone and leaves {facts.towers} out",
    ),
    Rule(
        lambda f: bool(f.beside) and f.architecture not in VLLM_TOWERS,
        {"vllm": _WRONG},
        "it adapts the language model alone of {facts.named} and leaves {facts.towers} out",
    ),
    Rule(lambda f: f.claimed > VLLM_RANKS[-1], {"vllm": _NO}, "rank {facts.claimed} is above 512, its largest"),
    Rule(lambda f: f.start.lower() not in VLLM_STARTS, {"vllm": _FLAT}, "it refuses init_lora_weights {facts.start!r}"),
    Rule(lambda f: bool(f.vllm_leaves), {"vllm": _NO}, "it adapts no {facts.vllm_leaves} of {facts.architecture}"),
    Rule(lambda f: bool(sglang_leaves(f.kinds)), {"sglang": _NO}, "it takes no {facts.sglang_leaves}"),
    Rule(lambda f: bool(f.unpaired), {"sglang": _NO}, "it takes no {facts.lonely}, which it fuses in every layer"),
    Rule(lambda f: bool(f.lorax_leaves), {"lorax": _WRONG}, "it leaves {facts.lorax_leaves} out"),
    Rule(lambda f: bool(f.tgi_leaves), {"tgi": _WRONG}, "it leaves {facts.tgi_leaves} out"),
    Rule(
        lambda f: bool(f.gaps),
        {"lorax": _WRONG, "tgi": _WRONG},
        "it leaves {facts.partial} out: it adapts a kind of module in all layers or in none",
    ),
    Rule(
        lambda f: f.padded != f.rank,
        {"lorax": _FLAT, "tgi": _FLAT},
        "it pads rank {facts.rank} to {facts.padded} and scales by that: flatten it with --rank {facts.padded}",
    ),
    Rule(lambda f: f.tied_head, {"llama.cpp": _NO}, "it takes no adapted output head that is the input embedding"),
    Rule(
        lambda f: "rslora" in f.variant,
        _all(None, _FLAT, _FLAT, None),
        "it ignores use_rslora: the scale would be wrong",
    ),
    Rule(lambda f: f.mixed_ranks, _all(None, _FLAT, None, _FLAT), "it reads one rank, and modules have several"),
    Rule(lambda f: f.alphas, _all(None, _FLAT, _FLAT, _FLAT), "it ignores alpha_pattern: the scale would be wrong"),
    Rule(lambda f: f.pattern, {"sglang": _FLAT}, "it takes target_modules as a list, not as a pattern"),
)

NOTES: tuple[tuple[Callable[[Facts], bool], str], ...] = (
    (
        lambda f: f.quantised is not None,
        "the base is quantised: served in another quantisation, what the adapter adds meets other weights",
    ),
)


@dataclass(frozen=True, slots=True)
class About:
    """A stack.

    Attributes:
        versions: which were examined, newest last; empty where the stack has none that tell it apart.
        flags: what it is started with.
        needs: why its defaults do not do; empty where they do.
        notes: what is true of every adapter there.
    """

    versions: tuple[str, ...]
    flags: Callable[[Facts], str]
    needs: Callable[[Facts], tuple[str, ...]] = lambda _: ()
    notes: tuple[str, ...] = ()


def vllm_rank(rank: int) -> int:
    """The smallest --max-lora-rank that takes a rank; the largest there is for one that none takes."""
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), VLLM_RANKS[-1])


def _vllm_needs(facts: Facts) -> tuple[str, ...]:
    needs = []
    if facts.claimed > VLLM_DEFAULT_RANK:
        named = "" if facts.claimed == facts.rank else ", which its config names and no module has,"
        needs.append(f"rank {facts.claimed}{named} is above its default of {VLLM_DEFAULT_RANK}")
    if facts.classifies:
        needs.append("its head of classes takes a server that classifies")
    if facts.beside:
        needs.append(f"it leaves {facts.towers} out unless it is told to adapt towers and connectors")
    return tuple(needs)


def _vllm_flags(facts: Facts) -> str:
    classifies = " --runner pooling --convert classify" if facts.classifies else ""
    towers = " --enable-tower-connector-lora" if facts.beside else ""
    return f"--enable-lora --max-lora-rank {vllm_rank(facts.claimed)}{classifies}{towers}"


def _sglang_flags(facts: Facts) -> str:
    named = " ".join(facts.kinds) if SGLANG_NAMES.issuperset(facts.kinds) else "all"
    return f"--enable-lora --max-lora-rank {facts.rank} --lora-target-modules {named}"


_SHARDED = "on N GPUs it pads ranks below 8 times N, too, and scales by that"


STACKS: Mapping[str, About] = {
    "vllm": About(("0.32", "0.33"), _vllm_flags, _vllm_needs),
    "sglang": About(("0.5",), _sglang_flags, lambda _: ("it takes rank and modules at its start",)),
    "llama.cpp": About(
        (), lambda _: "--lora FILE.gguf", notes=("converted to GGUF first, with the base's config.json",)
    ),
    "lorax": About(
        (), lambda _: "", notes=("it never looks at a name again: name the version by its digest", _SHARDED)
    ),
    "tgi": About(
        ("3.3",), lambda _: "LORA_ADAPTERS=NAME=FOLDER", notes=("it loads adapters at its start only", _SHARDED)
    ),
    "peft": About(("0.21",), lambda _: ""),
}
"""By name."""


RUNS_VLLM = frozenset({"aibrix", "kserve", "llm-d", "nim", "production-stack", "ray"})
"""Stacks that load adapters by the vLLM in them."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack in one version, `vllm:0.33`; the newest that was examined where none is named."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}" if self.version else self.name


def parse(text: str) -> Stack:
    """The stack that a text names.

    Raises:
        InvalidInput: no such stack, or a version of it that no rules are known for: they are not guessed.
    """
    name, _, version = text.partition(":")
    about = STACKS.get(name)
    if name in RUNS_VLLM:
        raise InvalidInput(f"{text[:60]!r} loads adapters by the vLLM that it runs: ask for that, {parse('vllm')}.")
    if about is None:
        raise InvalidInput(f"{text[:60]!r} is no serving stack that rules are known for; there is {', '.join(STACKS)}.")
    if not version:
        return Stack(name, about.versions[-1] if about.versions else "")
    for known in about.versions:
        if version == known or version.startswith(f"{known}."):
            return Stack(name, known)
    told = ", ".join(f"{name}:{known}" for known in about.versions) or f"{name}, without a version"
    raise InvalidInput(
        f"{text[:60]!r}: which adapters that version loads was not examined, and is not guessed; known is {told}."
    )
