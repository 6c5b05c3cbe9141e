"""How fast the spot check tells a different base checkpoint of the same shape, against reading it all.

Makes a checkpoint with the tensors of a 7B model (291 tensors, 13.5 GB; sparse files, of which the read slices are
filled by the file system with zeros) and one of 20,000 small tensors, registers their slices and checks them again on
a warm disk. A sparse file costs the same system calls and page-cache look-ups as a full one. The peer is the plain
SHA-256 of the same bytes, extrapolated from 1 GB.

    python -m benchmarks.spot_check [--repeat 5] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from adapter_registry.checkpoints.base_folder import Opened, open_checkpoint
from adapter_registry.checkpoints.spot import make_spot, spot_differences

PROMISED_SECONDS = 1.0
SHARD_BYTES = 5_000_000_000
SAMPLE = 1_000_000_000

Table = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Report:
    """Seconds, medians.

    Attributes:
        name: which checkpoint.
        tensors: in its table.
        bytes: of its weight files.
        register: of drawing the slices.
        check: of opening the checkpoint (headers) and comparing the slices.
        plain_sha256: what reading everything would take at the measured speed of one thread.
        told_apart: whether a checkpoint with other bytes in every tensor was recognised as different.
    """

    name: str
    tensors: int
    bytes: int
    register: float
    check: float
    plain_sha256: float
    told_apart: bool


def seven_billion() -> Table:
    """Names and shapes of a Llama of 7 billion parameters."""
    width, inner, rows = 4096, 11008, 32000
    layer: Table = [(f"self_attn.{name}_proj.weight", (width, width)) for name in "qkvo"]
    layer += [("mlp.gate_proj.weight", (inner, width)), ("mlp.up_proj.weight", (inner, width))]
    layer += [("mlp.down_proj.weight", (width, inner)), ("input_layernorm.weight", (width,))]
    layer += [("post_attention_layernorm.weight", (width,))]
    table = [(f"model.layers.{i}.{name}", shape) for i in range(32) for name, shape in layer]
    ends: Table = [("model.embed_tokens.weight", (rows, width)), ("lm_head.weight", (rows, width))]
    return [*table, *ends, ("model.norm.weight", (width,))]


def many_experts() -> Table:
    return [(f"layers.{i // 500}.experts.{i % 500}.weight", (64, 128)) for i in range(20_000)]


def make(folder: Path, table: Table) -> Path:
    """A sharded bfloat16 checkpoint of sparse files."""
    folder.mkdir()
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(_shards(table)):
        file = f"model-{number + 1:05}.safetensors"
        entries, end = {}, 0
        for name, shape in shard:
            begin, end = end, end + 2 * _count(shape)
            entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
            weight_map[name] = file
        header = json.dumps(entries).encode()
        with (folder / file).open("wb") as stream:
            stream.write(len(header).to_bytes(8, "little") + header)
            stream.truncate(8 + len(header) + end)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def _shards(table: Table) -> Iterator[Table]:
    shard: Table = []
    for row in table:
        shard.append(row)
        if sum(2 * _count(shape) for _, shape in shard) > SHARD_BYTES:
            yield shard
            shard = []
    yield shard


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def overwrite(opened: Opened) -> None:
    """Other bytes at 64 places of every tensor, as many as keep the files sparse."""
    for path, header in opened.files:
        with path.open("r+b") as stream:
            for entry in header.tensors:
                step = max(1, (entry.end - entry.start) // 64)
                for at in range(entry.start, entry.end, step):
                    stream.seek(at)
                    stream.write(b"\x3f" * min(step, 65_536, entry.end - at))


def plain_speed() -> float:
    block, hasher = secrets.token_bytes(1 << 20), hashlib.sha256()
    started = time.perf_counter()
    for _ in range(SAMPLE >> 20):
        hasher.update(block)
    return SAMPLE / (time.perf_counter() - started)


def measure(folder: Path, name: str, table: Table, *, repeat: int, speed: float) -> Report:
    opened = open_checkpoint(make(folder / name, table))
    registered, checked = [], []
    for _ in range(repeat):
        started = time.perf_counter()
        spot = make_spot(opened.files, key=secrets.token_hex(16))
        registered.append(time.perf_counter() - started)
        started = time.perf_counter()
        again = open_checkpoint(folder / name)
        differences = spot_differences(again.files, spot)
        checked.append(time.perf_counter() - started)
        if differences:
            raise SystemExit(f"the same checkpoint looked different in {len(differences)} tensors")
    overwrite(opened)
    size = sum(header.size for _, header in opened.files)
    told_apart = len(spot_differences(opened.files, spot)) > len(table) // 10
    medians = statistics.median(registered), statistics.median(checked)
    return Report(name, len(table), size, *medians, plain_sha256=size / speed, told_apart=told_apart)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spot-check-"))
    try:
        speed = plain_speed()
        tables = (("7b", seven_billion()), ("20k-tensors", many_experts()))
        reports = [measure(folder, name, table, repeat=options.repeat, speed=speed) for name, table in tables]
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps([asdict(report) for report in reports] + [{"promised_seconds": PROMISED_SECONDS}], indent=2))
        return 0
    for each in reports:
        print(
            f"{each.name}: {each.tensors:,} tensors, {each.bytes / 1e9:.1f} GB: slices drawn in {each.register:.3f} s, "
            f"headers and slices checked in {each.check:.3f} s (promised: under {PROMISED_SECONDS:g} s); plain SHA-256 "
            f"of it all takes {each.plain_sha256:.1f} s; other bytes {'seen' if each.told_apart else 'NOT SEEN'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
