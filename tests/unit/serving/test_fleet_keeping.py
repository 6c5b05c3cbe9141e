"""A fleet is kept at what a stage means, and what came of it is told to the registry."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.client import Registry
from adapter_registry.domain.deployment import LONGEST_TEXT, Replica
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.serving.fleet_file import read_fleet
from adapter_registry.serving.fleet_keeping import FleetKeeping
from adapter_registry.serving.pointing import AGAIN_SECONDS, FIRST_SECONDS
from tests.unit.serving.fleets import fleet_of


@pytest.fixture
def fleet(registry, llama_folder, tmp_path):
    """A fleet of its own name, kept at what the tag `live` means, which is v1."""
    registry.tag("team/sql@v1", "live")
    more = f"name: {tmp_path.name}\nserve: {{sql: team/sql@live}}\n"
    with fleet_of("vllm", registry, llama_folder, tmp_path, more) as made:
        yield made


class Kept:
    """The fleet as a process keeps it that was started some time ago."""

    def __init__(self, fleet) -> None:
        self.fleet, self.now = fleet, 0.0
        self.keeping = FleetKeeping(
            read_fleet(fleet.file.read_text(), "fleet.yaml"), fleet.deploying(), clock=lambda: self.now
        )

    def step(self, *, after: float = 0.0):
        self.now += after
        return [line.outcome for line in self.keeping.step()]

    def told(self):
        """(version, what came of each replica, why nothing was moved, what is meant) of the last report."""
        return [
            (each.version.partition("@")[2], [r.outcome for r in each.replicas], each.because, each.meant)
            for each in self.fleet.registry.deployments("team/sql")
            if each.fleet == self.fleet.file.parent.name
        ]

    def reports(self):
        events = [event.entry for event in self.fleet.registry.events()]
        return sum(each.detail.get("fleet") == self.fleet.file.parent.name for each in events)


@pytest.fixture
def kept(fleet):
    return Kept(fleet)


class TestKeeping:
    def test_what_a_reference_means_is_deployed_and_told_once(self, kept, registry):
        assert kept.step() == ["moved", "moved"]
        assert kept.told() == [("v1", ["moved", "moved"], "", "team/sql@v1")]
        assert kept.step() == ["there", "there"]
        assert Kept(kept.fleet).step() == ["there", "there"]
        assert kept.reports() == 1
        registry.tag("team/sql@v2", "live")
        assert kept.step() == ["moved", "moved"]
        assert kept.told() == [("v2", ["moved", "moved"], "", "team/sql@v2")]

    def test_a_version_that_is_refused_is_told_and_tried_ever_more_rarely(self, kept, registry):
        kept.step()
        registry.tag("team/sql@v3", "live")
        assert kept.step() == ["refused"]
        [(version, replicas, because, meant)] = kept.told()
        assert (version, replicas, meant) == ("v3", [], "team/sql@v3")
        assert "is locked to other@" in because
        assert kept.step(after=29) == ["there", "there"]
        assert kept.step(after=2) == ["refused"]
        assert kept.step(after=31) == ["there", "there"]
        assert kept.step(after=30) == ["refused"]
        assert kept.reports() == 2
        assert kept.fleet.paths() == [kept.fleet.path("team/sql@v1")] * 2

    def test_a_replica_that_is_silent_says_nothing_of_a_version_which_is_tried_again_soon(self, kept, registry):
        kept.step()
        assert kept.keeping.left() == math.inf
        registry.tag("team/sql@v2", "live")
        key, kept.fleet.two.key = kept.fleet.two.key, "changed"
        assert kept.step() == ["refused"]
        assert kept.keeping.left() == FIRST_SECONDS
        kept.fleet.two.key = key
        assert kept.step(after=FIRST_SECONDS / 2) == ["there", "there"]
        assert kept.step(after=FIRST_SECONDS / 2) == ["moved", "moved"]
        assert kept.keeping.left() == math.inf

    def test_so_does_one_that_is_killed_while_it_loads(self, kept, registry):
        kept.step()
        registry.tag("team/sql@v2", "live")
        kept.fleet.two.hangs_up_at = "/v1/load_lora_adapter"
        assert kept.step() == ["restored", "restored"]
        assert kept.keeping.left() == FIRST_SECONDS
        kept.fleet.two.hangs_up_at = ""
        assert kept.step(after=FIRST_SECONDS) == ["moved", "moved"]

    @pytest.mark.parametrize("route", ["/v1/load_lora_adapter", "/v1/completions"])
    @pytest.mark.parametrize(("status", "seconds"), [(429, FIRST_SECONDS), (503, FIRST_SECONDS), (500, AGAIN_SECONDS)])
    def test_one_that_is_overloaded_or_starting_is_asked_again_soon_and_one_that_fails_is_not(
        self, kept, registry, monkeypatch, route, status, seconds
    ):
        kept.step()
        registry.tag("team/sql@v2", "live")
        two = kept.fleet.two
        answer = two.answer
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(
                two, "answer", lambda how, path, body: (status, "no") if path == route else answer(how, path, body)
            )
            kept.step()
        assert kept.keeping.left() == seconds

    def test_another_version_is_tried_at_once(self, kept, registry):
        registry.tag("team/sql@v3", "live")
        kept.step()
        registry.tag("team/sql@v2", "live")
        assert kept.step() == ["moved", "moved"]

    def test_what_a_replica_forgot_is_loaded_again_and_what_another_loaded_is_told(self, kept):
        kept.step()
        kept.fleet.two.forget()
        assert kept.step() == ["there", "loaded again"]
        kept.fleet.two.loaded["sql"] = "/somewhere/else"
        assert kept.step() == ["there", "drifted"]
        assert kept.told() == [("v1", ["there", "drifted"], "", "team/sql@v1")]

    def test_while_the_registry_does_not_answer_replicas_are_kept_and_it_is_told_later(self, kept):
        kept.step()
        there = kept.fleet.registry
        kept.fleet.registry = Registry(replace(there.settings, url="http://127.0.0.1:9", token="x"))
        cut_off = Kept(kept.fleet)
        kept.fleet.two.forget()
        assert cut_off.step() == ["there", "loaded again"]
        kept.fleet.two.key = "changed"
        assert cut_off.step() == ["there", "silent"]
        kept.fleet.registry = there
        assert kept.told() == [("v1", ["moved", "moved"], "", "team/sql@v1")]
        assert kept.step() == ["there", "silent"]
        assert kept.told() == [("v1", ["there", "silent"], "", "team/sql@v1")]

    def test_a_fleet_that_was_never_deployed_to_waits_for_the_registry(self, kept, registry):
        kept.fleet.file.write_text(kept.fleet.file.read_text().replace("@live", "@nothing"))
        waiting = Kept(kept.fleet)
        [line] = waiting.keeping.step()
        assert (line.outcome, "nothing" in line.why) == ("unknown", True)
        assert waiting.told() == []


class TestReport:
    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"fleet": ""}, "1 to 90 characters"),
            ({"name": "x" * 91}, "1 to 90 characters"),
            ({"replicas": ()}, "or says why nothing was moved"),
            ({"replicas": (Replica("http://a", "moved", "x" * (LONGEST_TEXT + 1)),)}, "not 501"),
            ({"follows": "team/dora@v1"}, "is of another adapter"),
        ],
    )
    def test_what_is_none_is_refused(self, registry, changed, told):
        given = {"fleet": "eu", "name": "sql", "follows": "team/sql@v1", "replicas": (Replica("http://a", "moved"),)}
        with pytest.raises(InvalidInput, match=told):
            registry.report_deployment("team/sql@v1", **given | changed)

    def test_the_newest_of_each_fleet_and_name_counts(self, registry):
        registry.tag("team/sql@v1", "live")
        for fleet, version in (("eu", "v1"), ("us", "v1"), ("eu", "v2")):
            registry.report_deployment(
                f"team/sql@{version}",
                fleet=fleet,
                name="sql",
                follows="team/sql@live",
                replicas=(Replica("http://a", "moved"),),
            )
        found = {each.fleet: (each.version, each.good) for each in registry.deployments("team/sql")}
        assert (found["eu"], found["us"]) == (("team/sql@v2", False), ("team/sql@v1", True))

    def test_there_is_none_of_an_adapter_that_is_not_there(self, registry):
        with pytest.raises(NotFound):
            registry.deployments("team/nothing")


class TestCommand:
    @pytest.fixture
    def ran(self, environment, monkeypatch):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return lambda *arguments: CliRunner().invoke(adapters, ["deploy", *map(str, arguments)])

    def test_what_was_told_is_shown_with_what_is_meant_by_now(self, ran, fleet, registry):
        assert ran("team/dora@v1", "--to", "sql", "--fleet", fleet.file).exit_code == 1
        assert ran("team/sql@v1", "--to", "sql", "--fleet", fleet.file).exit_code == 0
        assert f"{fleet.file.parent.name} sql team/sql@v1 good" in ran("--status", "team/sql", "-q").output
        given = {
            "fleet": "late",
            "name": "sql",
            "follows": "team/sql@live",
            "replicas": (Replica("http://a", "there"),),
        }
        registry.report_deployment("team/sql@v1", **given)
        registry.tag("team/sql@v2", "live")
        behind = ran("--status", "team/sql")
        assert (behind.exit_code, "team/sql@live is team/sql@v2 now" in behind.output) == (1, True)

    @pytest.mark.parametrize("arguments", [[], ["--follow"], ["--status"], ["team/sql@v1"], ["--follow", "--to", "x"]])
    def test_options_that_say_nothing_together_are_refused(self, ran, arguments):
        assert ran(*arguments).exit_code == 2

    def test_a_document_that_serves_nothing_is_not_followed(self, ran, fleet):
        fleet.file.write_text(fleet.file.read_text().replace("serve: {sql: team/sql@live}", ""))
        said = ran("--follow", "--fleet", fleet.file).exception
        assert "has no `serve`" in str(said)
        assert said.exit_code == 8
