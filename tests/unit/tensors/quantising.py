"""Checkpoints as bitsandbytes stores them, written from the format's description; see `test_dequantized`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

THEIRS = Path(__file__).with_name("bitsandbytes.safetensors")
BLOCK = 64


def state(text: str, **changes) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps({**json.loads(text), **changes}).encode()), dtype=torch.uint8)


def folder_with(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A checkpoint that says it is by bitsandbytes."""
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_bytes()) if path.exists() else {"model_type": "llama", "dtype": "float16"}
    quantised = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps({**config, "quantization_config": quantised}))
    return folder


def quantised(weight: torch.Tensor, code: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A weight in NF4, and what it stands for: written from the format's description, in float32."""
    blocks = weight.float().reshape(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    index = ((blocks / scales[:, None])[..., None] - code).abs().argmin(dim=-1)
    stands_for = (code[index] * scales[:, None]).reshape(weight.shape).to(weight.dtype)
    halves = index.reshape(-1, 2)
    told = {"quant_type": "nf4", "blocksize": BLOCK, "dtype": "bfloat16", "shape": list(weight.shape)}
    tensors = {
        "": (halves[:, :1] * 16 + halves[:, 1:]).to(torch.uint8),
        ".absmax": scales,
        ".quant_map": code.clone(),
        ".quant_state.bitsandbytes__nf4": state(json.dumps(told)),
    }
    return tensors, stands_for


def in_nf4(original: Path, folders: Path) -> tuple[Path, Path]:
    """A base of bfloat16 with its linear layers in NF4, and the same with the floats that those stand for."""
    code = load_file(THEIRS)["nf4.weight.quant_map"]
    packed, floats = {}, {}
    for name, weight in load_file(original / "model.safetensors").items():
        floats[name] = weight
        if not name.endswith("_proj.weight"):
            packed[name] = weight
            continue
        parts, floats[name] = quantised(weight, code)
        packed |= {f"{name}{part}": tensor for part, tensor in parts.items()}
    for name in ("packed", "floats"):
        shutil.copytree(original, folders / name)
    save_file(floats, folders / "floats/model.safetensors", metadata={"format": "pt"})
    return folder_with(folders / "packed", packed), folders / "floats"
