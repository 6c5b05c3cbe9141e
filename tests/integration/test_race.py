"""Many at once: exactly one winner per sequence number, one copy of equal bytes, no lost update."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from adapter_registry import app
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.settings import read_settings
from adapter_registry.storage import database
from tests.integration.test_kill import variant, verify

PROMOTERS, ROUNDS, PUSHERS = 8, 6, 8


@dataclass(frozen=True)
class Store:
    """Where a registry is: a folder, and a database beside it when `url` is given."""

    home: Path
    url: str | None

    def registry(self, actor: str = "me") -> Registry:
        given = {"ADAPTERS_HOME": str(self.home), "ADAPTERS_CACHE": str(self.home / "cache"), "ADAPTERS_ACTOR": actor}
        return Registry(read_settings({**given, **({"ADAPTERS_DATABASE_URL": self.url} if self.url else {})}))

    def verify(self) -> None:
        if self.url is None:
            verify(self.home)
        report = self.registry().verify_store(read_data=True)
        assert report.damage == ()
        assert report.events > 0


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path, llama_folder, monkeypatch):
    # Nobody closes a Registry: a pool of it would leave its connections to the garbage collector.
    monkeypatch.setattr(app, "open_postgres", partial(database.open_postgres, pooled=False))
    made = Store(tmp_path / "home", None)
    made.home.mkdir()
    if request.param == "postgresql":
        like = request.getfixturevalue("migrated_database")
        made = replace(made, url=request.getfixturevalue("postgres_server").fresh_database(like=like))
    else:
        shutil.copy(request.getfixturevalue("migrated_file"), made.home)
    made.registry().add_base("llama", llama_folder)
    return made


def promoter(store: Store, me: int, barrier) -> None:
    mine = store.registry(f"promoter-{me}")
    for round_ in range(ROUNDS):
        barrier.wait()
        mine.promote(f"a@v{(me + round_) % PROMOTERS + 1}", "staging")


def pusher(store: Store, folder: Path, me: int, barrier, answers) -> None:
    mine = store.registry(f"pusher-{me}")
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


def test_eight_promoters_leave_one_winner_per_move_and_a_history_without_gaps(store, lora_folder, tmp_path):
    first = store.registry()
    for i in range(PROMOTERS):
        first.push(variant(lora_folder, tmp_path / f"v{i}", i), base="llama", name="a")
        first.add_scores(f"a@v{i + 1}", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    barrier = multiprocessing.get_context("fork").Barrier(PROMOTERS)
    run(promoter, PROMOTERS, store, lambda count: [(me, barrier) for me in range(count)])
    moves = store.registry().history("a", "staging").moves
    assert [move.sequence for move in moves] == list(range(len(moves), 0, -1))
    for later, earlier in pairwise(moves):
        assert later.previous == earlier.number
    assert store.registry().resolve("a@staging").number == moves[0].number
    digests = {version.number: version.digest for version in store.registry().versions("a")}
    assert all(move.version == digests[move.number] for move in moves)
    store.verify()


def test_the_same_bytes_pushed_by_many_at_once_are_one_version(store, lora_folder):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(PUSHERS), context.Queue()
    run(pusher, PUSHERS, store, lambda count: [(lora_folder, me, barrier, answers) for me in range(count)])
    found = [answers.get(timeout=10) for _ in range(PUSHERS)]
    assert sorted(found) == [(1, False)] * (PUSHERS - 1) + [(1, True)]
    store.verify()


def test_different_bytes_pushed_by_many_at_once_are_as_many_versions(store, lora_folder, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(PUSHERS), context.Queue()
    folders = [variant(lora_folder, tmp_path / f"v{i}", i) for i in range(PUSHERS)]
    run(pusher, PUSHERS, store, lambda count: [(folders[me], me, barrier, answers) for me in range(count)])
    found = [answers.get(timeout=10) for _ in range(PUSHERS)]
    assert sorted(found) == [(number, True) for number in range(1, PUSHERS + 1)]
    store.verify()
