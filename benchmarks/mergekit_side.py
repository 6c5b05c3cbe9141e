"""mergekit's half of `benchmarks.against_mergekit`: run by the interpreter of mergekit's own environment.

Standard input is `{"base": FOLDER, "tuned": [FOLDER, ...], "out": FOLDER, "cases": [...]}`; each case is merged by
`mergekit.merge.run_merge`, as its command does, into `out/NUMBER`. Random masks are drawn by numpy with a seed that
follows from the delta, so that the other half can draw the same; mergekit's own generator is torch's global one.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.merge_methods import generalized_task_arithmetic as arithmetic
from mergekit.options import MergeOptions

_sparsify = arithmetic.sparsify
_numbers: list[np.random.Generator] = []


def sparsify(tensor: Any, **options: Any) -> Any:
    """Mergekit's, with a generator of this tensor's own for the mask that it draws."""
    _numbers[:] = [np.random.default_rng(zlib.crc32(tensor.numpy().tobytes()))]
    return _sparsify(tensor, **options)


def bernoulli(chance: Any) -> Any:
    """torch.bernoulli by that generator."""
    drawn = _numbers[0].random(tuple(chance.shape), dtype=np.float32)
    return (torch.from_numpy(drawn) < chance).to(chance.dtype)


def main() -> None:
    question = json.loads(sys.stdin.read())
    arithmetic.sparsify = sparsify
    torch.bernoulli = bernoulli
    for number, case in enumerate(question["cases"]):
        models = [
            {"model": folder, "parameters": {**case["each"], **({} if weight is None else {"weight": weight})}}
            for folder, weight in zip(question["tuned"], case["weights"], strict=False)
        ]
        config = {
            "merge_method": case["method"],
            "models": models,
            "parameters": case["shared"],
            "dtype": "float32",
        }
        if case["onto_base"]:
            config["base_model"] = question["base"]
        options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False)
        run_merge(MergeConfiguration.model_validate(config), f"{question['out']}/{number}", options)


if __name__ == "__main__":
    main()
