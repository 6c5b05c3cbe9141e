"""What the Catalog promises of jobs, their runs, logs and bytes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.job import Job, Progress, Run, State, begun, ended
from adapter_registry.domain.recipe import Ingredient, Recipe

AT, LATER = "2026-01-01T00:00:00.000000Z", "2026-02-01T00:00:00.000000Z"
DIGEST = of_bytes(b"made")


def job(id: str, queue: str = "cpu") -> Job:
    recipe = Recipe("compose", (Ingredient("team/a@" + of_bytes(b"a")),))
    return Job(id, recipe, State.QUEUED, queue, 0, "ann", AT)


@pytest.fixture
def filled(catalog):
    """Three jobs: the first has ended, the second runs, the third waits and was never sent."""
    with catalog.writing() as tx:
        tx.jobs.put(ended(job("a"), State.SUCCEEDED, at=AT, result={"digest": str(DIGEST)}), sent=True)
        tx.jobs.put(replace(job("b"), state=State.RUNNING), sent=True)
        tx.jobs.put(job("c", "gpu"))
    return catalog


def test_they_are_found_by_state_and_by_what_the_engine_knows(filled):
    with filled.reading() as tx:
        assert tx.jobs.get("c") == job("c", "gpu")
        assert tx.jobs.get("x") is None
        assert [each.id for each in tx.jobs.all()] == ["c", "b", "a"]
        assert [each.id for each in tx.jobs.all(before="c", limit=1)] == ["b"]
        assert [each.id for each in tx.jobs.all(state=State.SUCCEEDED)] == ["a"]
        assert [each.id for each in tx.jobs.open()] == ["b", "c"]
        assert [each.id for each in tx.jobs.unsent(("cpu", "gpu"))] == ["c"]
        assert tx.jobs.unsent(("cpu",)) == ()
        assert [each.id for each in tx.jobs.about((DIGEST,), limit=9)] == ["a"]


def test_a_change_leaves_what_the_engine_knows_as_it_is(filled):
    with filled.writing() as tx:
        tx.jobs.put(replace(job("b"), priority=3))
        tx.jobs.put(replace(job("c", "gpu"), priority=3))
        assert [each.id for each in tx.jobs.unsent(("cpu", "gpu"))] == ["c"]
        assert [each.id for each in tx.jobs.all()] == ["c", "b", "a"]


def test_a_job_that_runs_is_as_far_as_its_run(filled):
    run = begun(Run("b.1", progress=Progress(0.25)), "worker")
    with filled.writing() as tx:
        assert tx.jobs.run("b.1") is None
        tx.jobs.put_run(run)
        tx.jobs.put_run(replace(run, progress=Progress(0.5)))
        assert tx.jobs.run("b.1") == replace(run, progress=Progress(0.5))
        assert tx.jobs.get("b").progress.fraction == 0.5


def test_a_log_goes_on_where_it_was_left(filled):
    with filled.writing() as tx:
        tx.jobs.say("b", ("one", "tw\0o"), at=AT)
        tx.jobs.say("b", (), at=AT)
        tx.jobs.say("b", ("three",), at=LATER)
        assert [(line.number, line.text) for line in tx.jobs.log("b")] == [(1, "one"), (2, "two"), (3, "three")]
        assert [line.text for line in tx.jobs.log("b", after=1, limit=1)] == ["two"]
        assert tx.jobs.log("c") == ()


def test_what_ended_long_ago_is_forgotten_with_all_that_belongs_to_it(filled):
    with filled.writing() as tx:
        for each in ("a", "b"):
            tx.jobs.keep(each, (of_bytes(each.encode()), of_bytes(each.encode())))
            tx.jobs.say(each, ("line",), at=AT)
        kept = {each: of_bytes(each.encode()) for each in ("a", "b")}
        assert tx.jobs.kept(kept.values()) == frozenset(kept.values())
        assert tx.jobs.forget(before=LATER) == 1
        assert tx.jobs.kept(kept.values()) == {kept["b"]}
        assert (tx.jobs.get("a"), tx.jobs.log("a"), tx.jobs.about((DIGEST,), limit=9)) == (None, (), ())
        assert len(tx.jobs.log("b")) == 1
