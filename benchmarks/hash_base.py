"""How fast a base checkpoint is hashed, against a plain single-threaded SHA-256 of the same files.

Ours computes the SHA-256 of every file and the BLAKE3 of every tensor on all cores; the peer is `hashlib.file_digest`
of one file after the other. Both are run in turn on files that are in the page cache, and the ratio of each pair is
printed with the median. The second time is a lookup in the fingerprint cache.

    python -m benchmarks.hash_base [--size-gb 2] [--shards 4] [--repeat 5] [--folder CHECKPOINT] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adapter_registry.checkpoints.base_folder import open_checkpoint, read_base
from adapter_registry.checkpoints.fingerprint import fingerprints

PROMISED = 1.7
MATRIX = (4096, 4096)


@dataclass(frozen=True)
class Timing:
    """Seconds of the peer and of ours, run one after the other."""

    peer: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.peer / self.ours


@dataclass(frozen=True)
class Report:
    """What was measured."""

    cores: int
    bytes: int
    shards: int
    tensors: int
    sharded: list[Timing]
    three_files: list[Timing]
    single_file: list[Timing]
    second_time: float

    @property
    def median_ratio(self) -> float:
        return statistics.median(each.ratio for each in self.sharded)


def make_base(folder: Path, *, size: int, shards: int) -> None:
    """A Llama-shaped sharded checkpoint of about `size` bytes of random bfloat16."""
    random = np.random.default_rng(0)
    tensor_bytes = 2 * MATRIX[0] * MATRIX[1]
    per_shard = max(1, round(size / shards / tensor_bytes))
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = [f"model.layers.{shard * per_shard + i}.mlp.weight" for i in range(per_shard)]
        save_file({name: random.integers(0, 1 << 16, MATRIX, dtype=np.uint16) for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def plain(paths: Sequence[Path]) -> None:
    for path in paths:
        with path.open("rb") as stream:
            hashlib.file_digest(stream, "sha256")


def in_turn(folder: Path, repeat: int, *, files: int | None = None) -> list[Timing]:
    opened = open_checkpoint(folder).files[:files]
    paths = [path for path, _ in opened]
    plain(paths)
    return [
        Timing(
            peer=seconds(lambda: plain(paths)),
            ours=seconds(lambda: fingerprints(opened, cache=None, progress=lambda _: None)),
        )
        for _ in range(repeat)
    ]


def measure(folder: Path, repeat: int) -> Report:
    opened = open_checkpoint(folder)
    sharded = in_turn(folder, repeat)
    three = in_turn(folder, repeat, files=3)
    single = in_turn(folder, repeat, files=1)
    with tempfile.TemporaryDirectory() as cache:
        # Files written within the last two seconds are not cached.
        time.sleep(2.1)
        read_base(folder, cache=Path(cache), progress=lambda _: None)
        second = seconds(lambda: read_base(folder, cache=Path(cache), progress=lambda _: None))
    return Report(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        bytes=sum(header.size for _, header in opened.files),
        shards=len(opened.files),
        tensors=len(opened.checkpoint.tensors()),
        sharded=sharded,
        three_files=three,
        single_file=single,
        second_time=second,
    )


def titled(report: Report) -> list[tuple[str, list[Timing]]]:
    return [("all files", report.sharded), ("three files", report.three_files), ("one file", report.single_file)]


def show(report: Report) -> None:
    files = f"{report.bytes / 1e9:.2f} GB in {report.shards} files, {report.tensors} tensors"
    print(f"{files}; {report.cores} cores; files in the page cache; one thread of SHA-256 is the peer")
    for title, timings in titled(report):
        for each in timings:
            print(f"  {title}: plain SHA-256 {each.peer:.3f} s, full fingerprint {each.ours:.3f} s, {each.ratio:.2f}x")
    medians = [f"{title} {statistics.median(each.ratio for each in timings):.2f}x" for title, timings in titled(report)]
    print(f"medians: {', '.join(medians)} (promised for all files on 2 cores: {PROMISED}x)")
    print(f"second time, from the cache of fingerprints: {report.second_time * 1000:.0f} ms for the whole base")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a checkpoint to hash instead of a made one")
    parser.add_argument("--size-gb", type=float, default=2.0)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    made = Path(tempfile.mkdtemp(prefix="hash-base-"))
    try:
        if options.folder is None:
            make_base(made, size=round(options.size_gb * 1e9), shards=options.shards)
        report = measure(options.folder or made, options.repeat)
    finally:
        shutil.rmtree(made)
    if options.json:
        print(json.dumps(asdict(report) | {"median_ratio": report.median_ratio, "promised": PROMISED}, indent=2))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
