"""What counts as evidence, and what rules say when it does not."""

import io
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.outcomes import Outcomes, common, from_json, outcomes, to_json, unfit
from adapter_registry.domain.evidence.score import Direction, Invalidation, Score
from adapter_registry.domain.evidence.suite import Suite, SuiteMetric, missing, parse
from adapter_registry.domain.evidence.suite_file import read_suite
from adapter_registry.domain.evidence.suite_file import to_yaml as suite_to_yaml
from adapter_registry.domain.policies.evals import Against
from adapter_registry.domain.policies.file import read_policy, to_yaml
from adapter_registry.domain.policies.lint import lint
from adapter_registry.domain.policies.policy import Bound, Comparison, Demands, EvalGroup, Evals, Margin, Policy, Test
from adapter_registry.domain.promotions.finding import Finding, Outcome, Subject
from adapter_registry.domain.promotions.promotion import Result, decide, inputs_digest
from adapter_registry.domain.results.formats import read_results
from adapter_registry.domain.results.samples import _task_of, attached, read_samples
from tests.unit.domain.test_gate import ACC, V3, acc, after, judge, recorded

DAY = 86_400
FILE = of_bytes(b"results.json")
CORE = Suite("core", (SuiteMetric(ACC, {"shots": "5"}), SuiteMetric("mmlu/acc")), version=3)


def asked(demands: Demands, *bounds: Bound, **more: object) -> Policy:
    return Policy("prod", evals=Evals(groups=(EvalGroup(demands, bounds=bounds or (Bound(ACC, min=0.4),), **more),)))


def said(demands: Demands, *scores: object, **facts: object) -> Finding:
    return judge(asked(demands), replace(V3, scores=scores, **facts))[-1]


class TestDemands:
    def test_what_somebody_brought_is_not_verified(self):
        finding = said(Demands(verified=True), recorded(acc(0.5)))
        assert finding.outcome is Outcome.PENDING
        assert "claimed: somebody brought it" in finding.reason
        assert said(Demands(verified=True), recorded(acc(0.5), job="a1")).outcome is Outcome.PASS

    def test_old_evidence_waits_for_new(self):
        old = recorded(acc(0.5, measured_at="2025-11-01T00:00:00Z"))
        finding = said(Demands(max_age=30 * DAY), old)
        assert (finding.outcome, finding.reason) == (Outcome.PENDING, "measured on 2025-11-01, more than 30 days ago")
        assert said(Demands(max_age=365 * DAY), old).outcome is Outcome.PASS

    def test_a_file_cannot_make_a_score_younger_than_its_record(self):
        future = replace(recorded(acc(0.5, measured_at="2027-01-01T00:00:00Z")), recorded_at="2025-01-01T00:00:00Z")
        assert said(Demands(max_age=30 * DAY), future).outcome is Outcome.PENDING

    @pytest.mark.parametrize(("n", "outcome"), [(500, Outcome.PASS), (499, Outcome.PENDING), (None, Outcome.PENDING)])
    def test_too_few_samples_or_an_unknown_number_are_not_enough(self, n, outcome):
        assert said(Demands(min_samples={"gsm8k": 500}), acc(0.5, n=n)).outcome is outcome

    def test_a_sample_limit_is_no_full_run_nor_is_a_value_entered_by_hand(self):
        limited = acc(0.5, evidence=FILE, setting={"limit": "100"})
        assert "with a sample limit (100)" in said(Demands(full_run=True), limited).reason
        assert "entered by hand" in said(Demands(full_run=True), acc(0.5)).reason
        assert said(Demands(full_run=True), acc(0.5, evidence=FILE)).outcome is Outcome.PASS

    def test_an_invalid_score_is_as_if_it_were_not_there_and_says_why(self):
        invalid = replace(recorded(acc(0.9)), invalid=Invalidation("old chat template", "ann", ""))
        finding = said(Demands(), recorded(acc(0.5)), invalid)
        assert (finding.outcome, finding.value) == (Outcome.PASS, 0.5)
        assert said(Demands(), invalid).reason == "invalid: old chat template"

    def test_the_latest_that_counts_counts(self):
        limited = acc(0.1, evidence=FILE, setting={"limit": "9"})
        assert said(Demands(full_run=True), acc(0.5, evidence=FILE), limited).value == 0.5

    def test_the_other_side_has_to_meet_them_too_but_for_its_age(self):
        not_worse = Comparison(ACC, Test.NON_INFERIOR, Margin(0.1))
        policy = Policy(
            "prod", evals=Evals(groups=(EvalGroup(Demands(verified=True, max_age=DAY), comparisons=(not_worse,)),))
        )
        old = recorded(acc(0.5, n=5000, measured_at="2020-01-01T00:00:00Z"), job="a1")
        mine = replace(recorded(acc(0.5, n=5000), job="a2"), recorded_at="2026-03-02T09:00:00Z")
        [verified] = judge(policy, after(mine, incumbent=(old,)))
        [claimed] = judge(policy, after(mine, incumbent=(replace(old, job=None),)))
        assert verified.outcome is Outcome.PASS
        assert (claimed.outcome, "does not count: claimed" in claimed.reason) == (Outcome.PENDING, True)

    def test_time_alone_changes_the_decision_s_digest_only_when_something_became_old(self):
        subject = replace(V3, scores=(recorded(acc(0.5)),))
        policy = asked(Demands(max_age=30 * DAY))
        soon, sooner, later = (
            inputs_digest(policy, replace(subject, at=f"2026-0{month}-09T00:00:00Z")) for month in (3, 3, 9)
        )
        assert soon == sooner != later


class TestSuites:
    def by(self, suite: str, *, shots: str = "5") -> tuple[Score, Score]:
        return acc(0.5, suite=suite, setting={"shots": shots}), Score("mmlu/acc", 0.6, Direction.HIGHER, suite=suite)

    def found(self, asked_for: str, *scores: Score, suite: Suite = CORE) -> list[Finding]:
        return list(judge(asked(Demands(suite=asked_for)), replace(V3, scores=scores, suites={asked_for: suite})))

    def test_every_metric_of_it_has_to_be_measured(self):
        whole, bound = self.found("core@3", *self.by("core@3"))
        assert (str(whole), bound.outcome) == ("PASS         suite core@3: 2 of 2 metrics measured", Outcome.PASS)
        whole, _ = self.found("core@3", self.by("core@3")[0])
        assert (whole.outcome, "missing: mmlu/acc" in whole.reason) == (Outcome.PENDING, True)

    def test_a_new_version_makes_evidence_of_the_old_one_stale(self):
        newer = replace(CORE, version=4)
        whole, bound = self.found("core", *self.by("core@3"), suite=newer)
        assert (whole.outcome, bound.outcome) == (Outcome.PENDING, Outcome.PENDING)
        assert bound.reason == "measured by core@3, and core@4 is asked for"

    def test_one_that_there_is_not_is_an_error_and_no_pass(self):
        whole, _ = judge(asked(Demands(suite="core@9")), V3)
        assert whole.outcome is Outcome.ERROR

    def test_scores_measured_otherwise_are_missing(self):
        assert missing(CORE, self.by("", shots="0")) == ["gsm8k/acc (measured with shots 0 instead of 5)"]
        assert missing(CORE, self.by("")) == []

    @pytest.mark.parametrize(("text", "found"), [("core@3", ("core", 3)), ("core", ("core", None))])
    def test_it_is_named_with_or_without_a_version(self, text, found):
        assert parse(text) == found

    @pytest.mark.parametrize("text", ["", "core@0", "core@v3", "Core", "a@1@2", "core@"])
    def test_anything_else_names_none(self, text):
        with pytest.raises(InvalidInput):
            parse(text)

    def test_its_document_reads_back_equal_and_numbers_become_text(self):
        assert read_suite(suite_to_yaml(CORE)) == replace(CORE, version=0)
        text = "apiVersion: adapters/v1\nkind: EvalSuite\nname: core\nmetrics: [{metric: a/acc, setting: {shots: 5}}]"
        assert read_suite(text).metrics == (SuiteMetric("a/acc", {"shots": "5"}),)
        with pytest.raises(InvalidInput, match="is not a suite"):
            read_suite("name: core")


class TestShadows:
    def test_they_are_shown_and_never_in_the_way(self):
        policy = Policy("prod", evals=Evals(bounds=(Bound(ACC, min=0.9, shadow=True), Bound(ACC, min=0.4))))
        findings = judge(policy, replace(V3, scores=(acc(0.5),)))
        assert [(each.outcome, each.blocks, each.would_block) for each in findings] == [
            (Outcome.FAIL, False, True),
            (Outcome.PASS, False, False),
        ]
        assert str(findings[0]).startswith("SHADOW FAIL")
        assert decide(findings, digest=V3.digest).outcome is Result.PROMOTE

    def test_a_comparison_may_be_one_and_takes_no_part_in_the_correction(self):
        rules = (
            Comparison(ACC, Test.SUPERIOR, Margin(0.0)),
            Comparison(ACC, Test.SUPERIOR, Margin(0.1), shadow=True),
        )
        subject = after(acc(0.6, n=2000), incumbent=(acc(0.55, n=2000),))
        claim, shadow = judge(Policy("prod", evals=Evals(comparisons=rules)), subject)
        assert (claim.outcome, claim.correction) == (Outcome.PASS, "none needed: one claim")
        assert (shadow.blocks, shadow.correction) == (False, "none: it decides nothing")


class TestSeveralClaims:
    def findings(self, *gains: float) -> tuple[Finding, ...]:
        mine = [replace(acc(0.5 + gain, n=2000), metric=f"t{place}/acc") for place, gain in enumerate(gains)]
        other = tuple(replace(score, value=0.5) for score in mine)
        rules = tuple(Comparison(score.metric, Test.SUPERIOR, Margin(0.0)) for score in mine)
        return judge(Policy("prod", evals=Evals(comparisons=rules)), after(*mine, incumbent=other))

    def test_one_that_passes_alone_may_not_pass_beside_others(self):
        assert self.findings(0.03)[0].outcome is Outcome.PASS
        assert [each.outcome for each in self.findings(0.03, 0.0, 0.0)] == [Outcome.INCONCLUSIVE] * 3

    def test_what_is_shown_is_what_was_used(self):
        first, second = self.findings(0.08, 0.03)
        assert first.correction == "Holm: error divided by 2 of 2 claims"
        assert second.correction == "Holm: error divided by 1 of 2 claims"
        assert (first.confidence, second.confidence) == (pytest.approx(0.975), pytest.approx(0.95))
        assert first.reason.endswith("Holm: error divided by 2 of 2 claims")

    def test_not_being_worse_on_all_needs_no_correction_and_says_so(self):
        rules = (Comparison("*", Test.NON_INFERIOR, Margin(0.1)),)
        [finding] = judge(
            Policy("prod", evals=Evals(comparisons=rules)), after(acc(0.5, n=900), incumbent=(acc(0.5, n=900),))
        )
        assert finding.correction == "none needed: all must pass"


class TestAgainstTheBase:
    RULE = Policy("prod", evals=Evals(comparisons=(Comparison(ACC, Test.SUPERIOR, Margin(0.0), against=Against.BASE),)))

    def test_it_is_compared_with_whoever_holds_the_stage(self):
        subject = replace(after(acc(0.7, n=900), incumbent=(acc(0.9, n=900),)), base_scores=(acc(0.5, n=900),))
        [finding] = judge(self.RULE, subject)
        assert (finding.rule, finding.outcome, finding.baseline) == (
            "gsm8k/acc superior to the base",
            Outcome.PASS,
            0.5,
        )


class TestSamples:
    """Two runs on the same samples are compared sample by sample."""

    N = 400

    def run(self, wrong: set[int]) -> tuple[Score, Outcomes]:
        found = outcomes(ACC, [(f"h{number:04}", float(number not in wrong)) for number in range(self.N)])
        digest = of_bytes(to_json(found))
        return acc(1 - len(wrong) / self.N, n=self.N, outcomes=digest), found

    def judged(self, mine: set[int], other: set[int], test: Test = Test.SUPERIOR, margin: float = 0.01) -> Finding:
        sides = [self.run(mine), self.run(other)]
        stored = {score.outcomes: found for score, found in sides}
        subject: Subject = replace(after(sides[0][0], incumbent=(sides[1][0],)), outcomes=stored.get)
        [finding] = judge(Policy("prod", evals=Evals(comparisons=(Comparison(ACC, test, Margin(margin)),))), subject)
        return finding

    def test_a_gain_that_two_shares_could_not_show_is_shown_by_pairs(self):
        finding = self.judged(set(range(100)), set(range(130)))
        assert (finding.outcome, finding.method) == (Outcome.PASS, "paired, Tango's score interval")
        assert finding.reason.endswith("; paired, Tango's score interval, n=400")

    def test_two_runs_of_the_same_model_do_not_improve(self):
        same = self.judged(set(range(100)), set(range(100)))
        assert same.outcome is not Outcome.PASS
        assert self.judged(set(range(100)), set(range(100)), Test.NON_INFERIOR, 0.02).outcome is Outcome.PASS

    def test_what_the_store_lost_leaves_the_values(self):
        score, _ = self.run(set())
        subject = after(score, incumbent=(score,))
        [finding] = judge(
            Policy("prod", evals=Evals(comparisons=(Comparison(ACC, Test.SUPERIOR, Margin(0)),))), subject
        )
        assert finding.method == "two rates, Newcombe's interval"

    def test_they_survive_storage(self):
        _, found = self.run({3})
        assert from_json(to_json(found)) == found
        with pytest.raises(InvalidInput):
            from_json(b"{}")

    def test_only_common_samples_are_paired_and_too_few_are_none(self):
        many = outcomes("a", [(str(number), 1.0) for number in range(50)])
        other = outcomes("a", [(str(number), 0.0) for number in range(20, 70)])
        assert common(many, other) == [(1.0, 0.0)] * 30
        assert common(many, outcomes("a", [("1", 0.0)])) == []

    def test_the_same_document_twice_is_two_samples(self):
        assert outcomes("a", [("x", 1.0), ("x", 0.0)]).keys == ("x", "x#2")

    @pytest.mark.parametrize(
        ("values", "why"),
        [
            ((1.0, 1.0), "the mean of its 2 samples is 1 and not 0.5"),
            ((math.nan, 0.5), "not a finite number"),
            ((), "each of 1"),
        ],
    )
    def test_samples_that_are_not_behind_the_value_are_refused(self, values, why):
        found = Outcomes(ACC, tuple(map(str, range(len(values)))), values)
        assert why in unfit(found, acc(0.5))


def sample(number: int, value: float, *, kept: str = "none", **more: object) -> bytes:
    row = {"doc_id": number, "doc": {"q": "secret"}, "filter": kept, "metrics": ["acc"], "acc": value, **more}
    return json.dumps(row).encode() + b"\n"


class TestSamplesFiles:
    RESULTS = Path(__file__).parent / "results" / "lm_eval_0.4.2.json"

    def test_values_by_metric_and_filter_and_no_text(self):
        data = sample(0, 1.0, doc_hash="ab" * 32) + sample(1, 0.0, doc_hash="cd" * 32)
        found = read_samples(data, name="samples_t_2024.jsonl")
        assert found.outcomes["acc"] == Outcomes("acc", ("ab" * 32, "cd" * 32), (1.0, 0.0))
        assert "secret" not in repr(found)
        strict = read_samples(sample(0, 1.0, kept="strict-match"), name="x")
        assert strict.outcomes["acc@strict-match"].keys == ("doc 0",)

    def test_the_array_that_versions_before_0_4_3_wrote(self):
        """Shape: EleutherAI/lm-evaluation-harness, lm_eval/__main__.py, v0.4.0 to v0.4.2: no filter, digest or list."""
        rows = [{"doc_id": n, "doc": {}, "target": n, "arguments": [], "resps": [], "acc": n / 2} for n in range(3)]
        name = "pretrained__org__model_mmlu_law.jsonl"
        found = read_samples(json.dumps(rows, indent=2).encode(), name=name)
        assert found.outcomes["acc"] == Outcomes("acc", ("doc 0", "doc 1", "doc 2"), (0.0, 0.5, 1.0))
        assert _task_of(name, {"law", "mmlu_law", "mmlu"}) == "mmlu_law"
        with pytest.raises(InvalidInput, match="sample 2"):
            read_samples(json.dumps([rows[0], 1]).encode(), name=name)

    def test_what_a_sample_adds_to_a_whole_metric_is_no_value_of_it(self):
        """Shape: a named-entity task's f1, which is computed over all pairs: [target, [answer]] for each sample."""
        pairs = sample(0, 1.0, metrics=["f1"], f1=["DATE: today", ["DATE: today"]], target_hash="ef" * 32)
        assert read_samples(pairs, name="samples_ner_2026-01-16T15-23-47.285735.jsonl").outcomes == {}

    @pytest.mark.parametrize("data", [b"[]", b"{", b'{"a": 1}', b"\xff"])
    def test_anything_else_is_refused_with_its_line(self, data):
        with pytest.raises(InvalidInput, match="line 2"):
            read_samples(sample(0, 1.0) + data, name="x")

    def document(self) -> dict:
        return {
            "results": {
                "mmlu": {"acc,none": 0.75, "alias": "mmlu"},
                "mmlu_law": {"acc,none": 0.5},
                "mmlu_law_eu": {"acc,none": 1.0},
            },
            "group_subtasks": {"mmlu": ["mmlu_law", "mmlu_law_eu"]},
            "versions": {},
        }

    def test_a_group_s_samples_are_those_of_its_tasks(self):
        results = read_results(json.dumps(self.document()).encode(), name="results_2024.json")
        law = read_samples(sample(0, 1.0) + sample(1, 0.0), name="samples_mmlu_law_2024-01-01.jsonl")
        eu = read_samples(sample(0, 1.0) + sample(1, 1.0), name="samples_mmlu_law_eu_2024-01-01.jsonl")
        found, notices = attached(results, [law, eu])
        assert {each.metric: len(each.values) for each in found} == {
            "mmlu/acc": 4,
            "mmlu_law/acc": 2,
            "mmlu_law_eu/acc": 2,
        }
        assert notices == []

    def test_samples_whose_mean_is_another_value_are_left_out_and_said(self):
        results = read_results(json.dumps(self.document()).encode(), name="results_2024.json")
        found, [notice] = attached(results, [read_samples(sample(0, 1.0), name="samples_mmlu_law_2024-01-01.jsonl")])
        assert found == []
        assert "mmlu_law/acc is compared without its samples: the mean of its 1 samples is 1 and not 0.5" in notice

    def test_a_file_of_another_task_is_said(self):
        results = read_results(self.RESULTS.read_bytes(), name="r.json")
        _, notices = attached(results, [read_samples(sample(0, 1.0), name="samples_other_2024-01-01.jsonl")])
        assert notices == ["samples_other_2024-01-01.jsonl belongs to no task of the results"]


class TestGrammar:
    TEXT = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
require:
  evals:
    - {metric: latency_p95_ms, max: 350, shadow: true}
    - suite: core@3
      verified: true
      max_age: 30d
      min_samples: {gsm8k: 500}
      full_run: true
      any: true
      absolute:
        - {metric: gsm8k/exact_match, min: 0.42}
      relative:
        - {metric: "*", test: non-inferior, margin: 2%}
        - {metric: task/score, test: superior, against: base}
      shadow:
        - {metric: toxicity/rate, max: 0.02}
    - {max_age: 12h, any: true}
"""

    def test_a_group_with_demands(self):
        single, group = read_policy(self.TEXT).evals, read_policy(self.TEXT).evals.groups[0]
        assert single.bounds == (Bound("latency_p95_ms", max=350, shadow=True),)
        assert group.demands == Demands("core@3", True, 30 * DAY, {"gsm8k": 500}, True)
        assert group.bounds == (Bound("gsm8k/exact_match", min=0.42), Bound("toxicity/rate", max=0.02, shadow=True))
        assert [each.against for each in group.comparisons] == [Against.INCUMBENT, Against.BASE]
        assert single.groups[1].demands == Demands(max_age=12 * 3600)

    def test_it_reads_back_equal(self):
        policy = read_policy(self.TEXT)
        assert read_policy(to_yaml(policy)) == policy

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (("core@3", "core@0"), "a suite such as core@3"),
            (("30d", "30 days"), "days or hours such as 30d or 12h"),
            (("500", "0"), "numbers above 0"),
            (("exact_match, min: 0.42", "exact_match, test: superior"), "bounds only under absolute"),
            (("test: non-inferior, margin: 2%", "min: 3"), "one metric by its full name"),
            (("full_run: true\n", "full_run: true\n      metric: a/b\n"), "either one rule, or a group"),
            (("against: base", "against: base, waive_if: no-incumbent"), "no waive_if"),
        ],
    )
    def test_what_makes_no_sense_says_what_would(self, change, expected):
        with pytest.raises(InvalidInput) as caught:
            read_policy(self.TEXT.replace(*change))
        assert expected in str(caught.value)


class TestLint:
    def texts(self, *bounds: Bound, demands: Demands = Demands(), tests: tuple = ()) -> list[tuple[str, bool]]:  # noqa: B008
        policy = Policy("prod", evals=Evals(groups=(EvalGroup(demands, bounds=bounds, comparisons=tests),)))
        return [(each.text, each.impossible) for each in lint(policy, (CORE, replace(CORE, version=4)))]

    @pytest.mark.parametrize(
        ("bounds", "expected"),
        [
            ((Bound("t/loss", min=1.0),), "lower is better, but only a floor is set"),
            ((Bound(ACC, max=0.9),), "higher is better, but only a ceiling is set"),
            ((Bound(ACC, min=42),), "a rate is at most 1, and the floor is 42: is it a percentage?"),
            ((Bound("m", min=5), Bound("m", max=4)), "one rule asks for at least 5, another for at most 4"),
        ],
    )
    def test_what_nothing_can_satisfy(self, bounds, expected):
        assert (expected, True) in self.texts(*bounds)

    def test_a_suite_that_there_is_not_or_that_lacks_the_metric(self):
        assert self.texts(demands=Demands(suite="core@9")) == [
            ("there is no such suite, so that no evidence can be of it: adapters score suite set FILE", True)
        ]
        assert ("core@4 does not measure it", True) in self.texts(Bound("t/loss", max=1), demands=Demands(suite="core"))

    def test_a_shadow_is_never_in_the_way_and_so_never_impossible(self):
        measured = Bound("t/latency_ms", max=350, shadow=True)
        assert ("core@4 does not measure it", False) in self.texts(measured, demands=Demands(suite="core"))
        assert [impossible for _, impossible in self.texts(Bound("t/loss", min=1, shadow=True))] == [False]

    def test_demands_on_the_evidence_of_no_rule_ask_nothing_and_that_is_told(self):
        told = self.texts(demands=Demands(verified=True))
        assert told == [
            ("a group with demands on the evidence and no rule asks nothing: give it `any: true`, or rules", False)
        ]
        assert self.texts(demands=Demands(suite="core")) == []
        assert self.texts(Bound(ACC, min=0.1), demands=Demands(suite="core@3")) == [("core@4 is newer", False)]

    def test_what_is_likely_not_meant_is_a_note(self):
        tests = (Comparison(ACC, Test.NON_INFERIOR, Margin(0.0)), Comparison("*", Test.SUPERIOR, Margin(0.0)))
        assert [impossible for _, impossible in self.texts(tests=tests)] == [False, False]
        assert self.texts(Bound(ACC, min=0.4), Bound("t/loss", max=2)) == []


class TestInspectSamples:
    """What an Inspect log says of each sample: letters, numbers, epochs."""

    def document(self, *samples: tuple[int, int, object], accuracy: float) -> dict:
        return {
            "version": 2,
            "status": "success",
            "eval": {"task": "evals/quiz", "dataset": {"name": "quiz"}, "config": {"epochs": 2}},
            "results": {
                "scores": [{"name": "match", "scorer": "match", "metrics": {"accuracy": {"value": accuracy}}}],
            },
            "samples": [
                {"id": number, "epoch": epoch, "input": "secret", "scores": {"match": {"value": value, "answer": "42"}}}
                for number, epoch, value in samples
            ],
        }

    def test_epochs_of_a_sample_are_averaged_and_letters_count_as_inspect_counts_them(self):
        samples = (1, 1, "C"), (1, 2, "I"), (2, 1, "C"), (2, 2, "P"), ("x", 1, 1), ("x", 2, True)
        found = read_results(json.dumps(self.document(*samples, accuracy=0.75)).encode(), name="log.json")
        assert found.outcomes == (Outcomes("quiz/accuracy@match", ("id 1", "id 2", "id x"), (0.5, 0.75, 1.0)),)
        assert "secret" not in repr(found.outcomes)
        assert attached(found, []) == (list(found.outcomes), [])

    def test_a_value_that_is_not_their_mean_is_left_without_them(self):
        found = read_results(json.dumps(self.document((1, 1, "C"), accuracy=0.5)).encode(), name="log.json")
        assert found.outcomes == ()
        assert "the mean of its 1 samples is 1 and not 0.5" in found.notices[-1]

    @pytest.mark.parametrize(("summaries", "kept"), [(True, 1), (False, 0)])
    def test_a_compressed_log_has_them_in_its_summaries(self, summaries, kept):
        document = self.document((1, 1, "C"), (1, 2, "C"), accuracy=1.0)
        samples, stream = document.pop("samples"), io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("header.json", json.dumps(document))
            if summaries:
                archive.writestr("summaries.json", json.dumps(samples))
        assert len(read_results(stream.getvalue(), name="log.eval").outcomes) == kept
