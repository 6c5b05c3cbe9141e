"""What a layer says it adds is what PEFT adds, in the orientation in which the base stores the weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.tensors.arrays import as_float32, as_stored
from adapter_registry.tensors.loaded import loaded
from tests.adapter_builders import adapter, llama


def deltas_of(folder: Path, base: Path):
    """Our deltas by live name, each a stack of matrices."""
    with loaded(folder, read_base(base, cache=None, progress=lambda _: None)) as found:
        return {
            layer.name: np.stack([(p := layer.pair(e)).scale * p.up @ p.down for e in range(layer.experts)])
            for layer in found.layers
        }


def peft_deltas(folder: Path, base: Path, auto: str):
    """PEFT's, by the path of the layer that has them."""
    import transformers
    from peft import PeftModel

    model = PeftModel.from_pretrained(getattr(transformers, auto).from_pretrained(base), folder)
    return {
        name: module.get_delta_weight("default").detach().numpy()
        for name, module in model.base_model.model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


def gpt2(folder: Path) -> Path:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=16, n_layer=2, n_head=2)).save_pretrained(folder)
    return folder


def mixtral(folder: Path) -> Path:
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=3,
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


def qwen3_moe(folder: Path, **changed: object) -> Path:
    import torch
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    shape = {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "moe_intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "num_experts": 3,
        "num_experts_per_tok": 2,
    }
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**{**shape, **changed})).save_pretrained(folder)
    return folder


CASES = {
    "linear": (llama, {"target_modules": ["q_proj", "down_proj"]}),
    "rank-stabilised": (llama, {"target_modules": ["q_proj"], "use_rslora": True}),
    "patterns": (
        llama,
        {
            "target_modules": ["q_proj", "v_proj"],
            "rank_pattern": {"v_proj": 2},
            "alpha_pattern": {"1.self_attn.q_proj": 3},
        },
    ),
    "embedding": (llama, {"target_modules": ["embed_tokens", "q_proj"]}),
    "stored (in, out)": (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "experts": (
        mixtral,
        {"target_modules": [], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"], "lora_dropout": 0},
    ),
}


class TestPair:
    @pytest.mark.parametrize("case", CASES)
    def test_it_is_what_peft_adds(self, tmp_path, case):
        from peft import LoraConfig

        make, options = CASES[case]
        base = make(tmp_path / "base")
        config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, **options)
        folder = adapter(tmp_path / "lora", base, config)
        ours, theirs = deltas_of(folder, base), peft_deltas(folder, base, "AutoModelForCausalLM")
        assert len(ours) == len(theirs) > 0
        left = list(theirs.values())
        for delta in ours.values():
            wanted = [i for i, other in enumerate(left) if _same(delta, other)]
            assert wanted, f"no layer of PEFT has this delta: {delta.shape}"
            del left[wanted[0]]


def _same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.size == theirs.size and np.allclose(ours.reshape(theirs.shape), theirs, rtol=1e-5, atol=1e-6)


class TestRounding:
    @pytest.mark.parametrize(("dtype", "kind"), [("BF16", "bfloat16"), ("F16", "float16"), ("F32", "float32")])
    def test_it_is_torchs_for_every_kind_of_number(self, dtype, kind):
        import torch

        numbers = np.random.default_rng(0)
        bits = numbers.integers(0, 1 << 32, 200_000, dtype=np.uint32)
        edges = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38, 65504, 65520, 65519], dtype=np.float32)
        values = np.concatenate([bits.view(np.float32), edges])
        ours = as_float32(as_stored(values, dtype), dtype)
        theirs = torch.from_numpy(values.copy()).to(getattr(torch, kind)).float().numpy()
        assert np.array_equal(ours, theirs, equal_nan=True)
