"""Eight promoters at a time: one winner for each move, and what is promoted is what was approved.

Promised: in 1,000 rounds no move without an approval of exactly what moved, and no gap in the sequence.
ADAPTERS_DATABASE_URL races on that database (it must be empty) instead of SQLite.

    python -m benchmarks.promotion_races [ROUNDS]

Each round every promoter asks for a version, approves whatever waits, and one changes a label in between.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Barrier

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, Forbidden
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.process import Approvals, Process
from adapter_registry.domain.request import State
from adapter_registry.settings import read_settings
from benchmarks.shapes import attention_lora, llama_base

PROMOTERS, VERSIONS = 8, 4


def registry(home: str, actor: str) -> Registry:
    """The registry in `home`, used by `actor`."""
    given = {"ADAPTERS_HOME": home, "ADAPTERS_CACHE": f"{home}/cache", "ADAPTERS_ACTOR": actor}
    if url := os.environ.get("ADAPTERS_DATABASE_URL"):
        given["ADAPTERS_DATABASE_URL"] = url
    return Registry(read_settings(given))


def race(home: str, me: int, rounds: int, barrier: Barrier) -> None:
    """One promoter's part."""
    mine = registry(home, f"promoter-{me}")
    for each in range(rounds):
        version = f"default/a@v{(me + each) % VERSIONS + 1}"
        barrier.wait()
        mine.attempt(version, "prod")
        if me == 0:
            mine.label(version, {"round": str(each)})
        for request in mine.requests("default/a"):
            with suppress(Conflict, Forbidden):
                mine.approve(request)


def main() -> None:
    """Race, then hold every move against the approvals that it had."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    with tempfile.TemporaryDirectory() as home:
        first = registry(home, "author")
        first.add_base("base", llama_base(Path(home) / "base", layers=1, hidden=64))
        for rank in range(1, VERSIONS + 1):
            folder = attention_lora(Path(home) / f"lora-{rank}", layers=1, hidden=64, rank=rank)
            first.push(folder, base="base", name="a")
        first.set_policy("prod", Policy("prod", process=Process(approvals=Approvals(1))))
        context = multiprocessing.get_context("fork")
        barrier = context.Barrier(PROMOTERS)
        racers = [context.Process(target=race, args=(home, me, rounds, barrier)) for me in range(PROMOTERS)]
        began = time.monotonic()
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        report(first, rounds, time.monotonic() - began)
        sys.exit(any(racer.exitcode for racer in racers))


def report(first: Registry, rounds: int, seconds: float) -> None:
    """Print what moved and whether approvals stand behind it."""
    moves = first.history("default/a", "prod").moves
    gaps = [move.sequence for move in moves] != list(range(len(moves), 0, -1))
    approved = {
        (a.binding.version, a.binding.policy, a.binding.evidence, a.binding.generation)
        for event in first.events("default/a")
        if (name := event.entry.detail.get("request")) and event.entry.action == "request.applied"
        for a in first.request(name).approvals
        if event.entry.detail["state"] == State.APPLIED
    }
    bare = [m for m in moves if (m.version, m.policy, m.decision, m.sequence - 1) not in approved]
    print(f"{rounds:,} rounds of {PROMOTERS} promoters in {seconds:.0f} s: {len(moves):,} moves")
    print(f"moves without an approval of exactly that: {len(bare)}; gaps in the sequence: {'yes' if gaps else 'none'}")


if __name__ == "__main__":
    main()
