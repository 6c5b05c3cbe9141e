"""Checkpoints and adapters of a given shape, written without torch. Bases are sparse files: sizes without bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

BYTES = {"F32": 4, "BF16": 2}


def llama_tensors(*, layers: int, hidden: int, inner: int, kv: int, vocabulary: int) -> dict[str, list[int]]:
    """Names and shapes of a Llama checkpoint."""
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "lm_head.weight": [vocabulary, hidden]}
    for i in range(layers):
        layer = f"model.layers.{i}"
        for name, shape in {
            "self_attn.q_proj": [hidden, hidden],
            "self_attn.k_proj": [kv, hidden],
            "self_attn.v_proj": [kv, hidden],
            "self_attn.o_proj": [hidden, hidden],
            "mlp.gate_proj": [inner, hidden],
            "mlp.up_proj": [inner, hidden],
            "mlp.down_proj": [hidden, inner],
        }.items():
            shapes[f"{layer}.{name}.weight"] = shape
        shapes[f"{layer}.input_layernorm.weight"] = [hidden]
        shapes[f"{layer}.post_attention_layernorm.weight"] = [hidden]
    return {**shapes, "model.norm.weight": [hidden]}


def llama_base(folder: Path, *, layers: int = 32, hidden: int = 4096, dtype: str = "BF16") -> Path:
    """A Llama-shaped checkpoint; 32 layers of 4096 are 7B (Mistral's shape). Its bytes are a hole in a sparse file."""
    inner, kv, vocabulary = hidden * 7 // 2, max(hidden // 4, 8), 32000 if hidden > 1000 else 256
    shapes = llama_tensors(layers=layers, hidden=hidden, inner=inner, kv=kv, vocabulary=vocabulary)
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    folder.mkdir(parents=True)
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def lora(folder: Path, shapes: dict[str, list[int]], *, rank: int, targets: list[str], seed: int = 0) -> Path:
    """A LoRA folder on every 2-dimensional weight whose module bears one of `targets`, float32."""
    numbers = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        path = name.removesuffix(".weight")
        if path.rpartition(".")[2] in targets:
            key = f"base_model.model.{path}"
            tensors[f"{key}.lora_A.weight"] = numbers.standard_normal((rank, shape[1]), dtype=np.float32)
            tensors[f"{key}.lora_B.weight"] = numbers.standard_normal((shape[0], rank), dtype=np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "base", **config}))
    return folder


def attention_lora(folder: Path, *, layers: int, hidden: int, rank: int) -> Path:
    """A LoRA on q_proj and v_proj."""
    return lora(folder, _shapes(layers, hidden), rank=rank, targets=["q_proj", "v_proj"])


def all_linear_lora(folder: Path, *, layers: int, hidden: int, rank: int, seed: int = 0) -> Path:
    """A LoRA on all seven linear modules of each layer."""
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return lora(folder, _shapes(layers, hidden), rank=rank, targets=targets, seed=seed)


def _shapes(layers: int, hidden: int) -> dict[str, list[int]]:
    inner, kv, vocabulary = hidden * 7 // 2, max(hidden // 4, 8), 32000 if hidden > 1000 else 256
    return llama_tensors(layers=layers, hidden=hidden, inner=inner, kv=kv, vocabulary=vocabulary)
