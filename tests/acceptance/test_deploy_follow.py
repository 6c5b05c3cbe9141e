"""`adapters deploy --follow` as a process beside a registry server: what becomes of a promotion, and what is told.

The replicas answer as vLLM's and SGLang's sources say (`tests/unit/serving/fake_servers.py`).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.policy import Policy
from tests.server_process import Server, serving
from tests.unit.serving.builders import registry_of
from tests.unit.serving.fleets import Fleet, fleet_of

pytestmark = pytest.mark.xdist_group("deploy-follow")
ELSEWHERE = "/somewhere/else"
PATIENCE = 90
"""Seconds after which nothing happens any more, on the busiest machine."""


def until(true) -> None:
    ends = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < ends, "it did not come to it"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("registry"), {}) as running:
        yield running


@pytest.fixture(scope="module")
def registry(server, tmp_path_factory, llama_folder, lora_folder) -> Registry:
    home = tmp_path_factory.mktemp("admin")
    environment = {"ADAPTERS_URL": f"http://{server.host}", "ADAPTERS_TOKEN": server.token}
    homes = {"ADAPTERS_HOME": f"{home}/home", "ADAPTERS_CACHE": f"{home}/cache"}
    there = registry_of({**environment, **homes}, home, llama_folder, lora_folder)
    there.set_policy("prod", Policy("prod"))
    there.create_account("fleet", kind=AccountKind.SERVICE)
    there.grant("fleet", "team/*", ("deployer",))
    return there


@dataclass
class Followed:
    """A fleet that a process of its own keeps at what prod means."""

    fleet: Fleet
    registry: Registry
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [Path(sys.executable).with_name("adapters"), "deploy", "--follow", "--every", "1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--fleet", self.fleet.file], env=self.environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def serve(self, version: str) -> bool:
        return self.fleet.paths() == [self.fleet.path(f"team/sql@{version}")] * 2

    def told(self) -> tuple[str, list[str]]:
        """(version, what came of each replica), as the registry has it."""
        named = self.fleet.file.parent.name
        found = [each for each in self.registry.deployments("team/sql") if each.fleet == named]
        return (found[0].version, [each.outcome for each in found[0].replicas]) if found else ("", [])

    def reaches(self, version: str, *outcomes: str) -> None:
        until(lambda: self.told() == (f"team/sql@{version}", list(outcomes)))

    def shown(self) -> subprocess.CompletedProcess[str]:
        """`adapters deploy --status team/sql`, as whoever runs the fleet sees it."""
        command = [Path(sys.executable).with_name("adapters"), "deploy", "--status", "team/sql"]
        wide = {**self.environment, "COLUMNS": "300"}
        return subprocess.run(command, env=wide, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture(params=["vllm", "sglang"])
def followed(request, server, registry, llama_folder, tmp_path) -> Iterator[Followed]:
    registry.promote("team/sql@v1", "prod")
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join(filter(None, sys.path)),
        "ADAPTERS_URL": f"http://{server.host}",
        "ADAPTERS_TOKEN": registry.create_token(account="fleet").secret,
        "ADAPTERS_HOME": str(tmp_path / "home"),
        "ADAPTERS_CACHE": str(tmp_path / "cache"),
    }
    more = f"name: {tmp_path.name}\nserve: {{sql: team/sql@prod}}\n"
    with fleet_of(request.param, registry, llama_folder, tmp_path, more) as fleet:
        made = Followed(fleet, registry, environment, tmp_path / "log")
        made.start()
        try:
            made.reaches("v1", "moved", "moved")
            yield made
        finally:
            made.kill()


@contextmanager
def held_at(fake, route: str) -> Iterator[threading.Event]:
    """A replica that lets a request for a route wait until the end of the block; the event is set when one came."""
    came, go, answer = threading.Event(), threading.Event(), fake.answer

    def waiting(method, path, body):
        if path == route:
            came.set()
            go.wait(PATIENCE)
        return answer(method, path, body)

    fake.answer = waiting
    try:
        yield came
    finally:
        go.set()
        fake.answer = answer


def load_of(followed: Followed) -> str:
    return (
        "/v1/load_lora_adapter" if followed.fleet.file.read_text().startswith("stack: vllm") else "/load_lora_adapter"
    )


class TestFollowing:
    def test_a_promotion_moves_one_replica_at_a_time_and_is_told(self, followed):
        fleet = followed.fleet
        with held_at(fleet.two, load_of(followed)) as came:
            followed.registry.promote("team/sql@v2", "prod")
            assert came.wait(PATIENCE)
            assert fleet.paths()[0] == fleet.path("team/sql@v2")
            assert fleet.paths()[1] != fleet.path("team/sql@v2")
            # The first one was asked the test prompt before the second one was asked anything.
            assert fleet.one.asked[-1][0] in ("/v1/completions", "/generate")
        followed.reaches("v2", "moved", "moved")
        assert followed.serve("v2")
        shown = followed.shown()
        assert (shown.returncode, "team/sql@v2" in shown.stdout) == (0, True), shown.stdout + shown.stderr

    def test_a_replica_that_answers_otherwise_has_all_put_back_and_the_registry_knows_why(self, followed):
        fleet = followed.fleet
        weights, fleet.two.weights = fleet.two.weights, "other weights of the same shape"
        followed.registry.promote("team/sql@v2", "prod")
        followed.reaches("v2", "restored", "restored")
        assert followed.serve("v1")
        shown = followed.shown()
        assert shown.returncode == 1
        assert "asked the test prompt of its base" in shown.stdout
        fleet.two.weights = weights
        followed.registry.rollback("team/sql", "prod", to="team/sql@v1")
        followed.reaches("v1", "there", "there")

    def test_a_version_for_another_base_reaches_no_replica(self, followed):
        followed.registry.promote("team/sql@v3", "prod")
        followed.reaches("v3")
        shown = followed.shown()
        assert (shown.returncode, "is locked to other@" in shown.stdout) == (1, True)
        assert followed.serve("v1")

    def test_what_drifts_is_told_and_what_is_forgotten_comes_back(self, followed):
        fleet = followed.fleet
        fleet.two.forget()
        until(lambda: followed.serve("v1"))
        fleet.two.put("sql", ELSEWHERE)
        followed.reaches("v1", "there", "drifted")
        assert fleet.paths()[1] == ELSEWHERE
        assert "drifted" in followed.shown().stdout

    def test_killed_between_two_replicas_it_goes_on_where_it_was(self, followed):
        fleet = followed.fleet
        with held_at(fleet.two, load_of(followed)) as came:
            followed.registry.promote("team/sql@v2", "prod")
            assert came.wait(PATIENCE)
            followed.kill()
        followed.start()
        done = {"moved", "there"}
        until(lambda: followed.told()[0] == "team/sql@v2" and done.issuperset(followed.told()[1]))
        assert followed.serve("v2")

    def test_a_replica_that_is_started_again_while_a_promotion_comes_gets_it_soon(self, followed):
        fleet = followed.fleet
        key, fleet.two.key = fleet.two.key, "not yet"
        followed.registry.promote("team/sql@v2", "prod")
        followed.reaches("v2")
        assert followed.serve("v1")
        fleet.two.key = key
        fleet.two.forget()
        followed.reaches("v2", "moved", "moved")
        assert followed.serve("v2")
