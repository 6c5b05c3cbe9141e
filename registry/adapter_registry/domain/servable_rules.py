"""The rules by which serving stacks load adapters, as data: read in their source, or seen when they ran.

vLLM 0.32 (ran) and 0.33 (source); SGLang 0.5.23, llama.cpp's converter and server, LoRAX and TGI 3.3 (source). Where a
stack keeps silent and serves something else, the rule says `wrong`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.servable_architectures import (
    VLLM_BY_CONFIG,
    VLLM_TOWERS,
    VLLM_WITHOUT,
    VLLM_WITHOUT_BEFORE,
)
from adapter_registry.domain.servable_experts import PEFT_LEAVES, SGLANG_EXPERTS, VLLM_UNGATED
from adapter_registry.domain.servable_facts import BEYOND, Facts
from adapter_registry.domain.servable_modules import SGLANG_NAMES, lorax_adapts, sglang_leaves, tgi_adapts
from adapter_registry.domain.servable_names import VLLM_TEXT_LEFT_BEFORE

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be."""
VLLM_DEFAULT_RANK = 16
VLLM_STARTS = frozenset({"", "gaussian", "eva", "orthogonal", "mica", "lora_ga"})
VLLM_SAVED = frozenset({"classifier", "score"})
_VLLM_REFUSES = frozenset({"alora", "bdlora", "qalora", "layer_replication"})


class Fate(StrEnum):
    """What a rule means for a stack that it concerns."""

    FLATTEN = "flatten"
    WRONG = "wrong"
    REFUSED = "refused"


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
PADDING = ("lorax", "tgi")
"""Stacks that pad ranks, and scale by what they padded to."""
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
        lambda f: bool(set(f.variant) - BEYOND - _VLLM_REFUSES),
        {"vllm": _WRONG},
        "it reads the factors alone and leaves {facts.unread} out",
    ),
    Rule(
        lambda f: bool(set(f.variant) - BEYOND),
        _all(None, _WRONG, None, _WRONG),
        "it reads the factors alone and leaves {facts.unread} out",
    ),
    Rule(
        lambda f: bool(set(f.variant) - BEYOND - {"alora"}),
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
        lambda f: f.parameters and not f.experts.stacks,
        _all(_WRONG, _WRONG, _WRONG, _WRONG),
        "parameters adapted by their names were not examined on it, other than stacks of experts, and may be left out",
    ),
    Rule(
        lambda f: bool(f.experts.stacks),
        {"lorax": _WRONG, "tgi": _WRONG},
        "it leaves experts out",
    ),
    Rule(
        lambda f: bool(f.experts.stacks) and not f.experts.single,
        {"sglang": _NO, "llama.cpp": _NO},
        "it takes no stacks of experts",
    ),
    Rule(
        lambda f: not SGLANG_EXPERTS.issuperset(f.experts.single),
        {"sglang": _NO},
        "it takes no stacks of experts, nor {facts.single}, which the base has in their place",
    ),
    Rule(
        lambda f: bool(f.experts.single),
        {"llama.cpp": _FLAT},
        "it takes experts singly, and stacks are adapted",
    ),
    Rule(
        lambda f: bool(f.experts.single) and SGLANG_EXPERTS.issuperset(f.experts.single),
        {"sglang": _FLAT},
        "it takes experts singly, and stacks are adapted",
    ),
    Rule(lambda f: f.experts.singly, {"lorax": _WRONG, "tgi": _WRONG}, "it leaves experts out"),
    Rule(
        lambda f: f.experts.torn and f.architecture not in PEFT_LEAVES,
        {"peft": _NO},
        "with transformers 5 it takes the gates of experts only together with what they gate",
    ),
    Rule(
        lambda f: f.experts.singly and f.architecture in PEFT_LEAVES,
        {"peft": _WRONG},
        "with transformers 5, which keeps experts of {facts.architecture} as stacks, it leaves single ones out",
    ),
    Rule(
        lambda f: bool(f.experts.namesakes) and f.architecture not in PEFT_LEAVES,
        {"peft": _WRONG},
        "with transformers 5 it makes stacks of single experts, and leaves {facts.namesakes} beside them out",
    ),
    Rule(
        lambda f: f.experts.halves,
        {"vllm": _NO},
        "it takes a stack of experts only when both of its parameters, gate_up_proj and down_proj, are adapted",
    ),
    Rule(
        lambda f: f.experts.some,
        {"vllm": _NO, "llama.cpp": _NO},
        "it takes experts only when all of a layer are adapted, and all modules of each",
    ),
    Rule(
        lambda f: bool(f.experts.stacks) and not f.architecture,
        {"vllm": _WRONG},
        "which stacks of experts it takes depends on the architecture of the base, which is not known",
    ),
    Rule(
        lambda f: bool(f.experts.stacks) and f.architecture in VLLM_UNGATED,
        {"vllm": _WRONG},
        "it takes half of each expert's up_proj for a gate, which {facts.architecture} has not",
    ),
    Rule(
        lambda f: bool(f.elsewhere) and bool(f.experts.single) and f.architecture not in VLLM_UNGATED,
        {"vllm": _FLAT},
        "it looks for the experts of {facts.named} at {facts.place} and leaves {facts.elsewhere} out",
    ),
    Rule(
        lambda f: bool(f.elsewhere) and not f.experts.single and f.architecture not in VLLM_UNGATED,
        {"vllm": _WRONG},
        "it looks for the experts of {facts.named} at {facts.place} and leaves {facts.elsewhere} out",
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
    Rule(
        lambda f: f.text and f.architecture in VLLM_TEXT_LEFT_BEFORE,
        {"vllm:0.32": _WRONG},
        "it finds no modules of {facts.architecture} by the names of its language model alone, and leaves them out",
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
        dict.fromkeys(PADDING, _FLAT),
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


@dataclass(frozen=True, slots=True)
class Note:
    """What is worth knowing of some adapters on some stacks, and decides nothing."""

    test: Callable[[Facts], bool]
    stacks: frozenset[str]
    text: str


NOTES: tuple[Note, ...] = (
    Note(
        lambda f: f.quantised is not None,
        frozenset({"vllm", "sglang", "llama.cpp", "lorax", "tgi"}),
        "the base is quantised: served in another quantisation, what the adapter adds meets other weights",
    ),
    Note(
        lambda f: f.quantised is not None and f.mixture,
        frozenset({"vllm"}),
        "of a quantised mixture of experts it does not start with --enable-lora where its kernel for experts, which "
        "depends on the GPU, takes no adapters; --lora-target-modules without experts lets it, for adapters of others",
    ),
    Note(
        lambda f: bool(f.embeddings) and f.architecture in VLLM_BY_CONFIG,
        frozenset({"vllm"}),
        "whether it adapts {facts.embeddings} depends on the language model that the base's config names in "
        "{facts.architecture}, and is not judged here: it refuses what it does not adapt",
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
        load: what each load says beside a name and a path; empty for nothing.
    """

    versions: tuple[str, ...]
    flags: Callable[[Facts], str]
    needs: Callable[[Facts], tuple[str, ...]] = lambda _: ()
    notes: tuple[str, ...] = ()
    load: Callable[[Facts], str] = lambda _: ""


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
    if facts.reshaped:
        kept, adapted = ("as stacks", "singly") if facts.experts.singly else ("singly", "as stacks")
        needs.append(f"it keeps experts of {facts.named} {kept}, and they are adapted {adapted}")
    return tuple(needs)


def _vllm_flags(facts: Facts) -> str:
    classifies = " --runner pooling --convert classify" if facts.classifies else ""
    towers = " --enable-tower-connector-lora" if facts.beside else ""
    mixed = " --enable-mixed-moe-lora-format" if facts.reshaped else ""
    return f"--enable-lora --max-lora-rank {vllm_rank(facts.claimed)}{classifies}{towers}{mixed}"


def _vllm_load(facts: Facts) -> str:
    return "is_3d_lora_weight" if facts.reshaped and facts.experts.stacks else ""


def _sglang_flags(facts: Facts) -> str:
    kinds = sorted({*facts.kinds, *(SGLANG_EXPERTS if facts.experts.singly else ())})
    named = " ".join(kinds) if SGLANG_NAMES.issuperset(kinds) else "all"
    return f"--enable-lora --max-lora-rank {facts.rank} --lora-target-modules {named}"


_SHARDED = "on N GPUs it pads ranks below 8 times N, too, and scales by that"


STACKS: Mapping[str, About] = {
    "vllm": About(("0.32", "0.33"), _vllm_flags, _vllm_needs, load=_vllm_load),
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
