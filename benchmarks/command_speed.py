"""How long the command line takes to answer: `--help` against `import click`, `ls` and `show` on a filled store.

Promised: `--help` at most 1.5 times a bare `python -c "import click"`; `ls` and `show` within 1.3 s on the embedded
store and 0.4 s against a server.
Interleaved; medians of whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from benchmarks.shapes import attention_lora, llama_base

VERSIONS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home)
        seconds = measure(home, options.rounds)
    told = {name: statistics.median(each) for name, each in seconds.items()}
    result = {**told, "help_ratio": told["adapters --help"] / told["import click"]}
    if options.json:
        print(json.dumps(result))
        return
    for name, value in told.items():
        print(f"{name:<28} {value * 1000:7.0f} ms  (median of {options.rounds})")
    print(f"--help against import click  {result['help_ratio']:7.2f} x   promised: at most 1.5")
    print("ls and show                          promised: within 1300 ms, 400 ms against a server")


def fill(home: Path) -> None:
    given = {"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}
    registry = Registry(read_settings(given))
    registry.add_base("tiny", llama_base(home / "base", layers=2, hidden=64))
    source = attention_lora(home / "lora", layers=2, hidden=64, rank=4)
    weights = source / "adapter_model.safetensors"
    for i in range(VERSIONS):
        tensors = {name: tensor + np.float32(i + 1) for name, tensor in load_file(weights).items()}
        save_file(tensors, weights)
        registry.push(source, base="tiny", name=f"adapter-{i % 10}")


def measure(home: Path, rounds: int) -> dict[str, list[float]]:
    local = {**os.environ, "ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}
    program = str(Path(sys.executable).with_name("adapters"))
    server = subprocess.Popen([program, "serve", "--port", "0"], env=local, stdout=subprocess.PIPE, text=True)
    try:
        told = f"{server.stdout.readline()}{server.stdout.readline()}" if server.stdout else ""
        remote = local | dict(re.findall(r"(ADAPTERS_URL|ADAPTERS_TOKEN)=(\S+)", told))
        return timed(program, home, rounds, local=local, remote=remote)
    finally:
        server.terminate()
        server.wait()


def timed(
    program: str, home: Path, rounds: int, *, local: dict[str, str], remote: dict[str, str]
) -> dict[str, list[float]]:
    commands = {
        "import click": [sys.executable, "-c", "import click"],
        "adapters --help": [program, "--help"],
        "adapters ls": [program, "ls"],
        "adapters show adapter-1@v2": [program, "show", "adapter-1@v2"],
        "ls against a server": [program, "ls"],
        "show against a server": [program, "show", "adapter-1@v2"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            started = time.perf_counter()
            environment = remote if "server" in name else local
            subprocess.run(command, env=environment, cwd=home, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
