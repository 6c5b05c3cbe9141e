"""`adapters check` of an all-linear rank-16 adapter against a 7B-shaped base, against PEFT reading its config and file.

Promised: within 1.5 s, Python's start included. The peer does less: PEFT's `load_peft_weights` reads the tensors and
`PeftConfig.from_pretrained` the config, and neither checks a value, a shape or a base. Interleaved whole processes.
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
from pathlib import Path

from adapter_registry.checkpoints.base_folder import open_checkpoint
from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from benchmarks.shapes import all_linear_lora, llama_base

PEFT = """
import sys
from peft import PeftConfig
from peft.utils import load_peft_weights
PeftConfig.from_pretrained(sys.argv[1])
load_peft_weights(sys.argv[1], device="cpu")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = {"ADAPTERS_HOME": str(folder / "home"), "ADAPTERS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
        registry = Registry(read_settings(given))
        base = llama_base(folder / "base")
        tensors = len(open_checkpoint(base).files[0][1].tensors)
        print(
            f"registering a 7B-shaped base of {tensors} tensors (a sparse file; every byte is hashed) ...",
            file=sys.stderr,
        )
        registry.add_base("seven", base)
        adapter = all_linear_lora(folder / "lora", layers=32, hidden=4096, rank=16)
        size = (adapter / "adapter_model.safetensors").stat().st_size
        commands = {
            "adapters check": [
                str(Path(sys.executable).with_name("adapters")),
                "check",
                str(adapter),
                "--base",
                "seven",
            ],
            "PEFT reads it": [sys.executable, "-c", PEFT, str(adapter)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, env={**os.environ, **given}, check=True, stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - started)
    told = {name: statistics.median(each) for name, each in seconds.items()}
    if options.json:
        print(json.dumps(told))
        return
    print(f"adapter: 448 tensors, {size / 1e6:.0f} MB float32; base: {tensors} tensors")
    for name, value in told.items():
        print(f"{name:<16} {value * 1000:7.0f} ms  (median of {options.rounds})")
    print("promised: adapters check within 1500 ms")
    print(f"ratio to PEFT {told['adapters check'] / told['PEFT reads it']:6.2f}")


if __name__ == "__main__":
    main()
