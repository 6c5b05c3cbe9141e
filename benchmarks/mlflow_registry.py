"""The same registry operations by MLflow's model registry and by this one, each by its own Python client over HTTP.

Both servers run on this machine, on SQLite and a folder, with one process (`--workers 1`); operations take turns.
MLflow lives in an environment of its own, whose interpreter is given:

    python3 -m venv mlflow-env && mlflow-env/bin/pip install mlflow
    python -m benchmarks.mlflow_registry --mlflow-python mlflow-env/bin/python [--rounds 15] [--versions 1000]

Promises nothing. They do not do the same work:
- registering: MLflow stores the files under a run and a row that points there. Ours also hashes them at both ends,
  reads every tensor at both ends, checks them against the base, and stores equal bytes once.
- alias and tag: both are one write.
- resolving: MLflow gives the version's row; ours the whole version: files with digests, lock, scores, labels.
- listing: MLflow gives rows; ours whole versions.
- downloading: MLflow copies the files. Ours hashes every byte it wrote and compares the digests.
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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from benchmarks.servers import Served, adapters_serve, answering, free_port, load
from benchmarks.shapes import all_linear_lora, llama_base

LAYERS, HIDDEN, RANK = 8, 1024, 13
"""8 MB of weights."""
NAME, MANY, ALIAS = "bench/x", "bench/many", "live"
WEIGHTS = "adapter_model.safetensors"
HOW = (
    "not measured: no Python with MLflow was given. Make one beside this environment, `python3 -m venv mlflow-env && "
    "mlflow-env/bin/pip install mlflow`, and give --mlflow-python mlflow-env/bin/python."
)


class Ours:
    """The operations, by our client; each gives (seconds, what it gave)."""

    def __init__(self, server: Served, work: Path) -> None:
        self._work, self._turn = work, 0
        self._where = {"ADAPTERS_HOME": str(work / "c"), "ADAPTERS_URL": server.url, "ADAPTERS_TOKEN": server.token}

    def registry(self) -> Registry:
        """A client that has cached nothing."""
        self._turn += 1
        return Registry(read_settings({**self._where, "ADAPTERS_CACHE": str(self._work / f"cache-{self._turn}")}))

    def add_base(self, name: str, folder: Path) -> None:
        self.registry().add_base(name, folder)

    def register(self, name: str, folder: str, base: str = "b") -> tuple[float, str]:
        registry = self.registry()
        took, pushed = timed(lambda: registry.push(folder, base=base, name=name))
        return took, f"v{pushed.version.number}"

    def alias(self, name: str, alias: str, version: str) -> tuple[float, Any]:
        registry = self.registry()
        return timed(lambda: registry.tag(f"{name}@{version}", alias))

    def resolve(self, name: str, alias: str) -> tuple[float, str]:
        registry = self.registry()
        took, version = timed(lambda: registry.resolve(f"{name}@{alias}"))
        return took, f"v{version.number}"

    def list(self, name: str) -> tuple[float, int]:
        registry = self.registry()
        took, versions = timed(lambda: registry.versions(name))
        return took, len(versions)

    def download(self, name: str, alias: str, out: str) -> tuple[float, list[str]]:
        shutil.rmtree(out, ignore_errors=True)
        registry = self.registry()
        took, _ = timed(lambda: registry.pull(f"{name}@{alias}", out))
        return took, sorted(path.name for path in Path(out).iterdir())


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    given = work()
    return time.perf_counter() - started, given


class Theirs:
    """The operations, by MLflow's client in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __getattr__(self, operation: str) -> Callable[..., tuple[float, Any]]:
        return lambda *arguments: self._asked([operation, *arguments])

    def _asked(self, request: list[Any]) -> tuple[float, Any]:
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"MLflow's client ended at {request}; what it said is above.")
        seconds, given = json.loads(line)
        return seconds, given


@contextmanager
def mlflow(python: str, work: Path) -> Iterator[Theirs]:
    """MLflow's server on SQLite and a folder, and its client."""
    work.mkdir()
    port = free_port()
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{work}/mlflow.db", "--artifacts-destination", str(work / "files")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    environment.pop("PYTHONPATH", None)
    url = f"http://127.0.0.1:{port}"
    client = [python, str(Path(__file__).with_name("mlflow_side.py")), url]
    with (
        answering(command, f"{url}/health", log=work / "server.log", env=environment),
        (work / "client.log").open("w") as said,
        subprocess.Popen(
            client, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment, cwd=work
        ) as process,
    ):
        try:
            yield Theirs(process)
        finally:
            process.stdin.close()
            process.wait(20)
            if process.returncode:
                print((work / "client.log").read_text()[-2000:], file=sys.stderr)


def refresh(folder: Path) -> None:
    """Other numbers in the same shapes."""
    chance = np.random.default_rng()
    shapes = {name: tensor.shape for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file({n: chance.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}, folder / WEIGHTS)


def fill(ours: Ours, theirs: Theirs, work: Path, versions: int) -> None:
    """As many versions in each: ours of small adapters with bytes of their own, MLflow's of the same files."""
    ours.add_base("small", llama_base(work / "small", layers=1, hidden=16))
    folder = all_linear_lora(work / "small-lora", layers=1, hidden=16, rank=1)
    for _ in range(versions):
        refresh(folder)
        ours.register(MANY, str(folder), base="small")
    theirs.name(MANY.replace("/", "-"))
    theirs.fill(MANY.replace("/", "-"), versions)


def compare(ours: Ours, theirs: Theirs, work: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each operation, (ours, MLflow's), in rounds that take turns."""
    folder = all_linear_lora(work / "lora", layers=LAYERS, hidden=HIDDEN, rank=RANK)
    ours.add_base("b", llama_base(work / "base", layers=LAYERS, hidden=HIDDEN))
    peer_name = NAME.replace("/", "-")
    theirs.name(peer_name)
    sides = ((ours, NAME, MANY), (theirs, peer_name, MANY.replace("/", "-")))
    seconds: dict[str, list[tuple[float, float]]] = {}
    for i in range(rounds + 1):
        refresh(folder)
        turn: dict[str, dict[int, float]] = {}

        def note(side: int, operation: str, taken: tuple[float, Any], turn: dict[str, Any] = turn) -> Any:
            turn.setdefault(operation, {})[side] = taken[0]
            return taken[1]

        # Who begins alternates.
        for side in (0, 1) if i % 2 else (1, 0):
            product, name, many = sides[side]
            version = note(side, "register 8 MB", product.register(name, str(folder)))
            note(side, "set an alias", product.alias(name, ALIAS, version))
            assert note(side, "resolve the alias", product.resolve(name, ALIAS)) == version
            files = note(side, "download the files", product.download(name, ALIAS, str(work / f"out-{side}")))
            assert WEIGHTS in files, files
            note(side, "list many versions", product.list(many))
        # The first round pays for imports and first connections.
        if i:
            for operation, taken in turn.items():
                seconds.setdefault(operation, []).append((taken[0], taken[1]))
    return seconds


def told(taken: list[float]) -> str:
    return f"{statistics.median(taken) * 1e3:8.1f} /{max(taken) * 1e3:8.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow-python", default=os.environ.get("MLFLOW_PYTHON", ""))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--versions", type=int, default=1000)
    options = parser.parse_args()
    python = shutil.which(options.mlflow_python) if options.mlflow_python else None
    if python is None:
        sys.exit(HOW)
    said = subprocess.run(
        [python, "-m", "mlflow", "--version"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    if said.returncode:
        sys.exit(f"{HOW} {python}: {said.stderr.strip().splitlines()[-1]}")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        work = Path(folder).resolve()
        with adapters_serve(work, None, "--workers", "1") as server, mlflow(python, work / "mlflow") as theirs:
            ours = Ours(server, work)
            fill(ours, theirs, work, options.versions)
            print(f"MLflow {said.stdout.strip()}; {options.versions} versions, {options.rounds} rounds, {load()}")
            seconds = compare(ours, theirs, work, options.rounds)
    print(f"{'milliseconds, median / longest':<32}{'ours':>18}{'MLflow':>20}   median of ours / MLflow")
    for operation, pairs in seconds.items():
        mine, peer = [a for a, _ in pairs], [b for _, b in pairs]
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{operation:<32}{told(mine):>18}{told(peer):>20}   {ratio:.2f}x")


if __name__ == "__main__":
    main()
