"""What changed between two rank-64 adapters of all linear layers of a 7B model: every figure that factors tell.

Promised: 3 s on 2 cores, files included, and a relative change of 1e-6 told right to 1 %. The peer makes the deltas in
float32 with numpy and takes norms and cosine alone: no other tool compares two adapters.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from adapter_registry.checkpoints.header import read as read_header
from adapter_registry.domain.base import Base, Tensor
from adapter_registry.domain.diff import VersionDiff
from adapter_registry.tensors.diff import Input, diff
from adapter_registry.tensors.over_modules import one_blas_thread
from benchmarks.shapes import all_linear_lora, llama_base

WEIGHTS = "adapter_model.safetensors"


def base_of(folder: Path) -> Base:
    """The checkpoint's table of tensors; its bytes are a hole and are not read."""
    file = folder / "model.safetensors"
    with file.open("rb") as stream:
        header = read_header(stream, size=file.stat().st_size, file=file.name)
    tensors = tuple(Tensor(entry.name, entry.dtype, entry.shape) for entry in header.tensors)
    known: dict[str, Any] = dict.fromkeys(
        ("config", "tokenizer", "root", "repository", "commit", "quantization", "spot"), None
    )
    return Base(
        digest="sha256:" + "0" * 64,  # type: ignore[arg-type]
        files=(),
        tensors=tensors,
        architecture="LlamaForCausalLM",
        model_type="llama",
        vocab_size=32000,
        tied=False,
        source=str(folder),
        **known,
    )


def moved(source: Path, target: Path, change: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Path:
    """A copy of an adapter with every tensor changed."""
    shutil.copytree(source, target)
    numbers = np.random.default_rng(1)
    tensors = load_file(target / WEIGHTS)
    for name in tensors:
        tensors[name] = change(tensors[name], numbers).astype(np.float32)
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    return target


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """(wall seconds, CPU seconds, what it gave)."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return time.perf_counter() - wall, time.process_time() - cpu, made


def materialised(first: Path, second: Path, modules: int) -> list[float]:
    """The peer: cosines of the first `modules` modules, from deltas made in float32."""
    found = []
    with (
        one_blas_thread(),
        safe_open(first / WEIGHTS, framework="numpy") as one,
        safe_open(second / WEIGHTS, framework="numpy") as other,
    ):
        names = sorted({name.rpartition(".lora_")[0] for name in one.keys()})[:modules]  # noqa: SIM118  no mapping
        for name in names:
            a, b = (
                side.get_tensor(f"{name}.lora_B.weight") @ side.get_tensor(f"{name}.lora_A.weight")
                for side in (one, other)
            )
            found.append(float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)))
    return found


def dense_change(first: Path, second: Path, module: str) -> float:
    """|D2 - D1| / |D1| of one module, made in float64."""
    one, other = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    a, b = (
        side[f"base_model.model.{module}.lora_B.weight"].astype(np.float64)
        @ side[f"base_model.model.{module}.lora_A.weight"]
        for side in (one, other)
    )
    return float(np.linalg.norm(b - a) / np.linalg.norm(a))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--layers", type=int, default=32)
    arguments.add_argument("--rank", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--peer-modules", type=int, default=7, help="How many modules the peer does; scaled up.")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        base = base_of(llama_base(root / "base", layers=given.layers))
        first = all_linear_lora(root / "first", layers=given.layers, hidden=4096, rank=given.rank)
        other = moved(first, root / "other", lambda values, numbers: values + numbers.standard_normal(values.shape))
        near = moved(
            first, root / "near", lambda values, numbers: values * (1 + 1e-6 * numbers.standard_normal(values.shape))
        )

        def compared(second: Path) -> VersionDiff:
            return diff(Input("first", None, first, base, "base"), Input(second.name, None, second, base, "base"))

        count = 7 * given.layers
        print(f"{count} modules, rank {given.rank}; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        for _ in range(given.rounds):
            wall, cpu, found = timed(lambda: compared(other))
            peer_wall, peer_cpu, cosines = timed(lambda: materialised(first, other, given.peer_modules))
            scale = count / given.peer_modules
            apart = max(
                abs(cosine - next(m.cosine for m in found.modules if m.name == name))
                for name, cosine in zip(sorted(m.name for m in found.modules), cosines, strict=False)
            )
            print(
                f"  diff {wall:.2f} s, {cpu:.2f} CPU-s, every figure; float32 deltas {peer_wall * scale:.0f} s, "
                f"{peer_cpu * scale:.0f} CPU-s (scaled from {given.peer_modules} modules), cosine alone: "
                f"{peer_cpu * scale / cpu:.0f}x the CPU; cosines {apart:.0e} apart"
            )
        wall, cpu, found = timed(lambda: compared(near))
        module = found.modules[0]
        true = dense_change(first, near, module.name)
        assert module.relative is not None
        print(
            f"  nearly identical: {wall:.2f} s, {cpu:.2f} CPU-s; change {module.relative:.6e}, float64 {true:.6e}: "
            f"wrong by {abs(module.relative / true - 1):.1e}"
        )


if __name__ == "__main__":
    main()
