"""A merge has the bits that PEFT's merge has, or is closer to the exact result, for every kind of adapter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.errors import Unsupported
from adapter_registry.tensors.loaded import loaded as opened
from tests.adapter_builders import adapter, changed_tensors, llama
from tests.unit.tensors.merging import adapted, base_of, by_peft, by_us, different, loaded, logits
from tests.unit.tensors.test_layers import gpt2, mixtral

DTYPES = ("float32", "bfloat16", "float16")


def lora(**changes):
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "lora_alpha": 7, "target_modules": ["q_proj", "down_proj"], **changes})


SAME = {
    "lora": (llama, {}),
    "every linear layer": (llama, {"target_modules": "all-linear"}),
    "rank-stabilised": (llama, {"use_rslora": True}),
    "patterns": (llama, {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"1.self_attn.q_proj": 3}}),
    "a rank that four does not divide": (llama, {"r": 5}),
    "rank 128": (llama, {"r": 128}),
    "output head": (llama, {"target_modules": ["lm_head"]}),
    "stored (in, out)": (gpt2, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "biases of all layers": (gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all"}),
    "biases of adapted layers": (gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "lora_only"}),
    "bias of lora_B": (gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True, "lora_bias": True}),
    "modules to save": (llama, {"modules_to_save": ["lm_head", "norm"]}),
    "trained tokens": (llama, {"trainable_token_indices": {"embed_tokens": [3, 9]}}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SAME)
def test_the_bits_are_those_of_pefts_merge(tmp_path, case, dtype):
    make, changes = SAME[case]
    base = base_of(tmp_path / "base", dtype, make)
    folder = adapter(tmp_path / "adapter", base, lora(**changes))
    by_us(base, tmp_path / "out", folder)
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []
    assert different(loaded(tmp_path / "out"), loaded(base)) != []


def test_an_embedding_in_float32_has_pefts_bits(tmp_path):
    base = base_of(tmp_path / "base", "float32")
    folder = adapter(tmp_path / "adapter", base, lora(target_modules=["embed_tokens"]))
    by_us(base, tmp_path / "out", folder)
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_embedding_is_rounded_once_where_peft_rounds_twice(tmp_path, dtype):
    base = base_of(tmp_path / "base", dtype)
    folder = adapter(tmp_path / "adapter", base, lora(target_modules=["embed_tokens"]))
    by_us(base, tmp_path / "out", folder)
    name = "model.embed_tokens.weight"
    truth = exact(base, folder, name)
    theirs = by_peft(base, folder).state_dict()[name].double().numpy()
    assert np.abs(weights_of(tmp_path / "out")[name] - truth).mean() < np.abs(theirs - truth).mean()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_an_adapter_in_half_precision_is_added_in_float32_as_peft_does(tmp_path, kind):
    base = base_of(tmp_path / "base", "bfloat16")
    folder = adapter(tmp_path / "adapter", base, lora())
    changed_tensors(folder, lambda tensors: tensors.update({n: t.to(getattr(torch, kind)) for n, t in tensors.items()}))
    by_us(base, tmp_path / "out", folder)
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []


def weights_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {name: file.get_tensor(name).double().numpy() for name in file.keys()}  # noqa: SIM118


def exact(base, folder, name):
    """W + scale · B · A in float64, of a plain LoRA layer."""
    with opened(folder, read_base(base, cache=None, progress=lambda _: None)) as found:
        [layer] = [each for each in found.layers if each.tensor and each.tensor.name == name]
        pair = layer.pair()
        magnitude = layer.read("lora_magnitude_vector")
    value = weights_of(base)[name] + pair.scale * pair.up.astype(np.float64) @ pair.down.astype(np.float64)
    if magnitude is None:
        return value
    axis = 0 if layer.kind in ("transposed", "embedding") else 1
    return (
        value
        * np.expand_dims(magnitude.astype(np.float64).reshape(-1), axis)
        / np.linalg.norm(value, axis=axis, keepdims=True)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_rounding_is_closer_to_the_exact_result_than_pefts_safe_merge(tmp_path, dtype):
    base = base_of(tmp_path / "base", dtype)
    folder = adapter(tmp_path / "adapter", base, lora())
    by_us(base, tmp_path / "out", folder)
    name = "model.layers.0.self_attn.q_proj.weight"
    truth = exact(base, folder, name)
    ours = np.abs(weights_of(tmp_path / "out")[name] - truth).max()
    safe = by_peft(base, folder, safe=True).state_dict()[name].double().numpy()
    assert ours <= np.abs(safe - truth).max()
    if dtype != "float32":
        assert np.abs(safe - truth).sum() > 1.05 * np.abs(weights_of(tmp_path / "out")[name] - truth).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "make, changes",
    [
        (llama, {"target_modules": ["q_proj", "down_proj"]}),
        (llama, {"target_modules": ["embed_tokens", "q_proj"]}),
        (gpt2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    ],
    ids=["linear", "embedding", "stored (in, out)"],
)
def test_dora_is_as_close_to_the_exact_result_as_peft_or_closer(tmp_path, make, changes, dtype):
    base = base_of(tmp_path / "base", dtype, make)
    folder = adapter(tmp_path / "adapter", base, lora(use_dora=True, **changes))
    merged = by_us(base, tmp_path / "out", folder)
    ours, theirs = weights_of(tmp_path / "out"), by_peft(base, folder).state_dict()
    for module in merged.modules:
        truth = exact(base, folder, module.tensor)
        peft = np.abs(theirs[module.tensor].double().numpy() - truth)
        assert np.abs(ours[module.tensor] - truth).max() <= peft.max()
        assert np.abs(ours[module.tensor] - truth).mean() <= peft.mean()


@pytest.mark.parametrize("dtype", DTYPES)
def test_ia3_has_pefts_bits(tmp_path, dtype):
    from peft import IA3Config

    base = base_of(tmp_path / "base", dtype)
    config = IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    folder = adapter(tmp_path / "adapter", base, config)
    by_us(base, tmp_path / "out", folder)
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []


def test_ia3_scales_biases_and_weights_that_are_stored_in_out(tmp_path):
    from peft import IA3Config

    base = base_of(tmp_path / "base", "float32", gpt2)
    config = IA3Config(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True)
    folder = adapter(tmp_path / "adapter", base, config)
    by_us(base, tmp_path / "out", folder)
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []


EXPERTS = {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"], "lora_dropout": 0}


def test_experts_that_are_stored_one_by_one_get_their_rows_of_the_fused_delta(tmp_path):
    base = base_of(tmp_path / "base", "float32", mixtral)
    folder = adapter(tmp_path / "adapter", base, lora(**EXPERTS))
    by_us(base, tmp_path / "out", folder)
    theirs, ours = by_peft(base, folder), loaded(tmp_path / "out")
    assert different(ours, loaded(base)) != []
    for name, value in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], value, rtol=0, atol=1e-7), name


def test_experts_are_rounded_once_where_peft_rounds_twice(tmp_path):
    base = base_of(tmp_path / "base", "bfloat16", mixtral)
    folder = adapter(tmp_path / "adapter", base, lora(**EXPERTS))
    by_us(base, tmp_path / "out", folder)
    truth = by_peft(base, folder, dtype=torch.float32).state_dict()
    ours, theirs = loaded(tmp_path / "out").state_dict(), by_peft(base, folder).state_dict()
    for name in truth:
        if "experts" in name:
            error, peft = (ours[name].float() - truth[name]).abs(), (theirs[name].float() - truth[name]).abs()
            assert error.mean() < peft.mean()


TIED = {
    "the head of a tied pair": {"target_modules": ["lm_head"]},
    "the embedding of a tied pair": {"target_modules": ["embed_tokens"]},
    "both of a tied pair": {"target_modules": ["embed_tokens", "lm_head"]},
    "a saved head of a tied pair": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "tokens of a tied pair": {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 9]}},
    "both, and kept tied": {"target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
    "only queries beside a tied pair": {"target_modules": ["q_proj"]},
}


@pytest.mark.parametrize("case", TIED)
def test_a_merge_into_a_tied_base_computes_what_base_and_adapter_compute(tmp_path, case):
    base = base_of(tmp_path / "base", "float32", tie_word_embeddings=True)
    folder = adapter(tmp_path / "adapter", base, lora(**TIED[case]))
    by_us(base, tmp_path / "out", folder)
    expected = logits(adapted(base, folder))
    assert not torch.allclose(expected, logits(loaded(base)), atol=1e-3)
    assert torch.allclose(logits(loaded(tmp_path / "out")), expected, atol=1e-5)


def test_layer_replication_is_refused_by_name(tmp_path):
    base = base_of(tmp_path / "base", "float32")
    folder = adapter(tmp_path / "adapter", base, lora(layer_replication=[[0, 2], [1, 2]]))
    with pytest.raises(Unsupported, match=r"layer_replication makes share one weight of the base"):
        by_us(base, tmp_path / "out", folder)
    assert not (tmp_path / "out").exists()
    # PEFT adds both changes to the one weight: this is why there is nothing to be equal to.
    assert not torch.allclose(logits(by_peft(base, folder)), logits(adapted(base, folder)), atol=1e-3)


def test_a_lora_bias_without_a_bias_in_the_base_is_refused_by_name(tmp_path):
    base = base_of(tmp_path / "base", "float32")
    folder = adapter(tmp_path / "adapter", base, lora(lora_bias=True))
    with pytest.raises(Unsupported, match="lora_bias"):
        by_us(base, tmp_path / "out", folder)


def test_another_method_is_merged_by_peft_itself_in_a_child_process(tmp_path):
    from peft import AdaLoraConfig

    base = base_of(tmp_path / "base", "bfloat16")
    config = AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], total_step=1)
    folder = adapter(tmp_path / "adapter", base, config)
    by_us(base, tmp_path / "out", folder)
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []
    assert different(loaded(tmp_path / "out"), loaded(base)) != []


def test_pefts_own_bits_can_be_asked_for(tmp_path):
    base = base_of(tmp_path / "base", "bfloat16")
    folder = adapter(tmp_path / "adapter", base, lora(target_modules=["embed_tokens"], use_dora=True))
    by_us(base, tmp_path / "out", folder, accumulate="peft")
    assert different(loaded(tmp_path / "out"), by_peft(base, folder)) == []
