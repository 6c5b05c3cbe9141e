"""Rules about what was made of others: against its parents, and of withdrawn ones."""

from dataclasses import replace

import pytest

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.policies.evals import Against
from adapter_registry.domain.policies.file import read_policy, to_yaml
from adapter_registry.domain.policies.policy import Comparison, Evals, Margin, Policy, Test
from adapter_registry.domain.promotions.finding import Incumbent, Outcome
from adapter_registry.domain.promotions.gate import judge
from adapter_registry.domain.promotions.promotion import inputs_digest
from tests.unit.domain.test_gate import ACC, V3, acc, recorded

MARKED = replace(V3, revoked_ancestors=("team/a@v1", "team/b@v2"))
SURE = {"n": 100_000}


def parent(name, *scores):
    return Incumbent(name, V3.digest, tuple(recorded(score) for score in scores))


def against_parents(metric=ACC, test=Test.NON_INFERIOR, margin=0.01):
    rule = Comparison(metric, test, Margin(margin), against=Against.PARENTS)
    return Policy("prod", evals=Evals(comparisons=(rule,)))


def said(policy, *scores, parents):
    subject = replace(V3, scores=tuple(recorded(score) for score in scores), parents=parents)
    return [(finding.rule, finding.outcome) for finding in judge(policy, subject)]


class TestParents:
    def test_each_parent_is_another_side_to_compare_with(self):
        parents = (parent("t/a@v1", acc(0.50, **SURE)), parent("t/b@v4", acc(0.70, **SURE)))
        assert said(against_parents(), acc(0.51, **SURE), parents=parents) == [
            (f"{ACC} non-inferior to t/a@v1", Outcome.PASS),
            (f"{ACC} non-inferior to t/b@v4", Outcome.FAIL),
        ]

    @pytest.mark.parametrize("metric", [ACC, "*"])
    def test_what_was_made_of_nothing_is_not_compared(self, metric):
        assert said(against_parents(metric), parents=()) == [(f"{metric} non-inferior to its parents", Outcome.WAIVED)]

    @pytest.mark.parametrize("metric", [ACC, "*"])
    def test_missing_scores_of_either_side_never_pass(self, metric):
        measured, unmeasured = (parent("t/a@v1", acc(0.5, **SURE)),), (parent("t/a@v1"),)
        assert [outcome for _, outcome in said(against_parents(metric), parents=measured)] == [Outcome.PENDING]
        found = said(against_parents(metric), acc(0.5, **SURE), parents=unmeasured)
        assert [outcome for _, outcome in found] == [Outcome.PENDING]

    def test_claims_against_several_parents_are_corrected_together(self):
        parents = tuple(parent(f"t/{name}@v1", acc(0.4, **SURE)) for name in "abc")
        subject = replace(V3, scores=(recorded(acc(0.5, **SURE)),), parents=parents)
        found = judge(against_parents(test=Test.SUPERIOR, margin=0.0), subject)
        assert {each.correction.partition(":")[0] for each in found} == {"Holm"}

    def test_the_decision_rests_on_the_parents_scores(self):
        policy = against_parents()
        subjects = [replace(V3, parents=(parent("t/a@v1", *scores),)) for scores in ((), (acc(0.5),), (acc(0.6),))]
        assert len({inputs_digest(policy, each) for each in (V3, *subjects)}) == 4


class TestRevokedAncestors:
    def test_they_stand_in_the_way_unless_the_policy_only_warns(self):
        [finding] = judge(Policy("prod"), MARKED)
        assert (finding.rule, finding.outcome, finding.blocks) == ("ancestry", Outcome.FAIL, True)
        assert "team/a@v1, team/b@v2, which were revoked" in finding.reason
        [finding] = judge(Policy("prod", revoked_ancestors_pass=True), MARKED)
        assert not finding.blocks
        assert judge(Policy("prod"), V3) == ()

    def test_the_decision_rests_on_them(self):
        assert inputs_digest(Policy("prod"), MARKED) != inputs_digest(Policy("prod"), V3)


class TestDocument:
    TEXT = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
require:
  ancestry: {revoked: warn}
  evals: [{metric: gsm8k/acc, test: non-inferior, margin: 0.01, against: parents}]
"""

    def test_it_is_read_and_written(self):
        read = read_policy(self.TEXT)
        assert read == replace(against_parents(), revoked_ancestors_pass=True)
        assert read_policy(to_yaml(read)) == read

    def test_a_comparison_with_parents_cannot_wait_for_an_incumbent(self):
        with pytest.raises(InvalidInput, match="no waive_if against parents"):
            read_policy(self.TEXT.replace("against: parents", "against: parents, waive_if: no-incumbent"))
