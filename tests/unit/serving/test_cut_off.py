"""Deployments that end in the middle, and what the next one makes of what they left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from adapter_registry.domain.errors import Conflict

COMMAND = [sys.executable, "-c", "from adapter_cli.main import main; main()", "deploy"]


def when_asked(fake, do, monkeypatch):
    """Have a server do something else when it is first asked to load."""
    answer, left = fake.answer, [do]

    def asked(method, path, body):
        found = left.pop()() if left and path.endswith("/load_lora_adapter") else None
        return answer(method, path, body) if found is None else found

    monkeypatch.setattr(fake, "answer", asked)


@pytest.fixture
def killed(fleet, environment, monkeypatch):
    """Have the process be killed that deploys a version, once one replica serves it and the other is asked to."""

    def kill(reference):
        asked, over = threading.Event(), threading.Event()
        with monkeypatch.context() as while_it_runs:
            when_asked(fleet.two, lambda: (asked.set(), over.wait(60), (500, "killed"))[2], while_it_runs)
            process = subprocess.Popen(
                [*COMMAND, reference, "--to", "sql", "--fleet", fleet.file],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            assert asked.wait(60), process.communicate(timeout=10)
            process.kill()
            process.communicate()
            over.set()

    return kill


class TestKilled:
    def test_the_version_before_is_deployed_again_whole(self, fleet, killed):
        fleet.deploy("team/sql@v1")
        killed("team/sql@v2")
        assert fleet.paths()[0] == fleet.path("team/sql@v2")
        assert fleet.status()[0] == "drifted"
        assert set(fleet.deploy("team/sql@v1")) <= {"moved", "there"}
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_so_is_another_version(self, fleet, killed):
        fleet.deploy("team/sql@v1")
        killed("team/sql@v2")
        assert fleet.deploy("team/eight@v1") == ["moved", "moved"]
        assert fleet.paths() == [fleet.path("team/eight@v1")] * 2

    def test_where_that_is_refused_every_replica_goes_back_to_what_was_deployed_whole(self, fleet, killed):
        fleet.deploy("team/sql@v1")
        killed("team/sql@v2")
        when = fleet.two.weights
        fleet.two.weights = "other weights of the same shape"
        assert fleet.deploy("team/eight@v1") == ["restored", "restored"]
        fleet.two.weights = when
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_reconciling_brings_back_what_was_deployed_whole(self, fleet, killed):
        fleet.deploy("team/sql@v1")
        killed("team/sql@v2")
        assert fleet.reconcile()[0] == "loaded again"
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_the_first_deployment_of_a_name_is_told_as_cut_off(self, fleet, killed):
        killed("team/sql@v1")
        [line, _] = fleet.deploying().status()
        assert (line.outcome, line.serves) == ("drifted", fleet.path("team/sql@v1"))
        assert line.why == "its first deployment was cut off: deploy it again"
        assert fleet.deploy("team/sql@v2") == ["moved", "moved"]
        assert fleet.status() == ["there", "there"]


class TestLeft:
    def test_a_replica_that_could_not_be_put_back_does_not_stand_in_the_way(self, fleet, monkeypatch):
        fleet.deploy("team/sql@v1")

        def dying():
            fleet.one.key = "changed"
            return 500, "no room"

        with monkeypatch.context() as while_it_runs:
            when_asked(fleet.two, dying, while_it_runs)
            assert fleet.deploy("team/sql@v2")[0] == "refused"
        fleet.one.key = "secret"
        assert fleet.paths()[0] == fleet.path("team/sql@v2")
        assert fleet.deploy("team/eight@v1") == ["moved", "moved"]

    def test_what_was_put_back_is_foreign_again(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.weights = "other weights of the same shape"
        assert fleet.deploy("team/sql@v2") == ["restored", "restored"]
        fleet.two.weights = "base"
        fleet.one.put("sql", fleet.path("team/sql@v2"))
        with pytest.raises(Conflict, match="which was not deployed from"):
            fleet.deploy("team/eight@v1")


class TestMeanwhile:
    def test_a_replica_that_restarts_after_it_moved_is_no_part_of_a_success(self, fleet, monkeypatch):
        fleet.deploy("team/sql@v1")
        when_asked(fleet.two, fleet.one.forget, monkeypatch)
        lines = fleet.deploying().deploy("team/sql@v2", "sql")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "served sql from nothing all at once" in lines[0].why
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_so_is_one_that_somebody_else_moved_which_is_left_alone(self, fleet, monkeypatch):
        fleet.deploy("team/sql@v1")
        when_asked(fleet.two, lambda: fleet.one.put("sql", "/somewhere/else"), monkeypatch)
        assert fleet.deploy("team/sql@v2") == ["refused", "restored"]
        assert fleet.paths() == ["/somewhere/else", fleet.path("team/sql@v1")]
