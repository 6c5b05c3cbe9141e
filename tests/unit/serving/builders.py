"""Tiny real models, and their Bases as the registry reads them from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.client import Registry
from adapter_registry.domain.base import Base
from adapter_registry.settings import read_settings
from tests import adapter_builders

TINY = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def llama(seed: int = 0, **changed: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(TINY | changed))).eval()


def saved(model: Any, folder: Path) -> Base:
    """The Base of `model`, saved to `folder`."""
    model.save_pretrained(folder)
    return read_base(folder, cache=None, progress=lambda _: None)


def registry_of(environment: dict[str, str], made: Path, llama_folder: Path, lora_folder: Path) -> Registry:
    """team/sql: v1 and v2 for the Llama, v3 for another one; team/dora: what no server here loads.

    team/eight has the rank 8, which no stack pads.
    """
    there, other = Registry(read_settings(environment)), adapter_builders.llama(made / "other", seed=7)
    there.add_base("llama", llama_folder)
    there.add_base("other", other)
    config: dict[str, Any] = {"task_type": "CAUSAL_LM", "r": 2, "target_modules": ["q_proj", "v_proj"]}

    def lora(name: str, base: Path, **more: Any) -> Path:
        return adapter_builders.adapter(made / name, base, LoraConfig(**(config | more)))

    there.push(lora_folder, base="llama", name="team/sql")
    there.push(lora("two", llama_folder), base="llama", name="team/sql")
    there.push(lora("three", other), base="other", name="team/sql")
    there.push(lora("dora", llama_folder, use_dora=True), base="llama", name="team/dora")
    there.push(lora("eight", llama_folder, r=8), base="llama", name="team/eight")
    return there


def experts(folder: Path, *, r: int = 2) -> tuple[Path, Path]:
    """A Qwen3-MoE of one layer, and an adapter of its experts, which are stacks to transformers and PEFT."""
    torch.manual_seed(0)
    shape = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_experts": 3, "num_experts_per_tok": 1}
    config = Qwen3MoeConfig(**shape, **heads, moe_intermediate_size=12, intermediate_size=24)
    Qwen3MoeForCausalLM(config).save_pretrained(folder / "experts")
    stacks = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    lora = LoraConfig(task_type="CAUSAL_LM", r=r, target_modules=["q_proj"], target_parameters=stacks)
    return folder / "experts", adapter_builders.adapter(folder / "stacks", folder / "experts", lora)
