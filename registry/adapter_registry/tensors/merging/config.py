"""config.json of a merged checkpoint: the base's, but for what merging changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_registry.domain.base import Base
from adapter_registry.tensors.merging.plan import Plan

HEADS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
"""Task type of an adapter with a head of its own -> how transformers calls the class with such a head."""


def config_changes(plan: Plan, base: Base, config: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    """config.json of the result: what is tied, how many tokens there are, the class with a new head, the dtype."""
    told = {key: value for key, value in config.items() if base.quantization or key != "quantization_config"}
    nested = told.get("text_config")
    places = [told, *([dict(nested)] if isinstance(nested, dict) else [])]
    if len(places) > 1:
        told["text_config"] = places[1]
    for place in places:
        if plan.untied and (place is told or "tie_word_embeddings" in place):
            place["tie_word_embeddings"] = False
        if plan.resized and "vocab_size" in place:
            place["vocab_size"] = plan.resized
        for name in ("dtype", "torch_dtype"):
            if dtype and name in place:
                place[name] = dtype
    task = next(iter(plan.tasks), "")
    suffix = {
        "SEQ_CLS": "SequenceClassification",
        "TOKEN_CLS": "TokenClassification",
        "QUESTION_ANS": "QuestionAnswering",
    }
    if plan.heads and task in suffix and base.architecture:
        stem = base.architecture.partition("For")[0].removesuffix("LMHeadModel").removesuffix("Model")
        told["architectures"] = [f"{stem}For{suffix[task]}"]
        labels = max(plan.heads.values())
        if task != "QUESTION_ANS" and len(told.get("id2label") or {}) != labels:
            told["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
            told["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
    return told
