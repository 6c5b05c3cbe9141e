"""Tiny real models, and their Bases as the registry reads them from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.domain.base import Base

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
