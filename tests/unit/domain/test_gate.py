import math
from dataclasses import replace
from statistics import NormalDist

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.lock import Difference, Level, Verdict
from adapter_registry.domain.policies.policy import (
    Bound,
    Comparison,
    Evals,
    Health,
    Margin,
    Matched,
    Policy,
    Test,
    WaiveIf,
    preset,
)
from adapter_registry.domain.promotions import gate
from adapter_registry.domain.promotions.finding import Finding, Incumbent, Outcome, Subject
from tests.descriptions import LORA

V3 = Subject(
    reference="acme/sql@v3",
    digest=Digest("sha256:" + "3" * 64),
    base=Digest("sha256:" + "b" * 64),
    base_reference="tiny@bbbbbbbbbbbb",
    verdict=Verdict(Level.EXACT),
    description=LORA,
)
ACC, LOSS = "gsm8k/acc", "heldout/loss"


def acc(value: float, **facts: object) -> Score:
    return replace(Score(ACC, value, Direction.HIGHER), **facts)


def loss(value: float, **facts: object) -> Score:
    return replace(Score(LOSS, value, Direction.LOWER), **facts)


def after(*scores: Score, incumbent: tuple[Score, ...] = ()) -> Subject:
    """v3 with these scores, v2 holding the stage."""
    return replace(V3, scores=scores, incumbent=Incumbent("acme/sql@v2", Digest("sha256:" + "2" * 64), incumbent))


def recorded(score: Score, **facts: object) -> RecordedScore:
    return RecordedScore(V3.digest, "acme/sql@v3", score, "ann", "2026-03-01T10:00:00.000000Z", **facts)


def weighable(subject: Subject) -> Subject:
    """The subject with its bare scores recorded."""

    def each(scores):
        return tuple(recorded(score) if isinstance(score, Score) else score for score in scores)

    incumbent = subject.incumbent and replace(subject.incumbent, scores=each(subject.incumbent.scores))
    return replace(
        subject, scores=each(subject.scores), base_scores=each(subject.base_scores), incumbent=incumbent, at=NOW
    )


NOW = "2026-03-02T10:00:00.000000Z"


def judge(policy: Policy, subject: Subject) -> tuple[Finding, ...]:
    return gate.judge(policy, weighable(subject))


def rule(**evals: object) -> Policy:
    return Policy("prod", evals=Evals(**evals))


def not_worse(margin: float = 0.0, *, metric: str = "*", **facts: object) -> Policy:
    return rule(comparisons=(Comparison(metric, Test.NON_INFERIOR, Margin(margin), **facts),))


def superior(margin: float = 0.0) -> Policy:
    return rule(comparisons=(Comparison("*", Test.SUPERIOR, Margin(margin)),))


def only(policy: Policy, subject: Subject) -> Finding:
    [finding] = judge(policy, subject)
    return finding


class TestCompatibility:
    def test_an_accepted_verdict_passes(self):
        finding = only(preset("solo", stage="dev"), V3)
        assert str(finding) == "PASS         compatibility: exact: tiny@bbbbbbbbbbbb"

    def test_another_verdict_fails_with_its_differences(self):
        verdict = Verdict(Level.INCOMPATIBLE, tuple(Difference(f"layer.{n}", "F32", "absent") for n in range(5)))
        finding = only(preset("solo", stage="dev"), replace(V3, verdict=verdict))
        assert finding.outcome is Outcome.FAIL
        assert "must be exact or equivalent: layer.0: expected F32, found absent" in finding.reason
        assert "and 2 more" in finding.reason

    def test_a_base_that_is_not_registered_is_an_error_and_no_pass(self):
        finding = only(preset("solo", stage="dev"), replace(V3, verdict=None))
        assert finding.outcome is Outcome.ERROR
        assert "adapters base add" in finding.fix


class TestHealth:
    ALL = Policy("prod", health=Health(Matched.ALL, finite=True, nonzero=True))
    SOME = Policy("prod", health=Health(Matched.SOME, finite=True, nonzero=True))

    def test_a_sound_adapter_passes_and_says_why(self):
        finding = only(self.ALL, V3)
        assert finding.outcome is Outcome.PASS
        assert finding.reason.startswith("48 of 48 targeted modules changed; every value finite")

    def test_an_adapter_that_changes_nothing_fails(self):
        finding = only(self.SOME, replace(V3, description=replace(LORA, nonzero=False)))
        assert finding.outcome is Outcome.FAIL
        assert "it changes nothing" in finding.reason

    def test_a_few_layers_satisfy_some_and_not_all(self):
        few = replace(V3, description=replace(LORA, modules=12))
        assert only(self.SOME, few).outcome is Outcome.PASS
        assert only(self.ALL, few).outcome is Outcome.FAIL
        assert "changes 12 of the 48 modules" in only(self.ALL, few).reason

    def test_a_prompt_changes_no_module_and_passes(self):
        prompt = replace(V3, description=replace(LORA, peft_type="PROMPT_TUNING", modules=0, candidates=0))
        assert only(self.ALL, prompt).outcome is Outcome.PASS


class TestMetadata:
    def test_a_missing_label_waits_and_names_the_command(self):
        finding = only(Policy("prod", metadata=("owner",)), V3)
        assert finding.outcome is Outcome.PENDING
        assert finding.fix == "adapters label acme/sql@v3 owner=..."

    def test_a_blank_label_says_nothing(self):
        assert only(Policy("prod", metadata=("owner",)), replace(V3, labels={"owner": " "})).blocks

    def test_the_message_of_the_push_is_a_description(self):
        finding = only(Policy("prod", metadata=("description",)), replace(V3, message="SQL, second run\nmore"))
        assert (finding.outcome, finding.reason) == (Outcome.PASS, "SQL, second run")


class TestAnyScore:
    def test_none_waits(self):
        assert only(rule(any=True), V3).outcome is Outcome.PENDING

    def test_one_passes(self):
        assert str(only(rule(any=True), replace(V3, scores=(acc(0.5),)))).endswith("1 metric measured: gsm8k/acc")

    def test_nothing_but_nan_fails(self):
        assert only(rule(any=True), replace(V3, scores=(acc(math.nan),))).outcome is Outcome.FAIL


class TestBounds:
    @pytest.mark.parametrize(("value", "outcome"), [(0.41, Outcome.FAIL), (0.42, Outcome.PASS), (0.43, Outcome.PASS)])
    def test_the_bound_itself_passes(self, value, outcome):
        finding = only(rule(bounds=(Bound(ACC, min=0.42),)), replace(V3, scores=(acc(value, n=1319),)))
        assert finding.outcome is outcome
        assert (finding.value, finding.bound, finding.n) == (value, 0.42, 1319)

    def test_it_reads_without_the_policy_at_hand(self):
        finding = only(rule(bounds=(Bound(ACC, min=0.42),)), replace(V3, scores=(acc(0.4471, n=1319),)))
        assert str(finding) == "PASS         gsm8k/acc ≥ 0.42: 0.4471 ≥ 0.42 (n=1,319)"

    def test_a_near_miss_shows_enough_digits_to_be_seen(self):
        finding = only(rule(bounds=(Bound(ACC, min=0.42),)), replace(V3, scores=(acc(0.4199999),)))
        assert "0.4199999, must be ≥ 0.42" in finding.reason

    def test_a_metric_never_measured_waits_and_offers_what_was(self):
        policy = rule(bounds=(Bound("gsm8k/exact_match", min=0.4),))
        finding = only(policy, replace(V3, scores=(replace(acc(0.5), metric="gsm8k/exact_match@strict-match"),)))
        assert finding.outcome is Outcome.PENDING
        assert "measured so far: gsm8k/exact_match@strict-match" in finding.fix

    @pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
    def test_what_is_no_number_fails_and_the_finding_holds_none(self, value, word):
        finding = only(rule(bounds=(Bound(LOSS, max=3),)), replace(V3, scores=(loss(value),)))
        assert (finding.outcome, finding.value) == (Outcome.FAIL, None)
        assert f"measured as {word}" in finding.reason

    def test_the_latest_score_counts(self):
        policy = rule(bounds=(Bound(ACC, min=0.5),))
        assert only(policy, replace(V3, scores=(acc(0.6), acc(0.4)))).outcome is Outcome.FAIL
        assert only(policy, replace(V3, scores=(acc(0.4), acc(0.6)))).outcome is Outcome.PASS

    def test_a_lone_bound_on_the_wrong_side_is_a_mistake_in_the_policy(self):
        finding = only(rule(bounds=(Bound(LOSS, min=0.5),)), replace(V3, scores=(loss(2.0),)))
        assert finding.outcome is Outcome.ERROR
        assert "lower is better for heldout/loss" in finding.reason

    def test_a_percentage_is_held_against_no_share(self):
        finding = only(rule(bounds=(Bound(ACC, min=0.42),)), after(acc(5.0, n=500)))
        assert (finding.outcome, finding.value) == (Outcome.ERROR, 5.0)
        assert finding.reason == "a rate lies between 0 and 1, and 5 does not: is it a percentage?"
        assert "as a share" in finding.fix

    def test_a_range_may_bound_the_good_side_too(self):
        finding = only(rule(bounds=(Bound(LOSS, min=0.5, max=3),)), replace(V3, scores=(loss(2.0),)))
        assert str(finding) == "PASS         heldout/loss ≥ 0.5 and ≤ 3: 2 ≥ 0.5 and ≤ 3"


class TestComparison:
    def test_a_clear_gain_passes_and_reads_by_itself(self):
        subject = after(loss(2.41, stderr=0.05, n=100), incumbent=(loss(2.81, stderr=0.06, n=100),))
        finding = only(preset_prod_comparison(), subject)
        assert finding.outcome is Outcome.PASS
        assert finding.reason == (
            "2.41 against 2.81 of v2: better by 0.4, 95% bounds [+0.271, +0.529], margin -0.0562 (2%); "
            "Welch's t from both standard errors, n=100"
        )

    def test_a_clear_loss_is_refused(self):
        subject = after(loss(2.81, stderr=0.05, n=100), incumbent=(loss(2.41, stderr=0.05, n=100),))
        assert only(preset_prod_comparison(), subject).outcome is Outcome.FAIL

    def test_two_hundred_samples_of_noise_decide_nothing_and_say_how_many_would(self):
        subject = after(acc(0.60, n=200), incumbent=(acc(0.62, n=200),))
        finding = only(preset_prod_comparison(), subject)
        assert finding.outcome is Outcome.INCONCLUSIVE
        assert finding.fix.startswith("score both on ")
        assert f"{finding.needed:,} more samples" in finding.fix

    def test_the_number_that_would_decide_does_decide(self):
        subject = after(acc(0.63, n=200), incumbent=(acc(0.62, n=200),))
        needed = 200 + only(not_worse(0.02), subject).needed
        enough = after(acc(0.63, n=needed), incumbent=(acc(0.62, n=needed),))
        short = after(acc(0.63, n=needed - 1), incumbent=(acc(0.62, n=needed - 1),))
        assert only(not_worse(0.02), enough).outcome is Outcome.PASS
        assert only(not_worse(0.02), short).outcome is Outcome.INCONCLUSIVE

    @pytest.mark.parametrize("spread", [{}, {"stderr": 0.4}], ids=["rates", "standard errors"])
    def test_it_does_where_one_side_has_far_fewer_samples_too(self, spread):
        def sides(n, m):
            scale = {k: v / math.sqrt(n) for k, v in spread.items()}, {k: v / math.sqrt(m) for k, v in spread.items()}
            return after(acc(0.54, n=n, **scale[0]), incumbent=(acc(0.5, n=m, **scale[1]),))

        finding = only(superior(), sides(5, 1000))
        enough = 5 + finding.needed
        assert finding.fix == f"score both on at least {enough:,} samples: that decides if the difference stays"
        assert only(superior(), sides(enough, max(enough, 1000))).outcome is Outcome.PASS
        assert only(superior(), sides(enough - 1, max(enough - 1, 1000))).outcome is Outcome.INCONCLUSIVE

    def test_a_rate_without_a_standard_error_is_bounded_by_n_and_says_so(self):
        finding = only(not_worse(0.1), after(acc(0.6, n=2000), incumbent=(acc(0.6, stderr=0.01),)))
        assert finding.outcome is Outcome.PASS
        assert finding.method == "two-sample z from both standard errors"

    def test_two_bare_numbers_decide_nothing_and_say_what_is_missing(self):
        finding = only(not_worse(), after(loss(1.0), incumbent=(loss(9.0),)))
        assert finding.outcome is Outcome.INCONCLUSIVE
        assert "a standard error is missing for acme/sql@v3 and v2" in finding.reason
        assert "--stderr S" in finding.fix

    def test_n_alone_does_not_bound_a_loss_that_happens_to_lie_below_one(self):
        finding = only(not_worse(), after(loss(0.5, n=900), incumbent=(loss(0.9, n=900),)))
        assert finding.outcome is Outcome.INCONCLUSIVE

    def test_five_of_five_is_no_proof(self):
        subject = after(acc(1.0, stderr=0.0, n=5), incumbent=(acc(0.8, stderr=0.01, n=5000),))
        assert only(superior(), subject).outcome is Outcome.INCONCLUSIVE

    def test_nan_fails_whatever_the_incumbent_has(self):
        subject = after(loss(math.nan, stderr=0.1), incumbent=(loss(2.0, stderr=0.1),))
        assert only(not_worse(), subject).outcome is Outcome.FAIL

    def test_an_incumbent_measured_as_nan_decides_nothing(self):
        subject = after(loss(2.0, stderr=0.1), incumbent=(loss(math.nan, stderr=0.1),))
        assert only(not_worse(), subject).outcome is Outcome.INCONCLUSIVE

    def test_other_settings_are_incomparable_and_listed(self):
        mine, theirs = {"shots": "0", "split": "test"}, {"shots": "5", "split": "test", "limit": "100"}
        subject = after(acc(0.9, n=900, setting=mine), incumbent=(acc(0.1, n=900, setting=theirs),))
        finding = only(not_worse(), subject)
        assert finding.outcome is Outcome.INCOMPARABLE
        assert finding.reason == "measured differently from v2: limit unknown, there 100; shots 0, there 5"

    def test_of_several_settings_those_both_have_are_compared(self):
        zero, five = {"shots": "0"}, {"shots": "5"}
        mine = (acc(0.9, n=9000, setting=five), acc(0.1, n=9000, setting=zero))
        finding = only(not_worse(), after(*mine, incumbent=(acc(0.5, n=9000, setting=five),)))
        assert (finding.outcome, finding.value) == (Outcome.PASS, 0.9)

    def test_the_latest_score_of_one_setting_counts(self):
        subject = after(acc(0.9, n=9000), acc(0.2, n=9000), incumbent=(acc(0.9, n=9000), acc(0.5, n=9000)))
        finding = only(not_worse(), subject)
        assert (finding.outcome, finding.value, finding.baseline) == (Outcome.FAIL, 0.2, 0.5)

    def test_a_direction_nobody_stated_is_an_error_for_a_named_metric(self):
        bare = replace(acc(0.5, n=900), metric="style/grade", direction=None)
        finding = only(not_worse(metric="style/grade"), after(bare, incumbent=(bare,)))
        assert finding.outcome is Outcome.ERROR
        assert "--better higher" in finding.fix

    @pytest.mark.parametrize("test", [not_worse(), superior()])
    def test_a_percentage_beside_a_share_is_incomparable(self, test):
        finding = only(test, after(acc(44.7, stderr=0.5), incumbent=(acc(0.45, stderr=0.005),)))
        assert finding.outcome is Outcome.INCOMPARABLE
        assert "44.7 against 0.45 of v2: one is a share between 0 and 1" in finding.reason

    def test_percentages_are_compared_with_percentages(self):
        sides = acc(48.7, stderr=0.5, n=2000), acc(44.7, stderr=0.5, n=2000)
        assert only(superior(), after(sides[0], incumbent=(sides[1],))).outcome is Outcome.PASS

    def test_directions_that_disagree_are_an_error(self):
        lower = acc(0.5, n=900, direction=Direction.LOWER)
        finding = only(not_worse(metric=ACC), after(lower, incumbent=(acc(0.5, n=900),)))
        assert finding.outcome is Outcome.ERROR
        assert "says lower is better, that of v2 says higher" in finding.reason

    def test_what_the_incumbent_has_and_the_version_lacks_waits(self):
        finding = only(not_worse(), after(acc(0.9, n=900), incumbent=(loss(2.0, stderr=0.1),)))
        assert (finding.outcome, finding.rule) == (Outcome.PENDING, "heldout/loss non-inferior")
        assert "never measured, but v2 has 2" in finding.reason

    def test_an_incumbent_without_scores_waits_for_them(self):
        finding = only(not_worse(), after(acc(0.9, n=900)))
        assert finding.outcome is Outcome.PENDING
        assert finding.fix == "adapters score import acme/sql@v2 FILE"

    def test_a_metric_without_direction_is_left_out_of_a_pattern_and_marked(self):
        odd = Score("style/grade", 3.0, None, stderr=0.1)
        found = judge(not_worse(0.1), after(acc(0.9, n=900), odd, incumbent=(acc(0.9, n=900), odd)))
        assert [finding.outcome for finding in found] == [Outcome.PASS, Outcome.WAIVED]
        assert "not clear which way is better: style/grade" in found[1].reason

    def test_leaving_every_direction_out_does_not_switch_the_rule_off(self):
        odd = Score("style/grade", 3.0, None, stderr=0.1)
        assert only(not_worse(), after(odd, incumbent=(odd,))).outcome is Outcome.PENDING

    def test_a_metric_named_exactly_is_left_to_its_own_rule(self):
        strict = Comparison(ACC, Test.SUPERIOR, Margin(0))
        wide = Comparison("*", Test.NON_INFERIOR, Margin(0.5))
        same = (acc(0.6, n=900), loss(1.0, stderr=0.1))
        found = judge(rule(comparisons=(wide, strict)), after(*same, incumbent=same))
        assert [finding.rule for finding in found] == ["heldout/loss non-inferior", "gsm8k/acc superior"]

    def test_a_pattern_covers_the_metrics_it_spells(self):
        same = (acc(0.6, n=900), loss(1.0, stderr=0.1))
        found = judge(not_worse(0.5, metric="gsm8k/*"), after(*same, incumbent=same))
        assert [finding.metric for finding in found] == [ACC]

    def test_values_too_far_apart_for_a_float_decide_nothing(self):
        subject = after(loss(1e308, stderr=1.0), incumbent=(loss(-1e308, stderr=1.0),))
        assert only(not_worse(), subject).outcome is Outcome.INCONCLUSIVE


class TestWithoutAnIncumbent:
    def test_the_base_s_scores_are_the_measure(self):
        worse = replace(V3, scores=(loss(3.0, stderr=0.01),), base_scores=(loss(2.0, stderr=0.01),))
        finding = only(not_worse(), worse)
        assert finding.outcome is Outcome.FAIL
        assert "of the base tiny@bbbbbbbbbbbb: worse by 1" in finding.reason

    def test_of_the_base_s_metrics_only_those_the_version_has_count(self):
        subject = replace(V3, scores=(acc(0.9, n=900),), base_scores=(acc(0.1, n=900), loss(2.0, stderr=0.01)))
        assert [finding.metric for finding in judge(not_worse(), subject)] == [ACC]

    @pytest.mark.parametrize("metric", ["*", ACC])
    def test_with_no_scores_of_the_base_it_is_waived_and_marked(self, metric):
        finding = only(not_worse(metric=metric), replace(V3, scores=(acc(0.9, n=900),)))
        assert finding.outcome is Outcome.WAIVED
        assert not finding.blocks
        assert "no incumbent to compare with" in finding.reason

    def test_waive_if_no_incumbent_does_not_look_at_the_base(self):
        worse = replace(V3, scores=(loss(3.0, stderr=0.01),), base_scores=(loss(2.0, stderr=0.01),))
        assert only(not_worse(waive_if=WaiveIf.NO_INCUMBENT), worse).outcome is Outcome.WAIVED


def preset_prod_comparison() -> Policy:
    return rule(comparisons=preset("solo", stage="prod").evals.comparisons)


VALUES = st.floats(-50, 50)
ERRORS = st.floats(0, 10)
MARGINS = st.floats(0, 5)


def outcome(policy: Policy, mine: Score, other: Score) -> Outcome:
    return only(policy, after(mine, incumbent=(other,))).outcome


class TestLaws:
    @given(VALUES, ERRORS, MARGINS)
    def test_nothing_is_superior_to_itself_nor_inferior(self, value, stderr, margin):
        same = loss(value, stderr=stderr)
        assert outcome(superior(margin), same, same) is not Outcome.PASS
        assert outcome(not_worse(margin), same, same) in (Outcome.PASS, Outcome.INCONCLUSIVE)

    @given(VALUES, VALUES, ERRORS, ERRORS, MARGINS, st.sampled_from([not_worse, superior]))
    def test_turning_direction_and_sign_changes_nothing(self, mine, other, error, other_error, margin, policy):
        plain = outcome(policy(margin), loss(mine, stderr=error), loss(other, stderr=other_error))
        turned = [
            loss(-value, stderr=stderr, direction=Direction.HIGHER)
            for value, stderr in ((mine, error), (other, other_error))
        ]
        assert outcome(policy(margin), *turned) is plain

    @given(VALUES, VALUES, ERRORS, ERRORS, MARGINS)
    def test_superior_implies_not_inferior_and_failing_to_be_not_inferior_implies_not_superior(
        self, mine, other, error, other_error, margin
    ):
        pair = loss(mine, stderr=error), loss(other, stderr=other_error)
        if outcome(superior(margin), *pair) is Outcome.PASS:
            assert outcome(not_worse(margin), *pair) is Outcome.PASS
        if outcome(not_worse(margin), *pair) is Outcome.FAIL:
            assert outcome(superior(margin), *pair) is Outcome.FAIL

    @given(VALUES, VALUES, ERRORS, MARGINS, MARGINS)
    def test_a_wider_margin_never_turns_a_pass_into_anything_else(self, mine, other, error, margin, more):
        pair = loss(mine, stderr=error), loss(other, stderr=error)
        if outcome(not_worse(margin), *pair) is Outcome.PASS:
            assert outcome(not_worse(margin + more), *pair) is Outcome.PASS

    @pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
    def test_of_equal_versions_no_more_pass_as_superior_than_the_confidence_allows(self, confidence):
        # The differences two equal versions show are normal; every 1/2000th of that distribution is tried.
        policy = rule(comparisons=(Comparison("*", Test.SUPERIOR, Margin(0), confidence),))
        stderr, trials = 0.3, 2000
        noise = NormalDist(0, stderr * math.sqrt(2))
        gains = [noise.inv_cdf((trial + 0.5) / trials) for trial in range(trials)]
        passed = sum(
            outcome(policy, loss(-gain, stderr=stderr), loss(0.0, stderr=stderr)) is Outcome.PASS for gain in gains
        )
        assert passed / trials <= 1 - confidence + 1 / trials
        assert passed / trials >= 1 - confidence - 1 / trials

    @given(
        st.lists(st.builds(acc, st.floats(), stderr=st.floats() | st.none())),
        st.lists(st.builds(acc, st.floats(), n=st.integers(0, 9) | st.none())),
        st.sampled_from([not_worse(0.1), superior(), preset("solo", stage="prod")]),
    )
    def test_every_finding_survives_json(self, mine, others, policy):
        for finding in judge(policy, after(*mine, incumbent=tuple(others))):
            assert msgspec.json.decode(msgspec.json.encode(finding), type=Finding) == finding
            assert str(finding)
