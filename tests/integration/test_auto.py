"""What the registry does by itself: promote where a policy says so, and have what stays in a stage found good again."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from adapter_registry import app
from adapter_registry.background.sweeper import Sweeper
from adapter_registry.client import Registry
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import Forbidden, InvalidInput
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.people.access import Grant, Principal
from adapter_registry.domain.policies.policy import Bound, Demands, EvalGroup, Evals, Policy
from adapter_registry.domain.policies.process import Approvals, Process, Sources
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import State
from adapter_registry.services import auto, reverify
from tests.integration.test_stages import QA, opened, registry  # noqa: F401  a fixture

BY_ITSELF = Process(Sources(("dev",)), auto=True)
DAY = 86_400
ALWAYS = ("2020-01-01T00:00", "2999-01-01T00:00")


@pytest.fixture
def qa(registry):  # noqa: F811  the fixture
    """What comes into dev goes on into qa by itself."""
    registry.declare_stage(QA)
    registry.set_policy("qa", Policy("qa", process=BY_ITSELF))
    return registry


def sweep(registry):  # noqa: F811
    Sweeper(app.embedded(registry.settings)).sweep()


def pointing(registry):  # noqa: F811
    return registry.history("team/a").pointing


class TestAutoPromotion:
    def test_what_enters_a_stage_goes_on_into_those_that_come_from_it(self, qa):
        qa.set_policy("staging", Policy("staging", process=Process(Sources(("dev",)), auto=True)))
        qa.promote("team/a@v1", "dev")
        assert pointing(qa) == {"dev": 1, "staging": 1, "qa": 1}
        moves = {move.stage: (move.actor, move.reason) for move in qa.history("team/a").moves}
        assert moves["qa"] == (auto.ACTOR, "auto_promote")

    def test_an_older_version_does_not_replace_a_newer_one(self, qa):
        for version in (2, 1):
            qa.promote(f"team/a@v{version}", "dev")
        assert pointing(qa) == {"dev": 1, "qa": 2}

    def test_it_waits_for_approvals_and_freezes_as_everybody_does(self, qa, tmp_path):
        qa.set_policy("qa", Policy("qa", process=replace(BY_ITSELF, approvals=Approvals(1))))
        window = qa.freeze(*ALWAYS, reason="audit", stage="qa")
        qa.promote("team/a@v1", "dev")
        [waiting] = qa.requests()
        assert (waiting.requester, waiting.auto, waiting.stage) == (auto.ACTOR, True, "qa")
        opened(tmp_path, "bob").approve(waiting)
        assert "qa" not in pointing(qa)
        qa.thaw(window.id)
        sweep(qa)
        assert pointing(qa) == {"dev": 1, "qa": 1}

    def test_what_was_rolled_back_does_not_come_again_and_what_is_new_waits_for_the_hold(self, qa):
        for version in (1, 2):
            qa.promote(f"team/a@v{version}", "dev")
        qa.rollback("team/a", "qa", reason="wrong joins")
        sweep(qa)
        assert qa.requests() == ()
        qa.promote("team/a@v3", "dev")
        [waiting] = qa.requests()
        assert [line.split()[1] for line in waiting.blockers] == ["hold:"]
        assert qa.promote("team/a@v3", "qa").request.state is State.APPLIED
        assert pointing(qa) == {"dev": 3, "qa": 3}
        assert qa.hold("team/a", "qa") is None

    def test_a_hold_that_is_lifted_lets_it_go_on(self, qa):
        for version in (1, 2):
            qa.promote(f"team/a@v{version}", "dev")
        qa.rollback("team/a", "qa")
        qa.promote("team/a@v3", "dev")
        qa.lift_hold("team/a", "qa")
        sweep(qa)
        assert pointing(qa)["qa"] == 3

    def test_what_a_person_took_back_is_not_asked_for_again(self, qa):
        qa.freeze(*ALWAYS, reason="audit", stage="qa")
        qa.promote("team/a@v1", "dev")
        qa.cancel(qa.requests()[0])
        sweep(qa)
        assert qa.requests() == ()

    def test_nor_after_a_thousand_other_requests(self, qa):
        qa.freeze(*ALWAYS, reason="audit", stage="qa")
        qa.promote("team/a@v1", "dev")
        [waiting] = qa.requests()
        qa.decline(waiting, reason="not this one")
        with app.embedded(qa.settings).catalog.writing() as tx:
            for _ in range(1_000):
                tx.requests.add(replace(waiting, stage="prod", state=State.CANCELLED))
        sweep(qa)
        assert qa.requests() == ()

    def test_a_person_s_request_is_not_superseded_by_it(self, qa):
        qa.freeze(*ALWAYS, reason="audit", stage="qa")
        qa.promote("team/a@v1", "dev")
        mine = qa.attempt("team/a@v1", "qa", reason="mine").request
        qa.promote("team/a@v2", "dev")
        assert [each.id for each in qa.requests()] == [mine.id]

    def test_switching_it_off_ends_what_it_asked_for(self, qa):
        window = qa.freeze(*ALWAYS, reason="audit", stage="qa")
        qa.promote("team/a@v1", "dev")
        [waiting] = qa.requests()
        qa.set_policy("qa", Policy("qa", process=Process(Sources(("dev",)))))
        qa.thaw(window.id)
        sweep(qa)
        assert qa.request(waiting.name).state is State.REFUSED
        assert "qa" not in pointing(qa)

    def test_what_the_gates_refuse_is_not_attempted_until_the_evidence_changes(self, qa):
        qa.set_policy("qa", Policy("qa", evals=Evals(bounds=(Bound("y/acc", min=0.6),)), process=BY_ITSELF))
        qa.add_scores("team/a@v1", (Score("y/acc", 0.5, Direction.HIGHER),))
        qa.promote("team/a@v1", "dev")
        before = len(qa.events())
        sweep(qa)
        assert len(qa.events()) == before
        qa.add_scores("team/a@v1", (Score("y/acc", 0.7, Direction.HIGHER),))
        sweep(qa)
        assert pointing(qa)["qa"] == 1

    @pytest.mark.parametrize("policy", [Policy("qa"), Policy("qa", metadata=("owner",), process=BY_ITSELF)])
    def test_only_an_administrator_switches_it_or_changes_a_policy_that_has_it(self, qa, policy):
        editor = Principal("eve", (Grant("*", ("policy.write", "read", "promote:dev")),))
        eve = Registry(qa.settings, replace(app.embedded(qa.settings), asks=editor, actor="eve"))
        with pytest.raises(Forbidden, match="only an administrator"):
            eve.set_policy("qa", policy)
        with pytest.raises(Forbidden, match="only an administrator"):
            eve.set_policy("staging", Policy("staging", process=BY_ITSELF))
        assert eve.set_policy("prod", Policy("prod", metadata=("owner",))).revision == 1

    def test_it_needs_to_know_where_from(self, registry):  # noqa: F811
        with pytest.raises(InvalidInput, match="auto_promote: it needs `from`"):
            registry.set_policy("staging", Policy("staging", process=Process(auto=True)))


def in_days(registry, days):  # noqa: F811
    """The same registry, so many days later."""
    backend = app.embedded(registry.settings)
    later = datetime.fromisoformat(backend.clock()) + timedelta(days=days)
    at = later.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return Registry(registry.settings, replace(backend, clock=lambda: at))


class TestReverification:
    @pytest.fixture
    def prod(self, registry):  # noqa: F811
        """v1 is in prod, whose evidence is good for thirty days and which is verified every ninety."""
        registry.promote("team/a@v1", "prod")
        fresh = EvalGroup(Demands(max_age=30 * DAY), any=True)
        asked = Policy("prod", evals=Evals(groups=(fresh,)), process=Process(reverify_seconds=90 * DAY))
        registry.set_policy("prod", asked)
        return registry

    def test_it_is_said_before_the_time_is_over_and_after_and_nothing_stops(self, prod):
        states = {days: [each.overdue for each in in_days(prod, days).due("team/a")] for days in (80, 82, 89, 91)}
        assert states == {80: [], 82: [False], 89: [False], 91: [True]}
        late = in_days(prod, 91)
        [due] = late.due()
        assert str(due).startswith("OVERDUE: team/a@v1 in prod was last verified on ")
        assert "adapters reverify team/a prod" in str(due)
        assert late.resolve("team/a@prod").number == 1
        assert late.promote("team/a@v1", "dev").promotion

    def test_old_evidence_does_not_verify_and_is_recorded_as_refused(self, prod):
        late = in_days(prod, 91)
        found = late.reverify("team/a", "prod")
        assert found.decision.outcome is Result.WAITING
        assert pointing(prod) == {"prod": 1}
        entry = late.events("team/a@v1")[-1].entry
        assert (entry.action, entry.outcome, entry.detail["stage"]) == ("reverify", Outcome.REFUSED, "prod")
        assert late.due()[0].blockers == tuple(f"{f.rule}: {f.reason}" for f in found.decision.blockers)

    def test_fresh_evidence_verifies_it_for_as_long_again(self, prod):
        late = in_days(prod, 91)
        late.add_scores("team/a@v1", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
        assert late.reverify("team/a", "prod").decision.promotes
        assert late.due() == ()
        assert [each.overdue for each in in_days(prod, 91 + 91).due()] == [True]

    def test_another_version_in_the_stage_begins_anew(self, prod):
        late = in_days(prod, 91)
        late.add_scores("team/a@v2", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
        late.promote("team/a@v2", "prod")
        assert late.due() == ()

    def test_the_sweeper_verifies_what_passes_and_leaves_the_rest_to_people(self, prod):
        late = in_days(prod, 91)
        before = len(late.events())
        assert reverify.sweep(late._opened) == ()
        assert len(late.events()) == before
        late.add_scores("team/a@v1", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
        assert [each.stage for each in reverify.sweep(late._opened)] == ["prod"]
        assert late.events("team/a@v1")[-1].entry.actor == auto.ACTOR
        assert late.due() == ()

    def test_who_may_not_see_an_adapter_hears_nothing_of_it(self, prod):
        late = in_days(prod, 91)
        other = Principal("eve", (Grant("other/*", ("read",)),))
        assert Registry(prod.settings, replace(late._opened, asks=other)).due() == ()
