"""Stages that a registry declared, beyond the ones it begins with: the way through them, and what is refused."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from adapter_registry.client import Registry
from adapter_registry.domain.errors import Conflict, InUse, InvalidInput, InvalidReference
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.people.access import Grant, within
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Approvals, Mode, Process, Soak, Sources
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import State
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.settings import read_settings
from tests.integration.test_kill import variant

QA = Stage("qa", sources=Sources(("dev",)), like="dev")


@pytest.fixture
def registry(tmp_path, llama_folder, lora_folder):
    """team/a at v3, measured; stages dev, staging, prod as they are."""
    made = opened(tmp_path, "me")
    made.add_base("llama", llama_folder)
    for i in range(3):
        made.push(variant(lora_folder, tmp_path / f"v{i}", i), base="llama", name="team/a")
        made.add_scores(f"team/a@v{i + 1}", (Score("x/acc", 0.5, Direction.HIGHER, n=100_000),))
    return made


def opened(tmp_path, actor):
    given = {"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path / "cache")}
    return Registry(read_settings({**given, "ADAPTERS_ACTOR": actor}))


def blockers(judged):
    return [(finding.rule, finding.reason) for finding in judged.decision.blockers]


def test_a_declared_stage_asks_for_the_stages_it_comes_from(registry):
    assert registry.declare_stage(QA, new=True).names == ("dev", "staging", "prod", "qa")
    waiting = registry.explain("team/a@v1", "qa")
    assert blockers(waiting) == [("from", "has to be in dev first")]
    registry.promote("team/a@v1", "dev")
    assert registry.promote("team/a@v1", "qa").promotion.stage == "qa"
    assert registry.resolve("team/a@qa").stages == ("dev", "qa")
    assert registry.history("team/a").pointing == {"dev": 1, "qa": 1}
    assert [line.adapter for line in registry.adapters(stage="qa")] == ["team/a"]
    assert [v.number for v in registry.versions("team/a", where="stage = qa")] == [1]


def test_one_of_several_stages_is_enough_where_it_says_so_and_a_hotfix_takes_its_own_way(registry):
    registry.declare_stage(QA)
    registry.declare_stage(Stage("gate", sources=Sources(("qa", "staging"), Mode.ONE_OF, ("dev",)), like="dev"))
    registry.promote("team/a@v1", "staging")
    assert registry.explain("team/a@v1", "gate").decision.promotes
    registry.promote("team/a@v2", "dev")
    assert blockers(registry.explain("team/a@v2", "gate")) == [("from", "has to be in qa or staging first")]
    hotfix = registry.attempt("team/a@v2", "gate", hotfix=True, reason="outage")
    assert blockers(hotfix) == [("approvals", "0 of 1")]
    assert opened(registry.settings.home.parent, "bob").approve(hotfix.request).promotion.number == 2


def test_a_stage_s_policy_may_name_what_is_below_it_and_nothing_else(registry):
    registry.declare_stage(QA)
    with pytest.raises(InvalidInput, match="qa is not below staging: below staging is dev"):
        registry.set_policy("staging", Policy("staging", process=Process(Sources(("qa",)))))
    registry.declare_stage(Stage("staging", sources=Sources(("qa",)), like="staging"))
    registry.set_policy("staging", Policy("staging", process=Process(soak=Soak("qa", 60))))
    with pytest.raises(InvalidInput, match="the policy of staging would not hold: qa is not below staging"):
        registry.declare_stage(Stage("staging", sources=Sources(("dev",)), like="staging"))
    with pytest.raises(InvalidReference, match="'qb' is not a stage"):
        registry.set_policy("qb", Policy("qb"))


def test_a_stage_that_is_in_use_stays(registry):
    registry.declare_stage(QA)
    registry.attempt("team/a@v1", "qa")
    with pytest.raises(InUse, match="P-1 wait for qa"):
        registry.remove_stage("qa")
    registry.cancel(registry.request("P-1"))
    registry.promote("team/a@v1", "dev")
    registry.promote("team/a@v1", "qa")
    with pytest.raises(InUse, match="team/a@qa would not resolve any more"):
        registry.remove_stage("qa")
    with pytest.raises(InUse, match="team/a@qa would not resolve any more"):
        registry.declare_stage(Stage("qa", sources=Sources(("dev",)), scope="other/*"))
    with pytest.raises(Conflict, match="staging and qa come from dev"):
        registry.remove_stage("dev")


def test_a_stage_nobody_is_in_goes_and_its_policy_is_kept(registry):
    registry.declare_stage(QA)
    registry.set_policy("qa", Policy("qa", metadata=("owner",)))
    assert registry.remove_stage("qa").names == ("dev", "staging", "prod")
    with pytest.raises(InvalidReference, match="'qa' is not a stage"):
        registry.explain("team/a@v1", "qa")
    registry.declare_stage(QA)
    assert registry.policy("qa").revision == 1
    changes = [(e.entry.action, e.entry.subject) for e in registry.events() if e.entry.action.startswith("stage.")]
    assert changes == [("stage.set", "qa"), ("stage.remove", "qa"), ("stage.set", "qa")]


def test_tags_and_stages_do_not_take_each_other_s_names(registry):
    registry.tag("team/a@v1", "candidate")
    with pytest.raises(Conflict, match="team/a has a tag or branch that 'candidate' would shadow"):
        registry.declare_stage(Stage("candidate"))
    assert "candidate" in registry.declare_stage(Stage("candidate", scope="other/*")).names
    registry.declare_stage(QA)
    with pytest.raises(InvalidReference, match="'qa' is a stage, not a tag"):
        registry.tag("team/a@v1", "qa")
    with pytest.raises(Conflict, match="qa is a stage already"):
        registry.declare_stage(QA, new=True)


def test_rights_are_given_on_stages_that_there_are(registry):
    registry.create_account("ci")
    with pytest.raises(InvalidReference, match=r"'prd' is not a stage.*Did you mean prod"):
        registry.grant("ci", "team/*", ("promote:prd",))
    registry.declare_stage(QA)
    assert registry.grant("ci", "team/*", ("promote:qa",)).grants[0].covers("promote:qa", "team/a")


def test_a_stage_of_one_namespace_is_none_of_another_s(registry, lora_folder):
    registry.declare_stage(Stage("eu", scope="other/*"))
    with pytest.raises(InvalidReference, match=r"eu is a stage of other/\* only"):
        registry.attempt("team/a@v1", "eu")
    registry.push(lora_folder, base="llama", name="other/b")
    registry.add_scores("other/b@v1", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    assert registry.attempt("other/b@v1", "eu").decision.outcome is Result.PROMOTE


def test_declaring_what_is_so_already_changes_nothing(registry):
    assert registry.declare_stage(QA) == registry.declare_stage(QA)
    assert len([e for e in registry.events() if e.entry.action == "stage.set"]) == 1


@pytest.mark.parametrize(
    ("begins", "ends", "zone", "told"),
    [
        ("fri 16:00", "2999-01-01", "UTC", "'2999-01-01' is no time of every week, as the other one is"),
        ("fri 16:00", "mon 8:00", "UTC", "'mon 8:00' is no time of every week, as the other one is"),
        ("fri 24:00", "mon 08:00", "UTC", "'fri 24:00' is no time of every week"),
        ("friday 16:00", "mon 08:00", "UTC", "'friday 16:00' is no time of every week"),
        ("fri 16:00", "fri 16:00", "UTC", "ends at another time than it begins"),
        ("2027-01-01", "2026-01-01", "UTC", "2026-01-01 is not after 2027-01-01"),
        ("2027-01-01", "noon", "UTC", "'noon' is no time: write both as"),
        ("2027-01-01T00:00Z", "2027-01-02", "UTC", "2027-01-01T00:00Z has an offset"),
        ("2027-01-01", "2027-01-02", "Mars/Phobos", "'Mars/Phobos' is no zone"),
        ("2027-01-01", "2027-01-02", "../../etc/passwd", "is no zone"),
        ("2027-01-01", "2027-01-02", "", "'' is no zone"),
    ],
)
def test_a_freeze_is_a_time_or_a_time_of_every_week(tmp_path, begins, ends, zone, told):
    registry = opened(tmp_path, "me")
    with pytest.raises(InvalidInput, match=re.escape(told)):
        registry.freeze(begins, ends, zone=zone, reason="audit")
    made = registry.freeze("Fri  16:00", "mon 08:00", zone="Europe/Berlin", reason="weekend")
    assert registry.freezes() == (made,)
    assert (made.begins, made.ends, made.weekly) == ("fri 16:00", "mon 08:00", True)


class TestLanes:
    @pytest.fixture
    def lanes(self, registry):
        """v1 is in prod, which has lanes canary and eu, and takes a score of at least 0.5 no worse than before."""
        registry.declare_stage(Stage("prod", after=("staging",), like="prod", lanes=("canary", "eu")))
        registry.promote("team/a@v1", "prod")
        return registry

    def test_each_lane_has_an_incumbent_a_history_and_a_way_back_of_its_own(self, lanes):
        lanes.promote("team/a@v2", "prod.canary")
        lanes.promote("team/a@v3", "prod.canary")
        assert lanes.history("team/a").pointing == {"prod": 1, "prod.canary": 3}
        assert (lanes.resolve("team/a@prod").number, lanes.resolve("team/a@prod.canary").number) == (1, 3)
        assert lanes.rollback("team/a", "prod.canary", reason="slow").number == 2
        assert [move.sequence for move in lanes.history("team/a", "prod.canary").moves] == [3, 2, 1]
        assert [move.sequence for move in lanes.history("team/a", "prod").moves] == [1]
        assert lanes.hold("team/a", "prod.canary").by == "me"
        assert lanes.hold("team/a", "prod") is None
        pointer = lanes.pointer("team/a", "prod.canary")
        assert (pointer.stage, pointer.sequence, pointer.number) == ("prod.canary", 3, 2)

    def test_the_first_version_of_a_lane_is_compared_with_the_main_lane_s(self, lanes):
        lanes.add_scores("team/a@v2", (Score("x/acc", 0.3, Direction.HIGHER, n=1000),))
        refused = lanes.attempt("team/a@v2", "prod.canary")
        assert refused.decision.outcome is Result.REFUSED
        assert "against 0.5 of v1" in refused.decision.blockers[0].reason

    def test_lanes_wait_and_are_approved_each_for_itself(self, lanes, tmp_path):
        lanes.set_policy("prod", Policy("prod", process=Process(approvals=Approvals(1))))
        first = lanes.attempt("team/a@v2", "prod.canary").request
        second = lanes.attempt("team/a@v3", "prod").request
        assert {each.stage for each in lanes.requests()} == {"prod.canary", "prod"}
        opened(tmp_path, "bob").approve(first)
        assert lanes.history("team/a").pointing == {"prod": 1, "prod.canary": 2}
        assert lanes.request(second.name).state is State.WAITING

    def test_what_stops_a_stage_stops_its_lanes_and_not_the_other_way_round(self, lanes):
        given = {"reason": "audit", "scope": "team/*"}
        lanes.freeze("2020-01-01T00:00", "2999-01-01T00:00", stage="prod.canary", **given)
        assert lanes.explain("team/a@v2", "prod").decision.promotes
        assert lanes.explain("team/a@v2", "prod.eu").decision.promotes
        assert blockers(lanes.explain("team/a@v2", "prod.canary"))[0][0] == "freeze"
        lanes.freeze("2020-01-01T00:00", "2999-01-01T00:00", stage="prod", **given)
        assert blockers(lanes.explain("team/a@v2", "prod.eu"))[0][0] == "freeze"

    def test_the_right_to_a_stage_covers_its_lanes_and_the_right_to_a_lane_that_lane(self):
        stage, lane = Grant("team/*", ("promote:prod",)), Grant("team/*", ("promote:prod.canary",))
        assert stage.covers("promote:prod.canary", "team/a")
        assert lane.covers("promote:prod.canary", "team/a")
        assert not lane.covers("promote:prod", "team/a")
        assert not lane.covers("promote:prod.eu", "team/a")
        assert within((lane,), (stage,))
        assert not within((stage,), (lane,))

    def test_the_pointers_of_lanes_can_be_made_again_from_the_log(self, lanes):
        for version in (2, 3):
            lanes.promote(f"team/a@v{version}", "prod.canary")
        lanes.rollback("team/a", "prod.canary")
        digests = {}
        for event in lanes.events("team/a"):
            detail = event.entry.detail
            if "sequence" in detail:
                digests[detail["stage"]] = detail["digest"]
        assert digests == {place: lanes.resolve(f"team/a@{place}").digest for place in ("prod", "prod.canary")}

    def test_a_lane_that_something_is_in_stays(self, lanes):
        lanes.promote("team/a@v2", "prod.canary")
        with pytest.raises(InUse, match=r"team/a@prod.canary would not resolve any more"):
            lanes.declare_stage(Stage("prod", after=("staging",), like="prod", lanes=("eu",)))
        lanes.declare_stage(Stage("prod", after=("staging",), like="prod", lanes=("canary",)))
        with pytest.raises(InvalidReference, match=r"'prod.eu' is no lane of prod: it has main, canary"):
            lanes.attempt("team/a@v2", "prod.eu")
        self._old_tag(lanes)
        with pytest.raises(Conflict, match=r"team/a has a tag or branch that 'dev\.old' would shadow"):
            lanes.declare_stage(Stage("dev", like="dev", lanes=("old",)))

    def _old_tag(self, registry):
        """A tag from before stages had lanes."""
        with closing(sqlite3.connect(registry.settings.database, isolation_level=None)) as database:
            database.execute(
                "INSERT INTO tags SELECT adapter_id, 'dev.old', id, 'me', '' FROM versions WHERE number = 1"
            )
