"""Which kinds of modules serving stacks adapt, and in which company; read in their source.

`tests/unit/serving/test_sglang_wheel.py` holds SGLang's against its wheel; LoRAX's are of a7394ba, TGI's of db931fc.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from adapter_registry.domain.servable_architectures import VLLM_NO_EMBEDDINGS, VLLM_NO_HEAD, beside_language

SGLANG_NAMES = frozenset(
    [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "q_a_proj",
        "kv_a_proj_with_mqa",
        "q_b_proj",
        "kv_b_proj",
        "wq_b",
        "wk",
        "weights_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
        "qkv_proj",
        "gate_up_proj",
        "embed_tokens",
        "lm_head",
        "qkvr",
        "wo_ud",
    ]
)
"""What SGLang's --lora-target-modules may say."""
SGLANG_BY_ALL = frozenset(["out_proj", "in_proj", "in_proj_qkvz", "fc1_latent_proj", "fc2_latent_proj"])
"""What it adapts beside, where the model has it, when --lora-target-modules says `all`."""

_LLAMA = frozenset(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
LORAX: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "CohereForCausalLM",
            "GraniteForCausalLM",
            "LlamaForCausalLM",
            "MistralForCausalLM",
            "MllamaForConditionalGeneration",
            "Qwen2ForCausalLM",
        ),
        _LLAMA | {"lm_head"},
    ),
    **dict.fromkeys(("Gemma2ForCausalLM", "GemmaForCausalLM", "SolarForCausalLM"), _LLAMA),
    "BloomForCausalLM": frozenset(["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]),
    "DbrxForCausalLM": frozenset(["Wqkv", "out_proj", "lm_head"]),
    "GPT2LMHeadModel": frozenset(["c_attn", "c_proj", "c_fc"]),
    "MixtralForCausalLM": frozenset(["q_proj", "k_proj", "v_proj", "o_proj"]),
    "Phi3ForCausalLM": frozenset(["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "PhiForCausalLM": frozenset(["q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2", "lm_head"]),
    "QWenLMHeadModel": frozenset(["c_attn", "c_proj", "w1", "w2", "lm_head"]),
}
"""Architecture -> what LoRAX adapts of it; of others that generate text it adapts nothing."""
TGI = _LLAMA | {"qkv_proj", "c_proj", "c_fc"}
"""What TGI adapts, of whatever has it."""
TGI_TEXT = frozenset(
    [
        "BaichuanForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "GraniteForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Phi3ForCausalLM",
        "PhiMoEForCausalLM",
        "PhimoeForCausalLM",
        "Qwen2ForCausalLM",
        "Starcoder2ForCausalLM",
    ]
)
"""Language models whose layers take adapters in TGI; with any other it does not start. Those that see were not read."""

EMBEDDINGS = frozenset(
    ["embed_in", "embed_out", "embed_tokens", "lm_head", "output_layer", "tok_embeddings", "word_embeddings", "wte"]
)
"""Names that input embeddings and output heads have."""

_TEXT = re.compile(r"ForCausalLM$|LMHeadModel$")
_FACTORS = re.compile(r"\.lora_(?:embedding_)?[AB](?:\.weight)?$")
_LAYER = re.compile(r"(?:^|\.)(\d+)\.(?P<rest>.+)$")


def vllm_leaves(architecture: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Which of these kinds of modules vLLM refuses as none that it adapts, as far as it was read."""
    if architecture not in VLLM_NO_EMBEDDINGS | VLLM_NO_HEAD:
        return ()
    taken = frozenset({"embed_tokens"}) if architecture in VLLM_NO_HEAD else frozenset[str]()
    return tuple(sorted(set(kinds) & EMBEDDINGS - taken))


def lorax_adapts(architecture: str) -> bool:
    """Whether LoRAX takes adapters for an architecture; so does one that is not known."""
    return not architecture or architecture in LORAX or architecture.endswith("ForSequenceClassification")


def tgi_adapts(architecture: str) -> bool:
    """Whether TGI starts with adapters for an architecture, as far as it was read."""
    return _TEXT.search(architecture) is None or architecture in TGI_TEXT


def lorax_leaves(architecture: str, kinds: Iterable[str]) -> tuple[str, ...]:
    """Which of these kinds of modules LoRAX leaves out."""
    known = LORAX.get(architecture) or frozenset().union(*LORAX.values())
    return tuple(sorted(set(kinds) - known))


def tgi_leaves(kinds: Iterable[str]) -> tuple[str, ...]:
    """Which of these kinds of modules TGI leaves out."""
    return tuple(sorted(set(kinds) - TGI))


def sglang_leaves(kinds: Iterable[str]) -> tuple[str, ...]:
    """Which of these kinds of modules SGLang does not take."""
    return tuple(sorted(set(kinds) - SGLANG_NAMES - SGLANG_BY_ALL))


def sgmv_rank(rank: int) -> int:
    """What LoRAX and TGI pad a rank to, on one GPU."""
    return 8 if rank <= 8 else -(-rank // 16) * 16


def paths(tensors: Iterable[str]) -> frozenset[str]:
    """The modules that names of an adapter's tensors are of."""
    return frozenset(
        _FACTORS.sub("", name).removeprefix("base_model.model.") for name in tensors if _FACTORS.search(name)
    )


def unpaired(modules: Iterable[str], base: Iterable[str]) -> tuple[str, ...]:
    """Modules that were adapted without the one that a stack fuses them with, `v_proj without q_proj`; sorted.

    Args:
        modules: paths of the adapted ones.
        base: names of the base's tensors; none where they are not known.
    """
    together: dict[str, set[str]] = defaultdict(set)
    for path in modules:
        parent, _, kind = path.rpartition(".")
        together[parent].add(kind)
    names = tuple(base)
    gated = not names or any(".gate_proj." in name for name in names)
    return tuple(sorted({text for kinds in together.values() for text in _alone(kinds, gated=gated)}))


def _alone(kinds: set[str], *, gated: bool) -> Iterator[str]:
    if "q_proj" in kinds and "v_proj" not in kinds:
        yield "q_proj without v_proj"
    if "q_proj" not in kinds:
        yield from (f"{kind} without q_proj" for kind in kinds & {"k_proj", "v_proj"})
    if gated and "up_proj" in kinds and "gate_proj" not in kinds:
        yield "up_proj without gate_proj"


def gaps(modules: Iterable[str], base: Iterable[str]) -> tuple[str, ...]:
    """Kinds of modules, `self_attn.v_proj`, that are adapted in some layers and not in others that have them; sorted.

    Args:
        modules: paths of the adapted ones.
        base: names of the base's tensors.
    """
    adapted = _layers(modules)
    there = _layers(name.rpartition(".")[0] for name in base if not beside_language([name]))
    return tuple(sorted(kind for kind, layers in adapted.items() if there.get(kind, set()) - layers))


def _layers(modules: Iterable[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in modules:
        match = _LAYER.search(path)
        if match is not None:
            found[match["rest"]].add(match[1])
    return found
