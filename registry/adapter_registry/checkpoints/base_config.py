"""What config.json says of a base checkpoint, and a digest of the parts that change what it computes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adapter_registry.domain.base import Tensor
from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import InvalidInput

NOT_COMPUTED = frozenset(
    {
        "_name_or_path",
        "_commit_hash",
        "_attn_implementation_autoset",
        "architectures",
        "auto_map",
        "dtype",
        "id2label",
        "label2id",
        "task_specific_params",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Fields that another version of the library writes differently, or that do not change a hidden state."""

INPUT_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "shared.weight",
    "embeddings.weight",
    "embed_in.weight",
)


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """Facts of config.json; None where it does not say. See domain.base.Base for their meaning."""

    digest: Digest | None = None
    architecture: str | None = None
    model_type: str | None = None
    vocab_size: int | None = None
    tied: bool = False
    quantization: str | None = None


def read_config(data: bytes | None, *, source: str) -> BaseConfig:
    """The facts of a config.json; all None without one.

    Raises:
        InvalidInput: it is not a JSON object.
    """
    if data is None:
        return BaseConfig()
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{source}: config.json is not JSON ({str(error)[:120]}); nothing was registered.") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{source}: config.json is not a JSON object; nothing was registered.")
    text = document.get("text_config")
    nested = text if isinstance(text, dict) else {}
    architectures = document.get("architectures")
    quantization = document.get("quantization_config")
    return BaseConfig(
        digest=of_json(_computed(document)),
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else None,
        model_type=_text(document.get("model_type")),
        vocab_size=_count(document.get("vocab_size")) or _count(nested.get("vocab_size")),
        tied=bool(document.get("tie_word_embeddings", nested.get("tie_word_embeddings", False))),
        quantization=_text(quantization.get("quant_method")) if isinstance(quantization, dict) else None,
    )


def vocabulary_rows(tensors: Iterable[Tensor], config: BaseConfig) -> int | None:
    """Rows of the input embedding, where a tensor bears its name; else what the config says."""
    rows = {
        tensor.shape[0]
        for tensor in tensors
        if len(tensor.shape) == 2 and tensor.dtype not in ("U8", "I8") and tensor.name.endswith(INPUT_EMBEDDINGS)
    }
    if config.vocab_size in rows or not rows:
        return config.vocab_size
    return max(rows)


def _computed(value: Any) -> Any:
    """The config without NOT_COMPUTED, nulls and floats that are whole numbers, at every level."""
    if isinstance(value, dict):
        kept = {k: _computed(v) for k, v in value.items() if k not in NOT_COMPUTED and v is not None}
        return kept
    if isinstance(value, list):
        return [_computed(each) for each in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    return value


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
