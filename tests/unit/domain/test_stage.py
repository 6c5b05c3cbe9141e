import pytest

from adapter_registry.domain.errors import InvalidReference
from adapter_registry.domain.names import check_tag
from adapter_registry.domain.stage import STAGES, below, check_stage, rank


def test_stages_are_ordered_lowest_first():
    assert sorted(reversed(STAGES), key=rank) == ["dev", "staging", "prod"]
    assert below("prod") == ("dev", "staging")
    assert below("dev") == ()


@pytest.mark.parametrize(
    ("text", "hint"), [("production", "prod"), ("Prod", "prod"), ("stagin", "staging"), ("development", "dev")]
)
def test_what_is_not_a_stage_is_refused_with_the_nearest(text, hint):
    with pytest.raises(InvalidReference, match=f"Did you mean {hint}"):
        check_stage(text)


def test_what_resembles_no_stage_gets_the_list_alone():
    with pytest.raises(InvalidReference, match=r"the stages are dev, staging, prod, lowest first\.$"):
        check_stage("v3")


@pytest.mark.parametrize("stage", STAGES)
def test_no_tag_can_bear_a_stage_s_name(stage):
    with pytest.raises(InvalidReference, match="is a stage, not a tag"):
        check_tag(stage)
