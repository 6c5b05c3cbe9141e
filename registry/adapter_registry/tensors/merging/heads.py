"""An output head that is the input embedding, given a tensor of its own: under which name, and with what beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapter_registry.checkpoints.modules import OUTPUT_HEAD, Modules
from adapter_registry.domain.base import Base
from adapter_registry.domain.errors import Notice
from adapter_registry.tensors.merging.edits import Edit

if TYPE_CHECKING:
    from adapter_registry.tensors.merging.plan import Plan

SHARED = "the one embedding of encoder and decoder, which have it under names of their own, too"
WITHOUT_HEAD = frozenset({"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"})
"""Tasks of models that tell no tokens."""
_TELL_TOKENS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_KEEP_SHARED_TIED = frozenset({"t5"})
"""Types of encoder-decoders whose embeddings stay one when only their head is untied."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head that no tensor of the base is for.

    Attributes:
        path: live path of its module.
        bias: live name of the tensor that is its bias, where that is tied, too.
    """

    path: str
    bias: str | None = None


def head_of(base: Base, modules: Modules, task: str | None, path: str | None = None) -> Head | None:
    """The base's output head; None where it has none, so that its embedding is nothing but that.

    Args:
        base: tied.
        modules: its modules.
        task: of the adapter.
        path: of the head, where the adapter names it.

    Raises:
        LookupError: why it cannot be stored apart, for people.
    """
    found = _head(base, modules, task)
    if path is not None and (found is None or found.path != path):
        found = Head(path, found.bias if found else None)
    if found and found.path == "?":
        raise LookupError(f"{base.architecture}, whose head has a name that we do not know")
    shared = any(module.kind == "shared" for module in modules.by_path.values())
    if found and shared and base.model_type not in _KEEP_SHARED_TIED:
        raise LookupError(f"{found.path}, tied to {SHARED}")
    return found


def _head(base: Base, modules: Modules, task: str | None) -> Head | None:
    architecture = base.architecture or ""
    known = next(filter(OUTPUT_HEAD.fullmatch, modules.by_path), None)
    if known:
        return Head(known)
    if of_masked := _masked(modules):
        return of_masked
    if any(mark in architecture for mark in _TELL_TOKENS):
        return Head("embed_out" if base.model_type == "gpt_neox" else "lm_head")
    if "ForMaskedLM" in architecture or "ForPreTraining" in architecture:
        return Head("?")
    encoder = any("token_type_embeddings" in name for name in modules.tensors)
    if not architecture.endswith("Model") or encoder or task in WITHOUT_HEAD:
        return None
    return Head("lm_head")


def _masked(modules: Modules) -> Head | None:
    """The head of a masked language model, as BERT and RoBERTa name it; its bias is tied, too."""
    bert = next((name for name in modules.tensors if name.endswith("cls.predictions.bias")), None)
    if bert:
        return Head(bert.replace("predictions.bias", "predictions.decoder"), bert)
    if {"lm_head.dense.weight", "lm_head.bias"} <= modules.tensors.keys():
        return Head("lm_head.decoder", "lm_head.bias")
    return None


def shared_embedding(modules: Modules, path: str) -> bool:
    """Whether a module is the embedding of an encoder-decoder, under whichever of its names."""
    found = modules.find(path)
    return found is not None and found.kind == "shared" and not OUTPUT_HEAD.fullmatch(path)


def untied(plan: Plan, modules: Modules, embedding: str, head: Head) -> str:
    """Give a head a tensor that begins as the embedding; its name. A bias that was tied comes with it."""
    known = modules.tensors.get(f"{head.path}.weight")
    name = known.name if known else f"{head.path}.weight"
    if plan.untied:
        return name
    plan.untied = True
    plan.origins[name] = plan.origins[embedding]
    bias = modules.tensors.get(head.bias) if head.bias else None
    if bias is not None:
        plan.origins.setdefault(f"{head.path}.bias", plan.origins[bias.name])
    text = "the output head was the embedding and is changed apart from it now: it is stored as a tensor"
    plan.notices.append(Notice("untied", "", name, text))
    earlier = plan.edits.get(embedding)
    if earlier is not None and earlier.rows:
        plan.edits.setdefault(name, Edit(head.path)).rows = list(earlier.rows)
    return name
