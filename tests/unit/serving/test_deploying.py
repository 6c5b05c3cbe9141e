"""A name is served from one version on every replica, tested, or from what it was before."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, IncompatibleBase, InvalidInput, StoreUnavailable, Unsupported
from adapter_registry.serving.deploying import Deploying
from adapter_registry.serving.fingerprint import Fingerprint, difference, rounded
from adapter_registry.serving.fleet_file import read_fleet
from tests.unit.serving.builders import registry_of
from tests.unit.serving.fake_servers import FakeSglang, FakeVllm, running

STACKS = {"vllm": FakeVllm, "sglang": FakeSglang}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    home = tmp_path_factory.mktemp("deploying")
    return {"ADAPTERS_HOME": str(home / "home"), "ADAPTERS_CACHE": str(home / "cache")}


@pytest.fixture(scope="module")
def registry(environment, tmp_path_factory, llama_folder, lora_folder):
    return registry_of(environment, tmp_path_factory.mktemp("made"), llama_folder, lora_folder)


@dataclass
class Fleet:
    """Two servers of one stack, and what is deployed to them."""

    one: FakeVllm | FakeSglang
    two: FakeVllm | FakeSglang
    registry: Registry
    file: Path
    root: Path

    def deploying(self):
        return Deploying(read_fleet(self.file.read_text(), "fleet.yaml"), self.registry, clock=lambda: 1.0)

    def deploy(self, reference, **options):
        lines = self.deploying().deploy(reference, "sql", **options)
        return [line.outcome for line in lines]

    def status(self):
        return [line.outcome for line in self.deploying().status()]

    def reconcile(self):
        return [line.outcome for line in self.deploying().reconcile()]

    def paths(self):
        return [each.loaded.get("sql") for each in (self.one, self.two)]

    def path(self, reference):
        return str(self.root / ".store" / self.registry.resolve(reference).digest.replace(":", "-"))


@pytest.fixture(params=["vllm", "sglang"])
def fleet(request, registry, llama_folder, tmp_path):
    stack = request.param
    with ExitStack() as servers:
        one, two = (servers.enter_context(running(STACKS[stack](key="secret"))) for _ in range(2))
        (tmp_path / "key").write_text("secret\n")
        (tmp_path / "fleet.yaml").write_text(
            f"stack: {stack}\nroot: {tmp_path}/root\nbase: {llama_folder}\nkey_file: {tmp_path}/key\n"
            f"replicas: [{one.url}, {two.url}]\n"
        )
        yield Fleet(one, two, registry, tmp_path / "fleet.yaml", tmp_path / "root")


class TestDeploying:
    def test_every_replica_serves_it_from_a_folder_named_by_its_digest(self, fleet):
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_the_next_version_takes_its_place_and_the_folder_before_stays(self, fleet):
        fleet.deploy("team/sql@v1")
        assert fleet.deploy("team/sql@v2") == ["moved", "moved"]
        assert fleet.paths() == [fleet.path("team/sql@v2")] * 2
        assert Path(fleet.path("team/sql@v1")).is_dir()

    def test_what_is_there_is_tested_and_not_moved(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.one.asked.clear()
        assert fleet.deploy("team/sql@v1") == ["there", "there"]
        assert not [path for path, _ in fleet.one.asked if "load" in path]

    @pytest.mark.parametrize(("reference", "error"), [("team/sql@v3", IncompatibleBase), ("team/dora@v1", Unsupported)])
    def test_what_does_not_fit_is_refused_before_a_replica_is_asked_to_move(self, fleet, reference, error):
        with pytest.raises(error):
            fleet.deploy(reference)
        assert fleet.one.asked == []

    def test_a_replica_that_does_not_answer_stops_it_before_anything_moved(self, fleet):
        fleet.two.key = "changed"
        with pytest.raises(StoreUnavailable, match="it answered 401"):
            fleet.deploy("team/sql@v1")
        assert fleet.one.loaded == {}

    def test_a_name_that_others_loaded_is_not_replaced(self, fleet):
        fleet.two.loaded["sql"] = "/somewhere/else"
        with pytest.raises(Conflict, match="which was not deployed from"):
            fleet.deploy("team/sql@v1")
        assert fleet.paths() == [None, "/somewhere/else"]

    def test_servers_may_see_the_folder_under_another_path(self, fleet):
        seen = fleet.root.parent / "seen"
        seen.symlink_to(fleet.root)
        fleet.file.write_text(fleet.file.read_text() + f"seen_as: {seen}/\n")
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]
        assert fleet.paths()[0].startswith(f"{seen}/.store/sha256-")


class TestPuttingBack:
    @pytest.mark.parametrize("before", [None, "team/sql@v1"])
    @pytest.mark.parametrize("trouble", ["refuses", "ignores"])
    def test_when_one_does_not_take_it_all_serve_what_they_served(self, fleet, before, trouble):
        if before:
            fleet.deploy(before)
        setattr(fleet.two, trouble, True)
        lines = fleet.deploying().deploy("team/sql@v2", "sql")
        # SGLang loads nothing in place: a server that refuses every load cannot take the old one back either.
        lost = trouble == "refuses" and before and isinstance(fleet.two, FakeSglang)
        assert [line.outcome for line in lines] == ["restored", "refused" if lost else "restored"]
        expected = fleet.path(before) if before else None
        assert fleet.paths() == [expected, None if lost else expected]
        assert fleet.status() == (["there", "missing" if lost else "there"] if before else [])
        assert {"refuses": "answered", "ignores": "has no effect"}[trouble] in lines[1].why

    def test_what_somebody_else_loads_meanwhile_is_left_alone(self, fleet, monkeypatch):
        answer = fleet.one.answer

        def meddling(method, path, body):
            if "load_lora" in path:
                fleet.two.loaded["sql"] = "/somewhere/else"
            return answer(method, path, body)

        monkeypatch.setattr(fleet.one, "answer", meddling)
        assert fleet.deploy("team/sql@v1") == ["restored", "refused"]
        assert fleet.paths() == [None, "/somewhere/else"]

    def test_a_deployment_that_was_cut_off_is_put_back_whole(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.deploy("team/sql@v2")
        fleet.deploy("team/sql@v1")
        fleet.one.put("sql", fleet.path("team/sql@v2"))
        fleet.two.ignores = True
        assert fleet.deploy("team/sql@v2") == ["restored", "restored"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_replicas_after_the_one_that_failed_are_not_touched(self, fleet):
        fleet.one.refuses = True
        assert fleet.deploy("team/sql@v1") == ["restored", "untouched"]
        assert not [path for path, _ in fleet.two.asked if "load" in path]

    def test_a_replica_with_another_base_is_told_by_its_answer(self, fleet):
        fleet.two.weights = "other weights of the same shape"
        lines = fleet.deploying().deploy("team/sql@v1", "sql")
        assert [line.outcome for line in lines] == ["restored", "restored"]
        assert "the test prompt of its base: it answers the tokens" in lines[1].why
        assert fleet.paths() == [None, None]

    def test_what_was_answered_first_holds_until_new_answers_are_asked_for(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.one.weights = fleet.two.weights = "after an upgrade"
        assert fleet.deploy("team/sql@v1") == ["restored", "untouched"]
        assert fleet.deploy("team/sql@v1", anew=True) == ["there", "there"]
        assert fleet.deploy("team/sql@v1") == ["there", "there"]

    def test_answers_of_a_deployment_that_failed_are_not_kept(self, fleet):
        fleet.one.weights = "the wrong one"
        assert fleet.deploy("team/sql@v1") == ["restored", "restored"]
        fleet.one.weights = "base"
        assert fleet.deploy("team/sql@v1") == ["moved", "moved"]


class TestDrift:
    def test_a_replica_that_was_restarted_gets_it_back(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.forget()
        assert fleet.status() == ["there", "missing"]
        assert fleet.reconcile() == ["there", "loaded again"]
        assert fleet.paths() == [fleet.path("team/sql@v1")] * 2

    def test_that_needs_no_registry(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.forget()
        fleet.registry = Registry(replace(fleet.registry.settings, url="http://127.0.0.1:9", token="x"))
        assert fleet.reconcile() == ["there", "loaded again"]

    def test_what_others_loaded_is_told_and_left_alone(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.loaded["sql"] = "/somewhere/else"
        assert fleet.reconcile() == ["there", "drifted"]
        assert fleet.paths()[1] == "/somewhere/else"

    def test_a_replica_that_came_back_with_another_base_does_not_get_it(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.forget()
        fleet.two.weights = "another"
        assert fleet.reconcile() == ["there", "restored"]
        assert fleet.paths()[1] is None

    def test_a_replica_that_does_not_answer_is_told(self, fleet):
        fleet.deploy("team/sql@v1")
        fleet.two.key = "changed"
        assert fleet.reconcile() == ["there", "silent"]

    def test_what_came_of_each_replica_is_recorded(self, fleet):
        fleet.deploy("team/sql@v1")
        record = json.loads((fleet.root / ".adapters-deploy.json").read_text())
        assert record["last"][fleet.two.url] == {"sql": "moved"}
        assert record["names"]["sql"]["version"] == "team/sql@v1"

    def test_a_folder_that_is_synced_is_not_deployed_from(self, fleet):
        fleet.root.mkdir()
        (fleet.root / ".adapters-sync.json").write_text("{}")
        with pytest.raises(Conflict, match="which another command keeps"):
            fleet.deploy("team/sql@v1")


class TestFingerprint:
    @pytest.mark.parametrize(
        ("found", "told"),
        [
            (Fingerprint((1, 2), (-0.1, -0.24)), ""),
            (Fingerprint((1, 3), (-0.1, -0.2)), "the tokens"),
            (Fingerprint((1,), (-0.1,)), "the tokens"),
            (Fingerprint((1, 2), (-0.1, -0.26)), "token 2 has"),
        ],
    )
    def test_tokens_are_equal_and_their_probabilities_nearly(self, found, told):
        assert told in difference(Fingerprint((1, 2), (-0.1, -0.2)), found)
        assert bool(told) == bool(difference(Fingerprint((1, 2), (-0.1, -0.2)), found))

    def test_probabilities_are_kept_to_four_decimals(self):
        assert rounded([1], [-0.123456]).logprobs == (-0.1235,)


class TestCommand:
    @pytest.fixture
    def ran(self, fleet, environment, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return lambda *arguments: CliRunner().invoke(adapters, ["deploy", *arguments, "--fleet", str(fleet.file)])

    def test_the_exit_code_says_whether_every_replica_serves_it(self, ran, fleet):
        assert (ran("team/sql@v1").exit_code, fleet.paths()[0]) == (0, fleet.path("team/sql@v1"))
        fleet.two.forget()
        told = ran("--status")
        assert (told.exit_code, "team/sql@v1 was deployed" in told.output) == (1, True), told.output
        assert ran("--reconcile", "-q").output.splitlines()[1] == f"{fleet.two.url} sql loaded again"

    @pytest.mark.parametrize(
        "arguments", [[], ["x@v1", "--status"], ["--status", "--to", "x"], ["x@v1", "--every", "5"]]
    )
    def test_options_that_say_nothing_together_are_refused(self, ran, arguments):
        assert ran(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stack: tgi\nroot: /x\nbase: b\nreplicas: [http://a]", "vllm"),
        ("stack: vllm\nroot: /x\nbase: b\nreplicas: []", "at least 1"),
        ("stack: vllm\nroot: /x\nbase: b\nreplica: [http://a]", "did you mean replicas"),
        ("[]", "a mapping"),
    ],
)
def test_what_is_wrong_with_a_fleet_is_told(text, told):
    with pytest.raises(InvalidInput, match="is not a fleet") as refused:
        read_fleet(text, "fleet.yaml")
    assert told.lower() in str(refused.value).lower()
