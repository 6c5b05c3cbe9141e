"""Merges of tiny models, by us and by PEFT, for the tests that hold one against the other."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.tensors.merging.merge import Ingredient, Merged, Options, merge
from tests.adapter_builders import llama

CAUSAL = "AutoModelForCausalLM"


def base_of(folder: Path, dtype: str, make: Any = llama, *, auto: str = CAUSAL, **changes: Any) -> Path:
    """A base saved in a type."""
    import torch

    folder = make(folder, **changes)
    loaded(folder, auto).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def loaded(folder: Path, auto: str = CAUSAL, dtype: Any = "auto") -> Any:
    """A checkpoint as transformers loads it."""
    import transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(transformers, auto).from_pretrained(folder, dtype=dtype)


def adapted(base: Path, adapter: Path, auto: str = CAUSAL, dtype: Any = "auto", **options: Any) -> Any:
    """Base and adapter as PEFT loads them."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(loaded(base, auto, dtype), adapter, **options)


def by_peft(base: Path, *adapters: Path, auto: str = CAUSAL, safe: bool = False, dtype: Any = "auto") -> Any:
    """The model that PEFT's `merge_and_unload` makes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return adapted(base, adapters[0], auto, dtype).merge_and_unload(safe_merge=safe)


def by_us(base: Path, out: Path, *adapters: Path, weights: tuple[float, ...] = (), **options: Any) -> Merged:
    """Merge into a folder."""
    given = weights or (1.0,) * len(adapters)
    parts = [Ingredient(folder, weight, folder.name) for folder, weight in zip(adapters, given, strict=True)]
    record = read_base(base, cache=None, progress=lambda _: None)
    return merge(record, base, parts, out, options=Options(**options))


def logits(model: Any) -> Any:
    """What a model says to a few tokens, in float32."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.float().eval()(input_ids=torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])).logits


def different(ours: Any, theirs: Any) -> list[str]:
    """Names of tensors of two models that differ in a bit."""
    import torch

    left, right = ours.state_dict(), theirs.state_dict()
    assert left.keys() == right.keys()
    return [name for name in left if left[name].dtype != right[name].dtype or not torch.equal(left[name], right[name])]
