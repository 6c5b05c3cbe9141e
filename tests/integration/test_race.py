"""Many at once: exactly one winner per sequence number, one copy of equal bytes, no lost update."""

from __future__ import annotations

import multiprocessing
from itertools import pairwise
from pathlib import Path

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict
from adapter_registry.domain.score import Direction, Score
from adapter_registry.settings import read_settings
from tests.integration.test_kill import connect, variant, verify

PROMOTERS, ROUNDS, PUSHERS = 8, 6, 8


@pytest.fixture
def home(tmp_path, llama_folder):
    connect(tmp_path / "home").add_base("llama", llama_folder)
    return tmp_path / "home"


def registry(home: Path, actor: str) -> Registry:
    given = {"ADAPTERS_HOME": str(home), "ADAPTERS_CACHE": str(home / "cache"), "ADAPTERS_ACTOR": actor}
    return Registry(read_settings(given))


def promoter(home: Path, me: int, barrier) -> None:
    mine = registry(home, f"promoter-{me}")
    for round_ in range(ROUNDS):
        barrier.wait()
        mine.promote(f"a@v{(me + round_) % PROMOTERS + 1}", "staging")


def pusher(home: Path, folder: Path, me: int, barrier, answers) -> None:
    mine = registry(home, f"pusher-{me}")
    barrier.wait()
    try:
        pushed = mine.push(folder, base="llama", name="same")
    except Conflict as conflict:
        answers.put(str(conflict))
    else:
        answers.put((pushed.version.number, pushed.created))


def run(target, count: int, *arguments) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=target, args=(arguments[0], *given))
        for given in arguments[1](count)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def test_eight_promoters_leave_one_winner_per_move_and_a_history_without_gaps(home, lora_folder, tmp_path):
    first = connect(home)
    for i in range(PROMOTERS):
        first.push(variant(lora_folder, tmp_path / f"v{i}", i), base="llama", name="a")
        first.add_scores(f"a@v{i + 1}", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    barrier = multiprocessing.get_context("fork").Barrier(PROMOTERS)
    run(promoter, PROMOTERS, home, lambda count: [(me, barrier) for me in range(count)])
    moves = connect(home).history("a", "staging").moves
    assert [move.sequence for move in moves] == list(range(len(moves), 0, -1))
    for later, earlier in pairwise(moves):
        assert later.previous == earlier.number
    assert connect(home).resolve("a@staging").number == moves[0].number
    digests = {version.number: version.digest for version in connect(home).versions("a")}
    assert all(move.version == digests[move.number] for move in moves)
    verify(home)


def test_the_same_bytes_pushed_by_many_at_once_are_one_version(home, lora_folder):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(PUSHERS), context.Queue()
    run(pusher, PUSHERS, home, lambda count: [(lora_folder, me, barrier, answers) for me in range(count)])
    found = [answers.get(timeout=10) for _ in range(PUSHERS)]
    assert sorted(found) == [(1, False)] * (PUSHERS - 1) + [(1, True)]
    verify(home)
