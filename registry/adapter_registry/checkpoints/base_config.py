"""What config.json says of a base checkpoint, and a digest of the parts that change what it computes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from adapter_registry.domain.base import Tensor
from adapter_registry.domain.digest import Digest, of_json
from adapter_registry.domain.errors import InvalidInput

NOT_COMPUTED = frozenset(
    {
        "architectures",
        "auto_map",
        "dtype",
        "finetuning_task",
        "id2label",
        "initializer_factor",
        "initializer_range",
        "label2id",
        "pretraining_tp",
        "problem_type",
        "task_specific_params",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
"""Fields that do not change a hidden state. Tying shows in the table of tensors, the dtype in the tensors."""

_NOT_COMPUTED_EITHER = re.compile(r"_.*|.*_token_id|.*drop(out)?|.*_pdrop|.*dropout_.*|summary_.*")
"""Private notes of the library, ids that only generation uses, and what is switched off outside training."""

INPUT_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "shared.weight",
    "embeddings.weight",
    "embed_in.weight",
)

OUTPUT_HEADS = (
    "lm_head.weight",
    "embed_out.weight",
    "output.weight",
    "lm_head.decoder.weight",
    "predictions.decoder.weight",
    "output_layer.weight",
)


@dataclass(frozen=True, slots=True)
class BaseConfig:
    """Facts of config.json; None where it does not say. See domain.base.Base for their meaning."""

    digest: Digest | None = None
    architecture: str | None = None
    model_type: str | None = None
    vocab_size: int | None = None
    tied: bool | None = None
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
        digest = of_json(_computed(document))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(
            f"{source}: config.json is no model's config ({str(error)[:120]}): download or save it again."
        ) from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{source}: config.json is not a JSON object: download or save it again.")
    text = document.get("text_config")
    nested = text if isinstance(text, dict) else {}
    architectures = document.get("architectures")
    return BaseConfig(
        digest=digest,
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else None,
        model_type=_text(document.get("model_type")),
        vocab_size=_count(document.get("vocab_size")) or _count(nested.get("vocab_size")),
        tied=_flag(document.get("tie_word_embeddings", nested.get("tie_word_embeddings"))),
        quantization=_quantization(document.get("quantization_config")),
    )


def vocabulary_rows(tensors: Iterable[Tensor], config: BaseConfig) -> int | None:
    """Rows of the input embedding, where a tensor bears its name; else what the config says."""
    rows = {
        tensor.shape[0]
        for tensor in tensors
        if len(tensor.shape) == 2 and tensor.dtype not in ("U8", "I8") and _ends_with(tensor.name, INPUT_EMBEDDINGS)
    }
    if config.vocab_size in rows or not rows:
        return config.vocab_size
    return max(rows)


def is_tied(tensors: Iterable[Tensor], config: BaseConfig) -> bool:
    """Whether input and output embeddings are one tensor.

    Configs leave the field out where it is the default of their class (GPT-2 ties, Llama does not): then a language
    model without a tensor for its head is a tied one.
    """
    if config.tied is not None:
        return config.tied
    has_head = bool(re.search(r"(ForCausalLM|LMHeadModel|ForMaskedLM|Generation)$", config.architecture or ""))
    return has_head and not any(_ends_with(tensor.name, OUTPUT_HEADS) for tensor in tensors)


def _ends_with(name: str, paths: Iterable[str]) -> bool:
    return any(name == path or name.endswith(f".{path}") for path in paths)


def _computed(value: Any) -> Any:
    """What changes a hidden state, written the same way by every version of transformers, at every level.

    Fields that are null, false or empty count as absent: newer versions write out the defaults of more fields.
    """
    if isinstance(value, dict):
        same = _renamed(value)
        kept = {name: _computed(each) for name, each in same.items() if _counts(name)}
        return {name: each for name, each in kept.items() if each not in (None, False, {}, [])}
    if isinstance(value, list):
        return [_computed(each) for each in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else repr(value)
    return value


def _counts(name: str) -> bool:
    return name not in NOT_COMPUTED and not _NOT_COMPUTED_EITHER.fullmatch(name)


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """The fields as transformers 5 writes them: rope_parameters in one place, what follows from others left out."""
    found = dict(document)
    is_rope = "rope_type" in found or "type" in found
    theta, scaling = (None, None) if is_rope else (found.pop("rope_theta", None), found.pop("rope_scaling", None))
    if theta is not None or isinstance(scaling, dict):
        told = dict(scaling) if isinstance(scaling, dict) else {}
        kind = told.pop("type", None) or "default"
        told = {"rope_type": kind} | told | ({} if theta is None else {"rope_theta": theta})
        found.setdefault("rope_parameters", told)
    heads, width = found.get("num_attention_heads"), found.get("hidden_size")
    if heads and width and found.get("head_dim") == width // heads:
        del found["head_dim"]
    if set(found.get("layer_types") or ()) == {"full_attention"}:
        del found["layer_types"]
    if found.get("use_sliding_window") is False:
        found.pop("sliding_window", None)
        found.pop("max_window_layers", None)
    return found


def _quantization(value: Any) -> str | None:
    if not isinstance(value, dict) or not value:
        return None
    bits = value.get("load_in_4bit") or value.get("load_in_8bit")
    return _text(value.get("quant_method")) or ("bitsandbytes" if bits else "unnamed")


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
