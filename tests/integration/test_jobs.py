"""Jobs on real workers: they end the same however often their worker is killed, stopped, or told to stop."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from adapter_registry.domain.errors import Conflict, IncompatibleBase, InvalidInput, NotFound, Taken
from adapter_registry.domain.job import DEATHS, LOG_LINES, State
from adapter_registry.domain.recipe import Ingredient, Recipe
from adapter_registry.services import running
from tests.job_builders import ADAPTER, SECRET, Workshop, workshop

KILLS = 3
CANCELLED_WITHIN = 3.0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shop(request, tmp_path_factory, llama_folder, lora_folder) -> Iterator[Workshop]:
    settings = {}
    if request.param == "postgresql":
        settings["ADAPTERS_DATABASE_URL"] = request.getfixturevalue("postgres_server").fresh_database()
    with workshop(tmp_path_factory.mktemp("shop") / "home", llama_folder, lora_folder, **settings) as made:
        yield made


@pytest.fixture(scope="module")
def local(tmp_path_factory, llama_folder, lora_folder) -> Iterator[Workshop]:
    with workshop(tmp_path_factory.mktemp("local") / "home", llama_folder, lora_folder) as made:
        yield made


@pytest.fixture(scope="module")
def busy(tmp_path_factory, llama_folder, lora_folder):
    """One with a worker that is there for all tests."""
    with workshop(tmp_path_factory.mktemp("busy") / "home", llama_folder, lora_folder) as made, made.worker():
        yield made


def scores(shop: Workshop, digest: str) -> int:
    return sum(each.score.evidence == digest for each in shop.registry.scores(f"{ADAPTER}@v1"))


def log_of(shop: Workshop, job) -> str:
    return "\n".join(line.text for line in shop.registry.job_log(job.id))


class TestKilledWorkers:
    def test_a_job_whose_worker_is_killed_at_any_moment_ends_the_same(self, shop):
        moments = random.Random(7)  # a printed seed: a failure can be repeated
        with shop.worker():
            first = shop.ended(shop.submit(steps=12, seed=0))
        assert first.state is State.SUCCEEDED
        for _ in range(KILLS):
            job = shop.submit(steps=12, seed=0)
            moment = moments.uniform(0.0, 1.8)
            with shop.worker() as worker:
                time.sleep(moment)
                worker.kill()
            with shop.worker():
                again = shop.ended(job)
            assert again.state is State.SUCCEEDED, (moment, again.error)
            assert again.result == first.result
        assert scores(shop, first.result["digest"]) == 1

    def test_what_was_done_before_the_kill_is_not_done_again(self, shop):
        job = shop.submit(steps=3, publish_pause=4, seed=1)
        with shop.worker() as worker:
            while not (shop.scratch(job) / "publishing").exists():
                time.sleep(0.02)
            worker.kill()
        [made] = shop.scratch(job).glob("attempt-*")
        with shop.worker():
            while shop.registry.job(job.id).attempts < 2:
                time.sleep(0.05)
            time.sleep(1)
            assert list(shop.scratch(job).glob("attempt-*")) == [made]
            assert shop.ended(job).state is State.SUCCEEDED

    def test_another_worker_that_is_there_takes_over_within_seconds(self, shop):
        with shop.worker() as one, shop.worker() as other:
            job = shop.reached(shop.submit(steps=40, pause=0.1, seed=2), State.RUNNING)
            (one if job.worker == one.name else other).kill()
            killed = time.monotonic()
            while shop.registry.job(job.id).attempts < 2:
                assert time.monotonic() - killed < 10
                time.sleep(0.05)
            assert shop.ended(job).state is State.SUCCEEDED

    def test_a_job_that_ends_every_worker_is_given_up(self, local):
        job = local.submit("pries", kill_worker=True)
        for _ in range(DEATHS):
            with local.worker() as worker:
                worker.process.wait(30)
        with local.worker():
            after = local.ended(job)
        assert after.state is State.FAILED
        assert f"ended its worker {DEATHS} times" in after.error

    def test_a_worker_that_is_told_to_stop_leaves_its_job_to_the_next_without_blame(self, local):
        job = local.submit(steps=30, pause=0.1, seed=3)
        for _ in range(DEATHS + 1):
            with local.worker() as worker:
                while local.registry.job(job.id).worker != worker.name:
                    time.sleep(0.02)
                worker.send(signal.SIGTERM)
                assert worker.process.wait(10) == 0
        with local.worker():
            assert local.ended(job).state is State.SUCCEEDED


class TestStoppedWorkers:
    def test_a_worker_stopped_past_its_lease_publishes_nothing_when_it_goes_on(self, shop):
        job = shop.submit(steps=2, publish_pause=2, seed=4)
        with shop.worker(lease=2) as asleep:
            shop.reached(job, State.RUNNING)
            while not (shop.scratch(job) / "publishing").exists():
                time.sleep(0.02)
            shop.stop_between_writes(asleep)
            with shop.worker(lease=2):
                ended = shop.ended(job)
                assert ended.state is State.SUCCEEDED
                assert ended.attempts == 2
                events = len(shop.registry.events())
                asleep.send(signal.SIGCONT)
                time.sleep(4)
                assert len(shop.registry.events()) == events
                assert scores(shop, ended.result["digest"]) == 1
                assert shop.registry.job(job.id) == ended

    def test_no_write_of_whoever_lost_a_job_is_made(self, local):
        backend = local.registry._opened
        job = local.submit(seed=5)
        first = running.begin(backend, run=job.run, worker="one")
        catalog = running.FencedCatalog(backend.catalog, first)
        with catalog.writing() as tx:
            tx.jobs.say(job.id, ["still mine"], at=backend.clock())
        second = running.begin(backend, run=job.run, worker="other")
        with pytest.raises(Taken, match="another worker"), catalog.writing() as tx:
            tx.jobs.say(job.id, ["not mine any more"], at=backend.clock())
        with pytest.raises(Taken):
            running.finish(backend, first, result={})
        assert running.fail(backend, first, error="mine") is False
        assert log_of(local, job) == "still mine"
        running.finish(backend, second, result={"by": "other"})
        assert local.registry.job(job.id).result == {"by": "other"}


class TestSharedOutWork:
    def test_workers_share_the_parts_of_a_job(self, shop):
        with shop.worker(), shop.worker():
            job = shop.ended(shop.submit("shares", parts=6, pause=0.4, seed=6))
        assert job.state is State.SUCCEEDED, job.error
        assert job.progress.parts == 6

    def test_one_worker_does_all_the_parts_of_its_own_job(self, busy):
        job = busy.ended(busy.submit("shares", parts=3, seed=6))
        assert job.state is State.SUCCEEDED, job.error

    def test_what_the_parts_are_is_worked_out_once(self, busy):
        job = busy.ended(busy.submit("shares", parts=3, seed=7))
        assert job.state is State.SUCCEEDED, job.error
        assert log_of(busy, job).count("counted the parts") == 1

    def test_it_is_the_same_as_what_is_not_shared_out(self, busy):
        shared = busy.ended(busy.submit("shares", parts=5, seed=8))
        whole = busy.ended(busy.submit("writes", steps=5, seed=8))
        assert shared.result["digest"] == whole.result["digest"]


class TestEnds:
    def test_a_running_job_is_cancelled_within_a_second_or_two_and_publishes_nothing(self, busy):
        job = busy.reached(busy.submit(steps=200, pause=0.1, seed=9), State.RUNNING)
        asked = time.monotonic()
        assert busy.registry.cancel_job(job.id).cancelling
        after = busy.ended(job)
        assert after.state is State.CANCELLED
        assert time.monotonic() - asked < CANCELLED_WITHIN
        assert after.result == {}

    def test_a_cancelled_job_can_be_done_again_and_a_finished_one_can_not(self, busy):
        job = busy.reached(busy.submit(steps=20, pause=0.1, seed=10), State.RUNNING)
        with pytest.raises(Conflict, match="only a failed or cancelled"):
            busy.registry.retry_job(job.id)
        busy.registry.cancel_job(job.id)
        busy.ended(job)
        again = busy.registry.retry_job(job.id)
        assert (again.round, again.state) == (2, State.QUEUED)
        assert busy.ended(job).state is State.SUCCEEDED
        with pytest.raises(Conflict, match="only a failed or cancelled"):
            busy.registry.retry_job(job.id)
        with pytest.raises(Conflict, match="has succeeded already"):
            busy.registry.cancel_job(job.id)

    def test_a_waiting_job_is_cancelled_at_once(self, local):
        job = local.submit(queue="cuda")
        assert local.registry.cancel_job(job.id).state is State.CANCELLED

    def test_one_that_takes_more_memory_than_it_may_fails_with_the_limit_named(self, local):
        with local.worker(ADAPTERS_JOB_MEMORY_GB="0.5"):
            job = local.ended(local.submit("pries", allocate=2 << 30))
        assert job.state is State.FAILED
        assert "more than the 0.5 GB of memory" in job.error

    def test_one_that_takes_longer_than_it_may_fails_with_the_limit_named(self, local):
        with local.worker(ADAPTERS_JOB_SECONDS="1"):
            job = local.ended(local.submit("pries", sleep=30))
        assert job.state is State.FAILED
        assert "longer than the 1 s" in job.error

    def test_one_that_the_system_kills_fails_and_its_worker_lives(self, busy):
        assert "by signal 9" in busy.ended(busy.submit("pries", die=True)).error
        assert busy.ended(busy.submit(seed=11)).state is State.SUCCEEDED

    def test_every_end_is_an_event(self, busy):
        job = busy.ended(busy.submit("pries", die=True))
        mine = [each.entry for each in busy.registry.events(ADAPTER) if each.entry.detail.get("job") == job.id]
        assert [entry.action for entry in mine] == ["job.submit", "job.fail"]
        assert "by signal 9" in mine[-1].detail["error"]


class TestTheChild:
    def test_it_has_no_secret_in_its_environment_and_no_network(self, busy):
        result = busy.ended(busy.submit("pries")).result
        assert SECRET not in str(result["environment"])
        assert not [name for name in result["environment"] if name.startswith(("ADAPTERS_", "HF_TOKEN", "AWS_"))]
        assert "PermissionError" in result["network"]["connect"]
        assert "PermissionError" in result["network"]["resolve"]
        devices = [line.partition(":")[0].strip() for line in result["network"]["devices"].splitlines()[2:]]
        assert devices == ["lo"]

    def test_what_it_prints_is_in_the_log(self, busy):
        job = busy.ended(busy.submit(seed=12))
        assert "wrote all of it" in log_of(busy, job)


class TestSubmission:
    def test_what_is_incompatible_is_refused_now(self, local):
        before = local.registry.jobs()
        with pytest.raises(IncompatibleBase):
            local.submit(refuse=True)
        assert local.registry.jobs() == before

    @pytest.mark.parametrize(
        "changed",
        [
            {"kind": "fold"},
            {"into": ""},
            {"inputs": (Ingredient(f"{ADAPTER}@v1", float("nan")),)},
            {"options": {"long": "x" * 200_000}},
        ],
    )
    def test_a_recipe_that_is_none_is_refused(self, local, changed):
        good = {"kind": "writes", "inputs": (Ingredient(f"{ADAPTER}@v1"),), "into": ADAPTER}
        with pytest.raises(InvalidInput):
            local.registry.submit(Recipe(**{**good, **changed}))

    def test_bytes_that_nobody_sent_are_not_found(self, local):
        recipe = Recipe("writes", (Ingredient(f"{ADAPTER}@v1"),), files={"data": "sha256:" + "0" * 64}, into=ADAPTER)
        with pytest.raises(NotFound, match="send them first"):
            local.registry.submit(recipe)

    def test_an_input_is_exact_from_then_on(self, local):
        job = local.submit(queue="cuda")
        assert "@sha256:" in job.recipe.inputs[0].reference
        assert job.recipe.digest == local.registry.job(job.id).recipe.digest
        local.registry.cancel_job(job.id)

    def test_higher_priority_goes_first(self, local):
        low, high = local.submit(priority=-5, seed=13), local.submit(priority=5, seed=14)
        with local.worker():
            ends = [local.ended(job) for job in (low, high)]
        assert ends[1].ended_at < ends[0].started_at

    def test_a_log_keeps_its_newest_lines(self, local):
        backend, job = local.registry._opened, local.submit(queue="cuda")
        for start in range(0, LOG_LINES + 500, 500):
            with backend.catalog.writing() as tx:
                tx.jobs.say(job.id, [f"line {start + index}" for index in range(500)], at=backend.clock())
        lines = local.registry.job_log(job.id)
        assert len(lines) == LOG_LINES
        assert lines[-1].text == f"line {LOG_LINES + 499}"
        local.registry.cancel_job(job.id)


def test_the_engine_may_lose_everything_and_no_job_is_lost(local):
    job = local.submit(steps=30, pause=0.1, seed=15)
    with local.worker() as worker:
        local.reached(job, State.RUNNING)
        worker.kill()
    for path in local.registry.settings.home.glob("queue.db*"):
        path.unlink()
    with local.worker():
        assert local.ended(job).state is State.SUCCEEDED


def test_bytes_that_a_job_keeps_are_not_collected(local):
    with local.worker():
        job = local.ended(local.submit(seed=16))
    local.registry.collect(grace_seconds=0)
    assert local.registry._opened.blobs.size(job.result["digest"]) is not None
