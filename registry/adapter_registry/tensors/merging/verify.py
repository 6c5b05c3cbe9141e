"""Whether a merged checkpoint says what base and adapter say together, as PEFT computes it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.checkpoints.confined import Limits
from adapter_registry.domain.errors import Unsupported
from adapter_registry.tensors.merging.merge import Ingredient
from adapter_registry.tensors.through_peft import asked

PROMPTS, LENGTH = 4, 32
"""Probe prompts: tokens drawn with a fixed seed, so that every run asks the same."""


@dataclass(frozen=True, slots=True)
class Verified:
    """How far the logits are apart, over every token of the prompts.

    Attributes:
        largest: difference of two logits.
        spread: standard deviation of the logits, to see it beside.
        agreeing: share of positions where both find the same token likeliest.
        tokens: how many positions there were.
    """

    largest: float
    spread: float
    agreeing: float
    tokens: int

    def __str__(self) -> str:
        return (
            f"logits differ by {self.largest:.2g} at most, beside a spread of {self.spread:.2g}; "
            f"the likeliest token agrees at {self.agreeing:.1%} of {self.tokens} positions"
        )


def verify(base: Path, adapters: Sequence[Ingredient], merged: Path, *, limits: Limits | None = None) -> Verified:
    """Compare the logits of base and adapter, loaded by PEFT, with those of the merged checkpoint; in float32.

    Both models are loaded one after the other, in a child process: that takes 4 bytes of memory for each weight.

    Args:
        base: folder of the base.
        adapters: what was merged.
        merged: folder of the result.
        limits: of the child process, see `through_peft.asked`.

    Raises:
        Unsupported: several adapters or a weight, which PEFT has no exact form of, or no model that tells logits.
    """
    if len(adapters) != 1 or adapters[0].weight != 1:
        raise Unsupported(
            "--verify compares with one adapter of weight 1; the merged checkpoint is written all the same."
        )
    prompts = _prompts(base)
    theirs, ours = (
        _logits(folder, adapter, prompts, limits) for folder, adapter in ((base, adapters[0].folder), (merged, None))
    )
    return Verified(
        largest=float(np.abs(theirs - ours).max()),
        spread=float(theirs.std()),
        agreeing=float((theirs.argmax(-1) == ours.argmax(-1)).mean()),
        tokens=int(np.prod(theirs.shape[:-1])),
    )


def _logits(folder: Path, adapter: Path | None, prompts: list[list[int]], limits: Limits | None) -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "logits.npy"
        named = str(adapter.resolve()) if adapter else None
        question = {"do": "logits", "base": str(folder.resolve()), "adapter": named}
        asked({**question, "prompts": prompts, "out": str(out)}, limits)
        found: NDArray[np.float32] = np.load(out)
    return found


def _prompts(base: Path) -> list[list[int]]:
    config: dict[str, Any] = json.loads((base / "config.json").read_bytes())
    rows = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or 256
    drawn: list[list[int]] = np.random.default_rng(0).integers(0, rows, (PROMPTS, LENGTH)).tolist()
    return drawn
