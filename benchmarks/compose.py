"""Composing: the best rank 16 of the sum of rank-16 adapters, against PEFT's `add_weighted_adapter(..., "svd")`.

Promised: for a 4096 x 4096 module and two or three adapters at least 1,000 times less CPU than PEFT, with a relative
difference of the deltas below 1e-5; and a 7B-shaped all-linear pair (32 layers, 224 modules) from files to files, as
the command does it, in under 15 s on 2 cores. Both sides have one thread in the comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from adapter_registry.tensors.composing.methods import find_method
from adapter_registry.tensors.composing.module import Wanted, composed
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.layers import Pair
from benchmarks.shapes import all_linear_lora, llama_base

RANK, WEIGHTS = 16, (0.7, -0.3, 0.5)


def peft_model(pairs: list[Pair], size: int) -> Any:
    """One linear layer with the pairs as adapters `a0`, `a1`, ..."""
    import torch
    from peft import LoraConfig, get_peft_model

    model = torch.nn.Sequential(torch.nn.Linear(size, size, bias=False))
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"])
    wrapped = get_peft_model(model, config, adapter_name="a0")
    for number in range(1, len(pairs)):
        wrapped.add_adapter(f"a{number}", config)
    layer = wrapped.base_model.model[0]
    for number, pair in enumerate(pairs):
        layer.lora_A[f"a{number}"].weight.data = torch.from_numpy(pair.down)
        layer.lora_B[f"a{number}"].weight.data = torch.from_numpy(pair.up)
    return wrapped


def against_peft(count: int, *, size: int) -> dict[str, float]:
    """CPU seconds of both for one module, and how far the answers are apart."""
    numbers = np.random.default_rng(count)
    fall = np.float32(0.9) ** np.arange(RANK, dtype=np.float32)
    pairs = [
        Pair(
            numbers.standard_normal((size, RANK), dtype=np.float32) * fall,
            numbers.standard_normal((RANK, size), dtype=np.float32),
            1.0,
        )
        for _ in range(count)
    ]
    weights, method = WEIGHTS[:count], find_method("svd")[2]
    how, wanted = How(weights, keys=tuple(range(count))), Wanted(rank=RANK)
    ours = []
    for _ in range(11):
        started = time.process_time()
        fitted = composed(pairs, method, how, wanted)
        ours.append(time.process_time() - started)
    model = peft_model(pairs, size)
    names = [f"a{number}" for number in range(count)]
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.add_weighted_adapter(names, list(weights), "sum", combination_type="svd", svd_rank=RANK)
    theirs = time.process_time() - started
    delta = model.base_model.model[0].get_delta_weight("sum").detach().numpy()
    apart = float(np.linalg.norm(fitted.up @ fitted.down - delta) / np.linalg.norm(delta))
    mine = statistics.median(ours)
    return {"ours": mine, "peft": theirs, "ratio": theirs / mine, "apart": apart, "error": fitted.error / fitted.norm}


def whole_pair(layers: int, hidden: int) -> dict[str, float]:
    """Wall and CPU seconds of `adapters compose A B -o DIR`, Python's start, verifying and writing included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache")}
        registry = Registry(read_settings(given))
        registry.add_base("seven", llama_base(folder / "base", layers=layers, hidden=hidden))
        for seed, each in enumerate(("a", "b")):
            made = all_linear_lora(folder / each, layers=layers, hidden=hidden, rank=RANK, seed=seed)
            registry.push(made, base="seven", name=each)
        command = [str(Path(sys.executable).with_name("adapters")), "compose", "a@v1=0.7", "b@v1=0.3"]
        before, started = os.times(), time.perf_counter()
        subprocess.run(
            [*command, "--method", "svd", "--rank", str(RANK), "-o", str(folder / "out")],
            env={**os.environ, **given},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        wall, after = time.perf_counter() - started, os.times()
        size = sum(file.stat().st_size for file in (folder / "out").iterdir())
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": cpu, "bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told: dict[str, Any] = {"load": os.getloadavg()[0], "pair": whole_pair(options.layers, options.size)}
    for count in (2, 3):
        told[f"{count} adapters"] = against_peft(count, size=options.size)
    if options.json:
        print(json.dumps(told))
        return
    pair = told["pair"]
    print(f"load {told['load']:.1f}; {options.layers} layers of {options.size}, files to files: ", end="")
    print(f"{pair['wall']:.1f} s, {pair['cpu']:.1f} CPU-s, {pair['bytes'] / 1e6:.0f} MB written (promised: 15 s)")
    for count in (2, 3):
        found = told[f"{count} adapters"]
        print(
            f"{count} adapters, one {options.size} x {options.size} module: {found['ours'] * 1000:.1f} ms, "
            f"PEFT {found['peft']:.1f} s of CPU: {found['ratio']:,.0f} times less (promised: 1,000); "
            f"deltas apart by {found['apart']:.1e} (promised: 1e-5); rank {RANK} costs {found['error']:.3f}"
        )


if __name__ == "__main__":
    main()
