from dataclasses import replace

import msgspec
import pytest

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import Conflict, NotFound, PromotionRefused, PromotionUndecided, PromotionWaiting
from adapter_registry.domain.evidence.score import Direction, Invalidation, Score
from adapter_registry.domain.lock import Level, Verdict
from adapter_registry.domain.policies.policy import Bound, Policy, preset
from adapter_registry.domain.promotions.finding import Finding, Incumbent, Outcome, Subject
from adapter_registry.domain.promotions.promotion import (
    Kind,
    Promotion,
    Result,
    decide,
    doubts,
    inputs_digest,
    refusal,
    rollback_target,
)
from tests.unit.domain.test_gate import LORA, recorded

DIGEST = Digest("sha256:" + "d" * 64)
SCORE = Score("gsm8k/acc", 0.5, Direction.HIGHER, n=900)
RECORDED = recorded(SCORE)
SUBJECT = Subject("acme/sql@v3", DIGEST, DIGEST, "tiny@dddddddddddd", Verdict(Level.EXACT), LORA, scores=(RECORDED,))
PROD = preset("solo", stage="prod")


def findings(*outcomes: Outcome) -> tuple[Finding, ...]:
    return tuple(Finding(f"rule {number}", outcome, "said so", "fix it") for number, outcome in enumerate(outcomes))


def decided(*outcomes: Outcome) -> Result:
    return decide(findings(*outcomes), digest=DIGEST).outcome


class TestDoubts:
    AT = "2026-03-01T12:00:00.000000Z"
    LATER = Invalidation("old chat template", "eve", "2026-03-02T00:00:00.000000Z")
    BEFORE = replace(recorded(Score("qa/acc", 0.4, Direction.HIGHER)), subject_name="acme/sql@v2", invalid=LATER)

    def told(self, finding, own=(), others=()):
        move = Promotion(
            "acme/sql", "prod", 1, 3, DIGEST, 2, Kind.PROMOTE, "ann", "", (finding,), DIGEST, 1, DIGEST, self.AT
        )
        return doubts(move, own, others)

    def test_evidence_that_was_judged_and_declared_invalid_since_is_told(self):
        [own] = [replace(RECORDED, invalid=self.LATER)]
        told = ("gsm8k/acc of acme/sql@v3: old chat template",)
        assert self.told(Finding("gsm8k/acc ≥ 0.4", Outcome.PASS, "", metric="gsm8k/acc"), (own,)) == told
        assert self.told(Finding("any score", Outcome.PASS, ""), (own,)) == told
        assert self.told(Finding("compatibility", Outcome.PASS, ""), (own,)) == ()
        assert self.told(Finding("gsm8k/acc superior", Outcome.WAIVED, "", metric="gsm8k/acc"), (own,)) == ()

    def test_what_it_was_compared_with_counts_too(self):
        compared = Finding("qa/acc superior", Outcome.PASS, "", metric="qa/acc", baseline=0.4)
        assert self.told(compared, others=(self.BEFORE,)) == ("qa/acc of acme/sql@v2: old chat template",)
        assert self.told(replace(compared, baseline=None), others=(self.BEFORE,)) == ()

    def test_what_was_invalid_already_or_came_later_is_no_doubt(self):
        finding = Finding("any score", Outcome.PASS, "")
        known = replace(self.LATER, at="2026-03-01T11:00:00.000000Z")
        late = replace(RECORDED, recorded_at="2026-03-01T13:00:00.000000Z", invalid=self.LATER)
        assert self.told(finding, (replace(RECORDED, invalid=known), late, RECORDED)) == ()


class TestDecide:
    def test_no_rule_at_all_promotes(self):
        assert decided() is Result.PROMOTE

    def test_passed_and_waived_rules_promote(self):
        assert decided(Outcome.PASS, Outcome.WAIVED) is Result.PROMOTE

    @pytest.mark.parametrize("worst", [Outcome.FAIL, Outcome.ERROR])
    def test_one_failure_or_error_refuses_whatever_else_is_said(self, worst):
        assert decided(Outcome.PASS, Outcome.PENDING, Outcome.INCONCLUSIVE, worst) is Result.REFUSED

    def test_what_is_missing_comes_before_what_cannot_be_decided(self):
        assert decided(Outcome.INCONCLUSIVE, Outcome.PENDING) is Result.WAITING

    @pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.INCOMPARABLE])
    def test_evidence_that_cannot_decide_is_no_pass(self, outcome):
        assert decided(Outcome.PASS, outcome) is Result.UNDECIDED

    def test_the_blockers_are_all_findings_that_are_no_pass(self):
        decision = decide(findings(Outcome.PASS, Outcome.FAIL, Outcome.WAIVED, Outcome.PENDING), digest=DIGEST)
        assert [finding.rule for finding in decision.blockers] == ["rule 1", "rule 3"]


class TestRefusal:
    @pytest.mark.parametrize(
        ("outcome", "kind", "exit_code"),
        [
            (Outcome.FAIL, PromotionRefused, 3),
            (Outcome.PENDING, PromotionWaiting, 4),
            (Outcome.INCOMPARABLE, PromotionUndecided, 5),
        ],
    )
    def test_the_error_is_of_the_outcome_s_class_and_exit_code(self, outcome, kind, exit_code):
        decision = decide(findings(outcome), digest=DIGEST)
        error = refusal(decision, reference="acme/sql@v3", stage="prod")
        assert type(error) is kind
        assert error.exit_code == decision.exit_code == exit_code

    def test_it_names_every_blocker_and_the_way_out(self):
        decision = decide(findings(Outcome.FAIL, Outcome.PASS, Outcome.PENDING), digest=DIGEST)
        error = refusal(decision, reference="acme/sql@v3", stage="prod")
        assert str(error) == (
            "acme/sql@v3 to prod is refused; the stage did not move:\n"
            "  FAIL         rule 0: said so -> fix it\n"
            "  PENDING      rule 2: said so -> fix it"
        )
        assert [problem.code for problem in error.problems] == ["gate-fail", "gate-pending"]

    def test_a_promotion_has_none(self):
        decision = decide((), digest=DIGEST)
        assert refusal(decision, reference="acme/sql@v3", stage="prod") is None
        assert decision.exit_code == 0


class TestInputsDigest:
    def test_the_same_inputs_give_the_same_digest(self):
        assert inputs_digest(PROD, SUBJECT) == inputs_digest(preset("solo", stage="prod"), replace(SUBJECT))

    @pytest.mark.parametrize(
        "change",
        [
            {"digest": Digest("sha256:" + "e" * 64)},
            {"base": Digest("sha256:" + "e" * 64)},
            {"verdict": Verdict(Level.STRUCTURAL)},
            {"verdict": None},
            {"labels": {"owner": "ann"}},
            {"message": "better"},
            {"scores": ()},
            {"scores": (RECORDED, RECORDED)},
            {"scores": (recorded(replace(SCORE, value=float("nan"))),)},
            {"scores": (recorded(replace(SCORE, stderr=0.1)),)},
            {"scores": (recorded(replace(SCORE, outcomes=DIGEST)),)},
            {"scores": (recorded(SCORE, job="a1"),)},
            {"scores": (replace(RECORDED, invalid=Invalidation("typo", "ann", "")),)},
            {"scores": (recorded(replace(SCORE, setting={"shots": "5"})),)},
            {"base_scores": (RECORDED,)},
            {"incumbent": Incumbent("acme/sql@v2", DIGEST)},
            {"incumbent": Incumbent("acme/sql@v2", DIGEST, (RECORDED,))},
        ],
    )
    def test_another_version_base_incumbent_or_evidence_gives_another(self, change):
        assert inputs_digest(PROD, replace(SUBJECT, **change)) != inputs_digest(PROD, SUBJECT)

    def test_another_policy_or_stage_gives_another(self):
        stricter = replace(PROD, evals=replace(PROD.evals, bounds=(Bound("gsm8k/acc", min=0.4),)))
        assert len({inputs_digest(p, SUBJECT) for p in (PROD, stricter, Policy("prod"), Policy("dev"))}) == 4


def moves(*steps: str) -> tuple[Promotion, ...]:
    """`+2` promotes v2, `-1` rolls back to v1; newest first as in the catalog."""
    log: list[Promotion] = []
    for sequence, step in enumerate(steps, 1):
        kind = Kind.PROMOTE if step.startswith("+") else Kind.ROLLBACK
        previous = log[-1].number if log else None
        common = {"actor": "ann", "reason": "", "findings": (), "policy": DIGEST, "policy_revision": 0}
        number = int(step[1:])
        log.append(
            Promotion("acme/sql", "prod", sequence, number, DIGEST, previous, kind, decision=DIGEST, at="", **common)
        )
    return tuple(reversed(log))


class TestRollbackTarget:
    @pytest.mark.parametrize(
        ("steps", "expected"),
        [
            (("+1", "+2"), 1),
            (("+1", "+2", "+3"), 2),
            (("+1", "+2", "+3", "-2"), 1),
            (("+1", "+2", "+3", "-1", "+4"), 1),
            (("+1", "+2", "-1", "+2"), 1),
            (("+1", "+2", "+1"), 2),
        ],
    )
    def test_by_default_it_goes_to_the_version_before_and_never_forward(self, steps, expected):
        assert rollback_target(moves(*steps)).number == expected

    @pytest.mark.parametrize("steps", [("+1",), ("+1", "+2", "-1")])
    def test_there_may_be_nothing_before(self, steps):
        with pytest.raises(Conflict, match="no version held prod before v1"):
            rollback_target(moves(*steps))

    def test_any_earlier_holder_can_be_named(self):
        assert rollback_target(moves("+1", "+2", "+3"), to=1).number == 1
        assert rollback_target(moves("+1", "+2", "-1"), to=2).number == 2

    def test_a_version_that_never_held_the_stage_is_refused_with_those_that_did(self):
        with pytest.raises(NotFound, match=r"v9 never held prod; .*: v1, v2\. Promote v9 instead"):
            rollback_target(moves("+1", "+2", "+3"), to=9)

    def test_the_version_that_holds_it_is_refused(self):
        with pytest.raises(Conflict, match="v2 holds prod already"):
            rollback_target(moves("+1", "+2"), to=2)

    def test_a_stage_that_never_moved_has_nothing_to_go_back_to(self):
        with pytest.raises(NotFound, match="never pointed to a version"):
            rollback_target(())

    def test_where_nothing_came_before_only_what_there_is_is_offered(self):
        with pytest.raises(Conflict, match="`adapters promote` moves prod to another"):
            rollback_target(moves("+1"))
        with pytest.raises(Conflict, match="Name one that held it since with --to"):
            rollback_target(moves("+1", "+2", "-1"))


def test_a_promotion_survives_the_catalog_s_json():
    [promotion] = moves("+1")
    kept = replace(promotion, findings=findings(Outcome.PASS, Outcome.WAIVED))
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Promotion) == kept
