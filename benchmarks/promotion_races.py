"""Eight promoters at a time: one winner for each round, and what is promoted is what was approved.

Promised: in 1,000 rounds exactly one winner each, no move without an approval of exactly what moved, no gap in the
sequence. ADAPTERS_DATABASE_URL races on that database (it must be empty) instead of SQLite.

    python -m benchmarks.promotion_races [ROUNDS]

In each round every promoter asks for a version, so that one request stays open of eight; then everybody approves it at
once. In every third round they approve what they looked at before, and one of them changes the version's evidence
meanwhile: then nobody may win, or whose approval came before the change.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from threading import Barrier
from typing import TypeVar

from adapter_registry import app
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, Forbidden, StoreBusy
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Approvals, Process
from adapter_registry.domain.promotions.request import Request, State
from adapter_registry.settings import read_settings
from benchmarks.shapes import attention_lora, llama_base

T = TypeVar("T")
PROMOTERS, VERSIONS = 8, 3
CHANGING = 3
"""In every how many rounds somebody changes the evidence."""
TOLD = 50
"""After every how many rounds it says how far it is."""
POLICY = Policy("prod", process=Process(approvals=Approvals(1)))


@dataclass(frozen=True, slots=True)
class Raced:
    """What came of a race.

    Attributes:
        rounds: how many.
        moves: of the stage, in all rounds.
        not_one: rounds without exactly one winner, though nobody changed anything.
        several: rounds with more than one.
        bare: moves without an approval of exactly what moved.
        gaps: whether the sequence of moves has any.
        undone: rounds in which a change kept everybody from winning.
    """

    rounds: int
    moves: int
    not_one: int
    several: int
    bare: int
    gaps: bool
    undone: int


def registry(home: str, actor: str) -> Registry:
    """The registry in `home`, used by `actor`, with connections that are kept."""
    given = {"ADAPTERS_HOME": home, "ADAPTERS_CACHE": f"{home}/cache", "ADAPTERS_ACTOR": actor}
    if url := os.environ.get("ADAPTERS_DATABASE_URL"):
        given["ADAPTERS_DATABASE_URL"] = url
    settings = read_settings(given)
    return Registry(settings, app.served(settings))


def part(opened: Callable[[int], Registry], me: int, rounds: int, barrier: Barrier, won: Queue[int]) -> None:
    """One promoter's part; the rounds that they won go into `won`. Who fails lets nobody wait for them."""
    try:
        _raced(opened(me), me, rounds, barrier, won)
    except BaseException:
        barrier.abort()
        raise


def patiently(ask: Callable[[], T]) -> T:
    """What is answered, asked again as long as others hold the store for too long: nothing was changed then."""
    while True:
        with suppress(StoreBusy):
            return ask()


def _raced(mine: Registry, me: int, rounds: int, barrier: Barrier, won: Queue[int]) -> None:
    began = time.monotonic()
    for each in range(rounds):
        barrier.wait()
        wanted = f"default/a@v{(me + each) % VERSIONS + 1}"
        patiently(lambda wanted=wanted: mine.attempt(wanted, "prod"))
        barrier.wait()
        [asked] = mine.requests("default/a")
        changing = each % CHANGING == 0
        seen = mine.explain(asked.reference, "prod").seen if changing else None
        barrier.wait()
        if changing and me == each % PROMOTERS:
            note = {"round": str(each)}
            patiently(lambda asked=asked, note=note: mine.label(asked.reference, note))
        with suppress(Conflict, Forbidden):
            if patiently(lambda asked=asked, seen=seen: mine.approve(asked, seen=seen)).promotion is not None:
                won.put(each)
        barrier.wait()
        if me == 0:
            for left in mine.requests("default/a"):
                patiently(lambda left=left: mine.cancel(left))
            if (each + 1) % TOLD == 0:
                print(f"{each + 1:,} rounds, {time.monotonic() - began:,.0f} s", file=sys.stderr, flush=True)


def race(opened: Callable[[int], Registry], rounds: int) -> Raced:
    """Race on one registry, which each promoter opens in a process of its own.

    Args:
        opened: opens it, as promoter 0 to 7; v1 to v3 of `default/a` are there, and POLICY is prod's.
        rounds: how many.
    """
    context = multiprocessing.get_context("fork")
    barrier, won = context.Barrier(PROMOTERS), context.Queue()
    racers = [context.Process(target=part, args=(opened, me, rounds, barrier, won)) for me in range(PROMOTERS)]
    for racer in racers:
        racer.start()
    winners: Counter[int] = Counter()
    while any(racer.is_alive() for racer in racers) or not won.empty():
        with suppress(Exception):
            winners[won.get(timeout=0.1)] += 1
    for racer in racers:
        racer.join()
    if failed := [racer.exitcode for racer in racers if racer.exitcode]:
        raise SystemExit(f"{len(failed)} promoters failed: {failed}")
    return _held(opened(0), rounds, winners)


def _held(registry: Registry, rounds: int, winners: Counter[int]) -> Raced:
    """Every round held against its winners, every move against the approvals that it had."""
    moves = registry.history("default/a", "prod").moves
    applied = [each for each in _all(registry) if each.state is State.APPLIED]
    approved = {
        (a.binding.version, a.binding.policy, a.binding.evidence, a.binding.generation)
        for request in applied
        for a in request.approvals
    }
    bare = [m for m in moves if (m.version, m.policy, m.decision, m.sequence - 1) not in approved]
    quiet = [each for each in range(rounds) if each % CHANGING]
    return Raced(
        rounds,
        len(moves),
        not_one=sum(winners[each] != 1 for each in quiet) + abs(len(moves) - sum(winners.values())),
        several=sum(count > 1 for count in winners.values()),
        bare=len(bare),
        gaps=[move.sequence for move in moves] != list(range(len(moves), 0, -1)),
        undone=sum(not winners[each] for each in range(rounds) if each % CHANGING == 0),
    )


def _all(registry: Registry) -> list[Request]:
    """Every request that was applied: the log has them all, a listing the newest."""
    events = registry.events("default/a")
    return [registry.request(e.entry.detail["request"]) for e in events if e.entry.action == "request.applied"]


def main() -> None:
    """Race, and print what came of it; exit code 1 when a promise was broken."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    with tempfile.TemporaryDirectory() as home:
        first = registry(home, "author")
        first.add_base("base", llama_base(Path(home) / "base", layers=1, hidden=64))
        for rank in range(1, VERSIONS + 1):
            folder = attention_lora(Path(home) / f"lora-{rank}", layers=1, hidden=64, rank=rank)
            first.push(folder, base="base", name="a")
        first.set_policy("prod", POLICY)
        began = time.monotonic()
        found = race(lambda me: registry(home, f"promoter-{me}"), rounds)
        seconds = time.monotonic() - began
    print(f"{rounds:,} rounds of {PROMOTERS} promoters in {seconds:.0f} s: {found.moves:,} moves")
    print(f"rounds without exactly one winner: {found.not_one}; with several: {found.several}")
    print(f"moves without an approval of exactly that: {found.bare}; gaps in the sequence: {found.gaps}")
    print(f"rounds that a change of evidence left without a winner: {found.undone}")
    sys.exit(bool(found.not_one or found.several or found.bare or found.gaps))


if __name__ == "__main__":
    main()
