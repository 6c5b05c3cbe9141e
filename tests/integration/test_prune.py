"""Retention on a real database: what is old goes, and whatever anything needs stays and says what needs it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from adapter_cli.main import adapters
from adapter_registry.domain.deployment import Replica
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.lineage import Lineage, Parent
from adapter_registry.domain.policies.policy import Evals, Policy
from adapter_registry.domain.policies.process import Process, Rollbacks
from adapter_registry.domain.recipe import Ingredient, Recipe
from tests.integration.test_kill import variant
from tests.integration.test_race import store  # noqa: F401  a fixture

VERSIONS = 8


@pytest.fixture
def aged(store, lora_folder, tmp_path):  # noqa: F811  the fixture
    """v1 to v8, of which nothing is in a stage."""
    me = store.registry()
    for i in range(VERSIONS):
        me.push(variant(lora_folder, tmp_path / f"v{i}", i), base="llama", name="a")
    for stage in ("dev", "staging", "prod"):
        me.set_policy(stage, Policy(stage))
    return store


def numbers(versions) -> list[int]:
    return [version.number for version in versions]


def why(found) -> dict[str, tuple[str, ...]]:
    return {each.reference.rpartition("@")[2]: each.because for each in found.kept}


def test_what_nothing_needs_goes_and_the_newest_stay(aged):
    me = aged.registry()
    planned = me.prune("default/a", older_than_seconds=0, keep=3, dry_run=True)
    assert numbers(me.versions("a")) == [8, 7, 6, 5, 4, 3, 2, 1]
    done = me.prune("default/a", older_than_seconds=0, keep=3)
    assert done == planned
    assert numbers(done.removed) == [5, 4, 3, 2, 1]
    assert why(done) == dict.fromkeys(("v8", "v7", "v6"), ("one of the newest 3",))
    assert numbers(me.versions("a")) == [8, 7, 6]
    assert [e.entry.detail["because"] for e in me.events("a@v5") if e.entry.action == "remove"]
    assert me.prune("default/a", older_than_seconds=0, keep=3).removed == ()
    assert me.verify_store(read_data=True).damage == ()


def test_what_is_young_is_not_looked_at(aged):
    found = aged.registry().prune("default/a", older_than_seconds=3600, keep=1)
    assert (found.removed, found.kept) == ((), ())


def test_a_stage_keeps_what_it_may_go_back_to_and_no_more(aged):
    me = aged.registry()
    for number in (1, 2, 3, 4):
        me.promote(f"a@v{number}", "dev")
    me.set_policy("dev", Policy("dev", process=Process(rollbacks=Rollbacks(window=2))))
    found = me.prune("default/a", older_than_seconds=0, keep=1)
    assert why(found) == {
        "v8": ("one of the newest 1",),
        "v4": ("dev points at it",),
        "v3": ("dev may go back to it",),
        "v2": ("dev may go back to it",),
    }
    me.rollback("a", "dev", reason="slow")
    assert me.resolve("a@dev").number == 3


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
class TestNeeds:
    def test_each_says_what_needs_it(self, aged, lora_folder, tmp_path):
        me = aged.registry()
        me.tag("a@v1", "paper")
        me.set_policy("prod", Policy("prod", evals=Evals(any=True)))
        waiting = me.attempt("a@v2", "prod").request
        me.report_deployment("a@v3", fleet="gpu", name="a", follows="a@v3", replicas=(Replica("http://r", "moved"),))
        two = (Ingredient("a@v4"), Ingredient("a@v5"))
        job = me.submit(Recipe("diff", two, into="a"))
        me.revoke("a@v6", because="leaked")
        parent = me.resolve("a@v7")
        of = (Parent(parent.adapter, parent.number, parent.digest, 0.5),)
        lineage = Lineage("compose", "linear", "peft", of, {}, 0, {}, "cpu", 0.0, ())
        me.push(variant(lora_folder, tmp_path / "child", 40), base="llama", name="child", lineage=lineage)
        found = me.prune("default/a", older_than_seconds=0, keep=1)
        assert found.removed == ()
        assert waiting.name == "P-1"
        assert why(found) == {
            "v8": ("one of the newest 1",),
            "v7": ("default/child@v1 was made of it",),
            "v6": ("it was revoked, and says why",),
            "v5": (f"job {job.id} works on it",),
            "v4": (f"job {job.id} works on it",),
            "v3": ("the fleet gpu serves it",),
            "v2": ("a request for it to enter prod is open",),
            "v1": ("tag paper points at it",),
        }

    def test_what_is_no_age_number_or_adapter_is_refused(self, aged):
        me = aged.registry()
        with pytest.raises(InvalidInput, match="expected 1 to 1,000"):
            me.prune("default/a", older_than_seconds=0, keep=0)
        with pytest.raises(InvalidInput, match="century"):
            me.prune("default/a", older_than_seconds=-1)
        with pytest.raises(NotFound):
            me.prune("default/b", older_than_seconds=0)

    def test_the_command_plans_asks_and_removes(self, aged, monkeypatch):
        monkeypatch.setenv("ADAPTERS_HOME", str(aged.home))
        monkeypatch.setenv("ADAPTERS_CACHE", str(aged.home / "cache"))

        def ran(*arguments: str, said: str | None = None):
            return CliRunner().invoke(adapters, ["prune", *arguments], input=said)

        planned = ran("a", "--older-than", "0s", "--keep", "6", "--dry-run")
        assert "would be removed" in planned.output
        assert "default/a@v2" in planned.output
        assert "default/a@v3 stays: one of the newest 6" in planned.output
        assert ran("--all", "--older-than", "0s", "--keep", "6", said="n\n").exit_code == 1
        assert len(aged.registry().versions("a")) == VERSIONS
        done = ran("--all", "--older-than", "0s", "--keep", "6", "--yes", "--json")
        assert [v["number"] for v in json.loads(done.output)[0]["removed"]] == [2, 1]
        asked = ran("a", "--older-than", "90d", "--json")
        assert json.loads(asked.output) == [{"adapter": "default/a", "removed": [], "kept": []}]
        assert "nothing was removed" in ran("a", "--older-than", "90d", "--yes").output
        assert ran("--older-than", "90d").exit_code == 2
        assert "nothing is that old" in str(ran("a", "--older-than", "never").exception)
