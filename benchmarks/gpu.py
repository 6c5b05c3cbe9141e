"""A GPU beside the processor: the same composing, merging and search for intruder dimensions on both, in one run.

Promised: element-wise composing with refit, and intruder dimensions, are clearly quicker on the GPU; a merge from file
to file takes at most 1.2 times what copying the files takes; results agree within what docs/ states. Without a CUDA
device it says so and ends with status 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapter_registry.checkpoints.base_folder import open_checkpoint, read_base
from adapter_registry.domain.errors import Unsupported
from adapter_registry.tensors.against_base import COMPARED, similarities_of, strongest
from adapter_registry.tensors.arrays import WeightFile
from adapter_registry.tensors.composing.methods import find_method
from adapter_registry.tensors.composing.module import Wanted, composed
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.devices import CPU, Device, device_of
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.merging import merge as merging
from benchmarks.shapes import all_linear_lora, llama_base

RANK, ROUNDS = 16, 3
METHODS = ("ties:mergekit", "dare_ties:peft", "della:paper", "breadcrumbs:paper", "sce:mergekit")


def measured(device: Device, *, size: int, layers: int, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of the processor and of the device, their ratio, and the largest difference, by what was done."""
    numbers = np.random.default_rng(0)
    pairs = [
        Pair(
            numbers.standard_normal((size, RANK), dtype=np.float32),
            numbers.standard_normal((RANK, size), dtype=np.float32),
            0.01,
        )
        for _ in range(2)
    ]
    found = {name: _composing(name, pairs, device) for name in METHODS}
    weight = numbers.standard_normal((size, size), dtype=np.float32)

    def intruders(there: Device) -> Any:
        matrix = there.put(weight)
        return similarities_of(matrix, pairs[0], strongest(matrix, None, COMPARED, None)[1])

    found["intruders"] = _compared(intruders, device, lambda one, other: float(np.abs(one - other).max()))
    return {**found, "merge": _merging(device, size, layers, folder)}


def _composing(name: str, pairs: list[Pair], device: Device) -> dict[str, float]:
    method, how = find_method(name)[2], How((1.0, 1.0), keys=(1, 2), density=0.5)

    def apart(one: Any, other: Any) -> float:
        delta = one.up @ one.down
        return float(np.linalg.norm(delta - other.up @ other.down) / np.linalg.norm(delta))

    return _compared(lambda there: composed(pairs, method, how, Wanted(rank=RANK), device=there), device, apart)


def _compared(do: Callable[[Device], Any], device: Device, apart: Callable[[Any, Any], float]) -> dict[str, float]:
    made = {device: do(device)}  # the first use of a device loads its libraries
    seconds: dict[Device, list[float]] = {CPU: [], device: []}
    for _ in range(ROUNDS):
        for there in (CPU, device):
            if isinstance(made.get(there), Path):
                shutil.rmtree(made[there])
            started = time.perf_counter()
            made[there] = do(there)
            seconds[there].append(time.perf_counter() - started)
    one, other = (statistics.median(seconds[there]) for there in (CPU, device))
    return {"cpu": one, "device": other, "ratio": one / other, "apart": apart(made[CPU], made[device])}


def _merging(device: Device, size: int, layers: int, folder: Path) -> dict[str, float]:
    base = llama_base(folder / "base", layers=layers, hidden=size)
    lora = all_linear_lora(folder / "lora", layers=layers, hidden=size, rank=RANK)
    record = read_base(base, cache=None, progress=lambda _: None)

    def merged(there: Device) -> Path:
        out = folder / ("processor" if there == CPU else "device")
        merging.device_of = lambda _: there
        merging.merge(record, base, [merging.Ingredient(lora)], out)
        return out

    found = _compared(merged, device, _largest)
    started = time.perf_counter()
    shutil.copytree(folder / "device", folder / "copy", copy_function=_copied)
    return {**found, "beside copying": found["device"] / (time.perf_counter() - started)}


def _copied(source: str, target: str) -> None:
    """Read and written, and on the disk, as what a merge writes is."""
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        shutil.copyfileobj(old, new, 4 << 20)
        os.fsync(new.fileno())


def _largest(one: Path, other: Path) -> float:
    """The largest difference of two weights, beside the largest weight of their tensor."""
    worst = 0.0
    for (path, header), (second, _) in zip(open_checkpoint(one).files, open_checkpoint(other).files, strict=True):
        with WeightFile(path, header) as file, WeightFile(second, header) as twin:
            for name in file.entries:
                first = file.array(name)
                worst = max(worst, float(np.abs(first - twin.array(name)).max() / max(np.abs(first).max(), 1e-30)))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        device = device_of("cuda")
    except Unsupported as error:
        print(f"nothing was measured: {error}")
        return
    with tempfile.TemporaryDirectory() as name:
        found = measured(device, size=options.size, layers=options.layers, folder=Path(name))
    if options.json:
        print(json.dumps({"device": device.name, "threads": os.cpu_count(), **found}))
        return
    print(
        f"{device.name} beside {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.size} x {options.size}"
    )
    for name, row in found.items():
        print(
            f"{name:20} processor {row['cpu'] * 1000:9.1f} ms, GPU {row['device'] * 1000:9.1f} ms: "
            f"{row['ratio']:6.1f} times quicker; apart by {row['apart']:.1e}"
        )
    print(f"merge of {options.layers} layers: {found['merge']['beside copying']:.2f} times copying (promised: 1.2)")


if __name__ == "__main__":
    main()
