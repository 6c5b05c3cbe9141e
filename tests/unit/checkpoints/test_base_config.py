"""The digest of config.json: what changes the computation counts, how a version of transformers writes it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_registry.checkpoints.base_config import read_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 128,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "type": "linear"},
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "use_cache": True,
    "vocab_size": 320,
}


def digest(document: dict[str, Any]) -> str | None:
    return read_config(json.dumps(document).encode(), source="here").digest


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in LLAMA.items() if name not in names}


@pytest.mark.parametrize(
    "change",
    [
        {"_name_or_path": "/home/me/llama"},
        {"transformers_version": "5.23.0"},
        {"torch_dtype": "bfloat16", "dtype": "bfloat16"},
        {"use_cache": False},
        {"pad_token_id": 0},
        {"attention_dropout": 0.1, "resid_pdrop": 0.1, "hidden_dropout_prob": 0.1, "layerdrop": 0.1},
        {"attention_bias": False, "is_decoder": False},
        {"quantization_config": None, "pruned_heads": {}, "layer_types": ["full_attention", "full_attention"]},
        {"head_dim": 16},
        {"rope_theta": 10000},
        {"sliding_window": 4096, "use_sliding_window": False, "max_window_layers": 2},
    ],
    ids=lambda change: "+".join(change),
)
def test_fields_that_do_not_change_the_computation_do_not_count(change: dict[str, Any]):
    assert digest(LLAMA | change) == digest(LLAMA)


def test_the_rope_of_transformers_4_and_5_is_the_same():
    rope = {"rope_type": "linear", "factor": 8.0, "rope_theta": 10000.0}
    assert digest(without("rope_theta", "rope_scaling") | {"rope_parameters": rope}) == digest(LLAMA)
    plain = without("rope_theta", "rope_scaling") | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
    assert digest(plain) == digest(without("rope_scaling"))


@pytest.mark.parametrize(
    "change",
    [
        {"rms_norm_eps": 1e-06},
        {"rope_theta": 500000.0},
        {"rope_scaling": {"factor": 4.0, "type": "linear"}},
        {"hidden_act": "gelu"},
        {"num_key_value_heads": 2},
        {"attention_bias": True},
        {"head_dim": 32},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"quantization_config": {"quant_method": "gptq"}},
        {"sliding_window": 4096},
    ],
    ids=lambda change: "+".join(change),
)
def test_fields_that_change_the_computation_count(change: dict[str, Any]):
    assert digest(LLAMA | change) != digest(LLAMA)


@pytest.mark.parametrize(
    ("value", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"bits": 4}, "unnamed"),
        ({}, None),
        (None, None),
    ],
)
def test_the_method_of_quantisation(value: dict[str, Any] | None, method: str | None):
    document = json.dumps(LLAMA | {"quantization_config": value}).encode()
    assert read_config(document, source="here").quantization == method
