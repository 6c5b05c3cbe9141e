"""Stages are declared, ordered without cycles, and their names are nobody else's."""

import pytest

from adapter_registry.domain.errors import Conflict, InvalidInput, InvalidReference
from adapter_registry.domain.names import STAGE_NAMES, check_tag
from adapter_registry.domain.policies.file import read_policy
from adapter_registry.domain.policies.lint import misplaced
from adapter_registry.domain.policies.policy import preset
from adapter_registry.domain.policies.process import Mode, Soak, Sources
from adapter_registry.domain.promotions.stage import Ladder, Stage, place_of

QA = (
    Ladder()
    .declared(Stage("qa", sources=Sources(("staging",), hotfix=("dev",))))
    .declared(Stage("prod", sources=Sources(("qa",)), like="prod", lanes=("canary",)))
)

NO_NAMES = ("main", "latest", "v3", "deadbeef", "a.b", "A", "", "a--b", "a/b", "x" * 33)


def test_a_registry_begins_with_three_stages_lowest_first():
    assert Ladder().names == STAGE_NAMES == ("dev", "staging", "prod")
    assert Ladder().below("prod") == ("dev", "staging")
    assert Ladder().below("dev") == ()


def test_stages_stand_above_what_they_come_from_in_whatever_order_they_were_declared():
    assert QA.names == ("dev", "staging", "qa", "prod")
    assert QA.below("prod") == ("dev", "staging", "qa")
    side = QA.declared(Stage("audit", sources=Sources(("dev",))))
    assert side.below("audit") == ("dev",)
    assert "audit" not in side.below("prod")


@pytest.mark.parametrize(
    ("text", "hint"), [("production", "prod"), ("Prod", "prod"), ("stagin", "staging"), ("development", "dev")]
)
def test_what_is_not_a_stage_is_refused_with_the_nearest(text, hint):
    with pytest.raises(InvalidReference, match=f"Did you mean {hint}"):
        Ladder().check(text)


def test_what_resembles_no_stage_gets_the_list_alone():
    with pytest.raises(InvalidReference, match=r"the stages are dev, staging, prod, lowest first\.$"):
        Ladder().check("v3")


def test_a_lane_is_a_place_of_its_stage_alone():
    assert QA.check("prod.canary") == place_of("prod", "canary")
    assert place_of("prod", "main") == place_of("prod", None) == "prod"
    for place in ("qa.canary", "prod.eu", "prod.main", "prod."):
        with pytest.raises(InvalidReference, match="is no lane of"):
            QA.check(place)
    with pytest.raises(InvalidReference, match="so write that"):
        QA.whole("prod.canary")


def test_a_stage_may_be_of_some_adapters_only():
    scoped = QA.declared(Stage("eu", sources=Sources(("prod",)), scope="search"))
    assert scoped.check("eu", "search/a") == "eu"
    with pytest.raises(InvalidReference, match=r"of search/\* only; the stages of team/a are dev, staging, qa, prod"):
        scoped.check("eu", "team/a")


@pytest.mark.parametrize(
    ("stage", "refusal"),
    [
        (Stage("dev", sources=Sources(("prod",))), "dev would be below itself: dev -> prod -> qa -> staging -> dev"),
        (Stage("qa", sources=Sources(("qa",))), "qa would be below itself: qa -> qa"),
        (Stage("x", sources=Sources(("nowhere",))), "'nowhere' is not a stage"),
        (Stage("x", sources=Sources(("dev",), hotfix=("prod",))), "cannot come from prod, which is not below it"),
        (Stage("x", sources=Sources((), hotfix=("dev",))), "name a stage with --from"),
        (Stage("x", like="qa"), "like one of dev, staging, prod"),
        (Stage("x", lanes=("a", "a")), "lanes differ in name"),
        (Stage("x", lanes=("main",)), "reserved"),
        *((Stage(name), "not a name for|reserved") for name in NO_NAMES),
    ],
)
def test_what_makes_no_sense_is_refused(stage, refusal):
    with pytest.raises((InvalidInput, InvalidReference), match=refusal):
        QA.declared(stage)


def test_a_stage_that_another_comes_from_is_not_taken_away():
    with pytest.raises(Conflict, match="prod comes from qa"):
        QA.without("qa")
    assert QA.declared(Stage("prod", after=("staging",))).without("qa").names == ("dev", "staging", "prod")


@pytest.mark.parametrize("name", [*STAGE_NAMES, "prod.canary", "qa", "qa.x"])
def test_no_tag_can_bear_a_stage_s_name_nor_read_as_a_lane_of_one(name):
    with pytest.raises(InvalidReference, match="is a stage, not a tag"):
        check_tag(name, QA.names)


def test_the_presets_ask_of_a_stage_the_way_it_was_declared_with():
    sources = Sources(("qa",), Mode.ONE_OF, ("dev",))
    asked = preset("regulated", stage=Stage("eu", sources=sources, like="prod"))
    assert (asked.stage, asked.process.sources, asked.process.soak) == ("eu", sources, Soak("qa", 86_400))
    assert asked.evals == preset("regulated", stage="prod").evals
    assert preset("solo", stage=Stage("eu")).process.sources is None


def test_a_policy_may_name_only_stages_below_its_own():
    assert misplaced(preset("regulated", stage="prod"), QA) == ()
    aside = QA.declared(Stage("prod", sources=Sources(("dev",)), like="prod"))
    found = misplaced(preset("regulated", stage="prod"), aside)
    assert [(each.rule, each.text) for each in found] == [
        ("from", "staging is not below prod: below prod is dev"),
        ("soak", "staging is not below prod: below prod is dev"),
    ]


@pytest.mark.parametrize("document", ["from: {stages: [staging.eu]}", "require: {soak: {in: staging.eu, min: 1h}}"])
def test_what_has_to_be_in_a_lane_first_needs_a_stage_and_is_told_so(document):
    start = "apiVersion: adapters/v1\nkind: StagePolicy\nstage: prod\n"
    with pytest.raises(InvalidInput, match="no lane: what has to be in one first needs a stage of its own"):
        read_policy(start + document)
    with pytest.raises(InvalidReference, match="what has to be in one first needs a stage of its own"):
        Ladder().declared(Stage("prod", sources=Sources(("staging.eu",))))
