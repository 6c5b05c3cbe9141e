"""Merging a rank-16 adapter into a 7B-shaped bfloat16 base, against `cp -r`, PEFT's merge and save, and mergekit.

Promised, on two cores: every linear layer adapted, CPU at most 5 times and wall at most 2.5 times that of `cp`; wall at
least 5 times less than PEFT and than mergekit; the bits of PEFT. Only attention adapted: wall at most 1.5 times `cp`.
Anonymous memory at most 0.7 GB, whatever the number of layers. The output is hashed in the same pass.

All run in turn, each in a process of its own, on real random bytes (not holes) in one folder, on tmpfs where there is
room, so that neither disk nor cache state decides. mergekit needs an environment of its own:

    python -m venv MK && MK/bin/pip install mergekit==0.1.5
    python -m benchmarks.merge [--layers 8] [--repeat 3] [--threads 2] [--targets all] [--peers peft mergekit]
                               [--mergekit MK/bin/mergekit-yaml]

PEFT is the peer unless others are named; `--peers` alone leaves all out, which takes a minute. Each of them takes
minutes at 8 layers, and can be measured in a run of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from adapter_registry.checkpoints.base_folder import open_checkpoint, read_base
from adapter_registry.tensors.arrays import WeightFile
from benchmarks.shapes import llama_tensors, lora

SHAPE = {"hidden": 4096, "inner": 14336, "kv": 1024, "vocabulary": 32000}
SHARDS = 3
TARGETS = {
    "all": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "attention": ["q_proj", "k_proj", "v_proj", "o_proj"],
}
PROMISED = {"all": {"wall": 2.5, "cpu": 5.0}, "attention": {"wall": 1.5, "cpu": 5.0}}
FASTER, ANONYMOUS = 5.0, 0.7e9

OURS = """
import sys
from pathlib import Path
from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.tensors.merging.merge import Ingredient, Options, merge
base, adapter, out, cache, threads = sys.argv[1:]
record = read_base(Path(base), cache=Path(cache), progress=lambda _: None)
merge(record, Path(base), [Ingredient(Path(adapter))], Path(out), options=Options(workers=int(threads)))
"""
PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out, _, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
"""


@dataclass(frozen=True)
class Run:
    """One run: seconds, CPU seconds, most anonymous memory in bytes."""

    wall: float
    cpu: float
    anonymous: int


def make_base(folder: Path, *, layers: int) -> Path:
    """A sharded Llama of random bfloat16 that transformers loads."""
    shapes = llama_tensors(layers=layers, **SHAPE)
    groups: list[dict[str, list[int]]] = [{} for _ in range(SHARDS)]
    total, filled = sum(int(np.prod(shape)) for shape in shapes.values()), 0
    for name, shape in shapes.items():
        groups[min(SHARDS - 1, filled * SHARDS // total)][name] = shape
        filled += int(np.prod(shape))
    folder.mkdir()
    random, weight_map = np.random.default_rng(0), {}
    for number, group in enumerate(groups, 1):
        file = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        _write(folder / file, group, random)
        weight_map |= dict.fromkeys(group, file)
    index = {"metadata": {"total_size": 2 * total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_size": SHAPE["hidden"],
        "intermediate_size": SHAPE["inner"],
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": layers,
        "vocab_size": SHAPE["vocabulary"],
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _write(path: Path, group: dict[str, list[int]], random: np.random.Generator) -> None:
    header, offset = {}, 0
    for name, shape in group.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in group.values():
            values = random.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(0.02)
            file.write((values.view(np.uint32) >> np.uint32(16)).astype(np.uint16).tobytes())


def run(command: Sequence[str], threads: int) -> Run:
    """Run a command to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    most = _Watch(process.pid)
    most.start()
    output = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    most.join()
    if status != 0:
        raise SystemExit(f"{command[0]} failed:\n{output.decode(errors='replace')[-3000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, most.anonymous)


class _Watch(threading.Thread):
    """The most anonymous memory that a process has, looked at 50 times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status, self.anonymous = Path(f"/proc/{pid}/status"), 0

    def run(self) -> None:
        try:
            while True:
                lines = self._status.read_text().splitlines()
                found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")]
                if not found:
                    return
                self.anonymous = max(self.anonymous, *found)
                time.sleep(0.02)
        except OSError:
            return


def differing(left: Path, right: Path) -> tuple[int, int]:
    """How many weights of two checkpoints differ, of how many."""
    there = {entry.name: (path, header) for path, header in open_checkpoint(right).files for entry in header.tensors}
    other = total = 0
    for path, header in open_checkpoint(left).files:
        with WeightFile(path, header) as ours:
            for entry in header.tensors:
                with WeightFile(*there[entry.name]) as theirs:
                    a, b = ours.stored(entry.name), theirs.stored(entry.name)
                    other += int(np.count_nonzero(a != b))
                    total += a.size
                    del a, b
    return other, total


def measure(place: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """All sides in turn."""
    base = make_base(place / "base", layers=arguments.layers)
    shapes = llama_tensors(layers=arguments.layers, **SHAPE)
    adapter = lora(place / "adapter", shapes, rank=16, targets=TARGETS[arguments.targets])
    read_base(base, cache=place / "cache", progress=lambda _: None)
    common = [str(base), str(adapter), str(place / "out"), str(place / "cache"), str(arguments.threads)]
    sides: dict[str, list[str]] = {
        "cp": ["cp", "-r", str(base), str(place / "out")],
        "ours": [sys.executable, "-c", OURS, *common],
    }
    if "peft" in arguments.peers:
        sides["peft"] = [sys.executable, "-c", PEFT, *common]
    if "mergekit" in arguments.peers:
        recipe = place / "recipe.yml"
        model = f"{base}+{adapter}"
        recipe.write_text(
            json.dumps(
                {
                    "merge_method": "linear",
                    "dtype": "bfloat16",
                    "models": [{"model": model, "parameters": {"weight": 1.0}}],
                }
            )
        )
        cache = ["--lora-merge-cache", str(place / "mergekit-cache")]
        sides["mergekit"] = [arguments.mergekit, str(recipe), str(place / "out"), *cache, "--no-copy-tokenizer"]
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    differs: tuple[int, int] | None = None
    _warm(sides["ours"], place)
    for _ in range(arguments.repeat):
        for name, command in sides.items():
            runs[name].append(run(command, arguments.threads))
            shutil.rmtree(place / "mergekit-cache", ignore_errors=True)
            if name == "ours" and differs is None and "peft" in sides:
                (place / "out").rename(place / "kept")
            elif name == "peft" and differs is None:
                differs = differing(place / "kept", place / "out")
                shutil.rmtree(place / "kept")
            shutil.rmtree(place / "out", ignore_errors=True)
    return {"runs": {name: [asdict(each) for each in found] for name, found in runs.items()}, "differs": differs}


def _warm(command: list[str], place: Path) -> None:
    """Compile the kernel once; it is kept on disk."""
    run(command, 1)
    shutil.rmtree(place / "out")


def told(found: dict[str, object], arguments: argparse.Namespace) -> bool:
    """Print the figures; whether the promises hold."""
    runs: dict[str, list[dict[str, float]]] = found["runs"]  # type: ignore[assignment]
    good = True
    print(f"{arguments.layers} layers, {arguments.targets}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    for name, each in runs.items():
        wall, cpu = (statistics.median(one[key] for one in each) for key in ("wall", "cpu"))
        beside = {
            key: statistics.median(a[key] / b[key] for a, b in zip(each, runs["cp"], strict=True))
            for key in ("wall", "cpu")
        }
        memory = max(one["anonymous"] for one in each) / 1e9
        print(
            f"  {name:9} {wall:7.2f} s wall {cpu:7.2f} s CPU  {beside['wall']:6.2f}x {beside['cpu']:6.2f}x of cp  "
            f"{memory:.2f} GB anonymous"
        )
        if name == "ours":
            bound = PROMISED[arguments.targets]
            good &= beside["wall"] <= bound["wall"] and beside["cpu"] <= bound["cpu"] and memory * 1e9 <= ANONYMOUS
        if name in ("peft", "mergekit"):
            faster = statistics.median(a["wall"] / b["wall"] for a, b in zip(each, runs["ours"], strict=True))
            print(f"            {faster:.1f} times the wall of ours (promised {FASTER:g})")
            good &= faster >= FASTER
    if found["differs"]:
        other, total = found["differs"]  # type: ignore[misc]
        print(f"  {other} of {total:,} weights differ from PEFT's")
        good &= other == 0
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--targets", choices=TARGETS, default="all")
    parser.add_argument("--peers", nargs="*", choices=["peft", "mergekit"], default=["peft"], help="beside cp")
    parser.add_argument("--mergekit", default="mergekit-yaml", help="path of mergekit-yaml")
    parser.add_argument("--folder", default="/dev/shm" if Path("/dev/shm").is_dir() else None)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
        found = measure(Path(place), arguments)
    if arguments.json:
        print(json.dumps(found))
        return 0
    return 0 if told(found, arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
