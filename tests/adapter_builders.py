"""Real tiny bases and adapters, made with transformers and PEFT; nothing is downloaded."""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Bytes:
    """A file of a version, in memory."""

    path: str
    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.data)


def llama(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A Llama of about 20,000 parameters with grouped-query attention, saved by transformers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**{**shape, **changes})).save_pretrained(folder)
    return folder


def adapter(
    folder: Path,
    base: Path,
    config: Any,
    *,
    auto: str = "AutoModelForCausalLM",
    fresh: bool = False,
    load: Callable[[Path], Any] | None = None,
    autocast: bool = True,
) -> Path:
    """What PEFT saves for `config` on `base`; trained-looking unless `fresh`. `load` makes the model in another way."""
    import torch
    import transformers
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        loaded = load(base) if load else getattr(transformers, auto).from_pretrained(base)
        model = get_peft_model(loaded, config, autocast_adapter_dtype=autocast)
        if not fresh:
            for _, parameter in model.named_parameters():
                if parameter.requires_grad and parameter.dtype.is_floating_point:
                    parameter.data.normal_(std=0.1)
        model.save_pretrained(folder)
    return folder


def changed_config(folder: Path, **changes: Any) -> None:
    """Set fields of the config; a value of `...` removes the field."""
    path = folder / CONFIG
    document = json.loads(path.read_text())
    for name, value in changes.items():
        document.pop(name, None)
        if value is not ...:
            document[name] = value
    path.write_text(json.dumps(document))


def changed_tensors(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply `change` to the tensors of the file."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def copied(source: Path, target: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(source, target)
    return target
