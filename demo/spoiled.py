"""Bases and adapters that are wrong on purpose, each in one way that happens in real life."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from demo.places import base_folder, placing, root

SHIFTED = "model.layers.0.self_attn.q_proj.weight"


def other_shape() -> Path:
    """A Llama of another width: what is trained for one does not fit the other."""
    folder = root() / "wrong" / "tiny-llama"
    if folder.is_dir():
        return folder
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
    with placing(folder) as aside:
        LlamaForCausalLM(LlamaConfig(vocab_size=1000, **shape)).save_pretrained(aside)
    return folder


def other_weights() -> Path:
    """The base with one value of one weight changed: the same names, the same shapes, another checkpoint."""
    folder = root() / "wrong" / "smollm2-retouched"
    if folder.is_dir():
        return folder
    with placing(folder) as aside:
        shutil.copytree(base_folder(), aside, dirs_exist_ok=True)
        with (aside / "model.safetensors").open("r+b") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(length))
            place = 8 + length + header[SHIFTED]["data_offsets"][0]
            file.seek(place)
            value = struct.unpack("<f", file.read(4))[0]
            file.seek(place)
            file.write(struct.pack("<f", value + 0.01))
    return folder


def corrupted(adapter: Path) -> Path:
    """A copy of an adapter with another rank in its config, a NaN in a factor, and a weight of the base smuggled in."""
    from safetensors.numpy import load_file, save_file

    folder = root() / "wrong" / "adapter"
    with placing(folder) as aside:
        shutil.copytree(adapter, aside, dirs_exist_ok=True)
        config = json.loads((aside / "adapter_config.json").read_text())
        (aside / "adapter_config.json").write_text(json.dumps({**config, "r": 16}))
        tensors = load_file(aside / "adapter_model.safetensors")
        first = next(iter(tensors))
        tensors[first][0, 0] = float("nan")
        tensors["base_model.model.model.norm.weight"] = tensors[first][1, :1].repeat(576)
        save_file(tensors, aside / "adapter_model.safetensors")
    return folder
