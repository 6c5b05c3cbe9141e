"""A PEFT folder written: weights, config and a README that says what it is made of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.peft.fields import CONFIG, WEIGHTS
from adapter_registry.tensors.arrays import Float32, as_stored

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8}


@dataclass(frozen=True, slots=True)
class Adapter:
    """All that an adapter's folder holds: a LoRA's, unless the config names another method.

    Attributes:
        tensors: by the name they are saved under, float32; counts whole.
        dtypes: stored type by name; `dtype` where nothing is said.
        dtype: of all other tensors.
        ranks: live name of each module or parameter -> its rank; alpha is the rank, so that every scale is 1.
        config: other fields of the config.
        readme: text of the README.
    """

    tensors: Mapping[str, Float32]
    ranks: Mapping[str, int]
    config: Mapping[str, Any]
    readme: str
    dtype: str = "F32"
    dtypes: Mapping[str, str] = field(default_factory=dict)


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Write the folder, which is made; the same adapter gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: (dtype := adapter.dtypes.get(name, adapter.dtype), as_stored(array, dtype))
        for name, array in sorted(adapter.tensors.items())
    }
    write_safetensors(folder / WEIGHTS, arrays)
    lora = {} if "peft_type" in adapter.config else config_of(adapter.ranks)
    document = {**lora, **adapter.config}
    (folder / CONFIG).write_text(json.dumps(dict(sorted(document.items())), indent=2) + "\n")
    (folder / "README.md").write_text(adapter.readme)


def config_of(ranks: Mapping[str, int]) -> dict[str, Any]:
    """The fields of a LoRA with these ranks and a scale of 1 everywhere, in PEFT's words."""
    most = max(ranks.values(), default=1)
    patterns = {name: rank for name, rank in sorted(ranks.items()) if rank != most}
    return {
        "peft_type": "LORA",
        "r": most,
        "lora_alpha": most,
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "use_rslora": False,
        "use_dora": False,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def write_safetensors(path: Path, arrays: Mapping[str, tuple[str, NDArray[Any]]]) -> None:
    """Write arrays, in their order, with their safetensors types; the header is padded to 8 bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, array) in arrays.items():
        size = array.size * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as sink:
        sink.write(len(text).to_bytes(8, "little"))
        sink.write(text)
        for _, array in arrays.values():
            sink.write(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        sink.flush()
        os.fsync(sink.fileno())
