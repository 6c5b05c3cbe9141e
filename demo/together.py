"""Run several workers at once, one process each, and show what they report as one line.

A worker prints one JSON object a line: `{"done": 3, "of": 40, "note": "loss 2.91"}`.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from demo.console import Progress
from demo.places import DemoError, root, threads


@dataclass(slots=True)
class _Worker:
    """A process and what it last reported."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    done: int = 0
    of: int = 0
    note: str = "loading the model"
    steps: list[tuple[float, int]] = field(default_factory=list)

    def seconds_left(self) -> float | None:
        """By the pace since its first report; None before there is one."""
        if len(self.steps) < 2 or self.steps[-1][1] == self.steps[0][1]:
            return None
        (since, first), (until, last) = self.steps[0], self.steps[-1]
        return max(0.0, (until - since) / (last - first) * (self.of - last) - (time.monotonic() - until))

    def __str__(self) -> str:
        return f"{self.name} {self.done}/{self.of} {self.note}" if self.of else f"{self.name}: {self.note}"


def run(module: str, workers: Mapping[str, Sequence[str]], *, doing: str) -> None:
    """Run `python -m module ARGUMENTS` for each of `workers` at the same time.

    Args:
        module: prints reports, see above.
        workers: name -> arguments.
        doing: for the line of progress.

    Raises:
        DemoError: one failed; the others were stopped.
    """
    started = time.monotonic()
    reports: queue.Queue[tuple[str, str | None]] = queue.Queue()
    running = {name: _start(module, name, words, reports, of=len(workers)) for name, words in workers.items()}
    progress = Progress()
    try:
        _follow(running, reports, lambda: progress.show(_line(doing, running)))
    finally:
        for worker in running.values():
            worker.process.terminate()
            worker.process.wait()
    progress.done(f"{doing}: done in {time.monotonic() - started:.0f} s ({', '.join(map(str, running.values()))})")


def report(done: int, of: int, note: str) -> None:
    """What a worker says of itself."""
    print(json.dumps({"done": done, "of": of, "note": note}), flush=True)


def _start(
    module: str, name: str, words: Sequence[str], reports: queue.Queue[tuple[str, str | None]], *, of: int
) -> _Worker:
    log = root() / "logs" / f"{module}-{name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words], stdout=subprocess.PIPE, stderr=errors, text=True, env=quiet(of)
        )
    assert process.stdout is not None
    threading.Thread(target=_read, args=(name, process.stdout, reports), daemon=True).start()
    return _Worker(name, process, log)


def quiet(workers: int = 1) -> dict[str, str]:
    """The environment for a process that computes: no network, no bars, its share of the cores."""
    share = str(threads(workers=workers))
    given = {"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    return {**os.environ, **given, "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


def _read(name: str, stream: IO[str], reports: queue.Queue[tuple[str, str | None]]) -> None:
    for line in stream:
        reports.put((name, line))
    reports.put((name, None))


def _follow(
    running: dict[str, _Worker], reports: queue.Queue[tuple[str, str | None]], show: Callable[[], None]
) -> None:
    unfinished = set(running)
    while unfinished:
        try:
            name, line = reports.get(timeout=1.0)
        except queue.Empty:
            line = ""
        if line is None:
            unfinished.discard(name)
            _require_success(running[name])
        elif line.startswith("{"):
            _take(running[name], line)
        show()


def _take(worker: _Worker, line: str) -> None:
    told = json.loads(line)
    worker.done, worker.of, worker.note = told["done"], told["of"], told["note"]
    worker.steps.append((time.monotonic(), worker.done))


def _require_success(worker: _Worker) -> None:
    if worker.process.wait():
        last = "\n".join(worker.log.read_text().splitlines()[-15:])
        raise DemoError(f"{worker.name} stopped with exit code {worker.process.returncode}; {worker.log} ends:\n{last}")


def _line(doing: str, running: Mapping[str, _Worker]) -> str:
    left = [worker.seconds_left() for worker in running.values()]
    known = [seconds for seconds in left if seconds is not None]
    eta = f", {max(known):.0f} s left" if known and len(known) == len(left) else ""
    return f"{doing}: {' · '.join(map(str, running.values()))}{eta}"
