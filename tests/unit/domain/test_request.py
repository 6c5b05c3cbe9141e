"""Requests: every step from every state, and which approvals count."""

from dataclasses import replace

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.errors import Conflict, InvalidReference
from adapter_registry.domain.policies.process import Approvals, Process
from adapter_registry.domain.promotions.request import (
    EDGES,
    Approval,
    Binding,
    Person,
    State,
    Step,
    after,
    reckoned,
    request_id,
    unfilled,
)

NOW = "2026-03-10T12:00:00.000000Z"
DIGESTS = [of_bytes(name) for name in (b"version", b"base", b"policy", b"evidence")]
BINDING = Binding(*DIGESTS, generation=3)
PEOPLE = {
    "ann": Person("ann", frozenset({"leads", "safety"})),
    "bob": Person("bob", frozenset({"leads"})),
    "eve": Person("eve", frozenset({"safety"}), "because they may not approve"),
}

# state -> steps it has; every other pair is refused.
ALLOWED = {
    "draft": "evaluate supersede cancel",
    "evaluating": "block clear refuse fail",
    "waiting": "evaluate decline expire supersede cancel",
    "ready": "apply evaluate decline expire supersede cancel",
    "applying": "finish evaluate fail",
}


def given(*names, binding=BINDING, at=NOW):
    return [Approval(name, at, binding) for name in names]


def reckon(asked, approvals):
    return reckoned(asked, approvals, binding=BINDING, now=NOW, people=PEOPLE)


class TestStates:
    @pytest.mark.parametrize("state", State)
    @pytest.mark.parametrize("step", Step)
    def test_each_state_has_the_steps_of_the_table_and_no_others(self, state, step):
        if step in ALLOWED.get(state, "").split():
            assert after(state, step) in State
        else:
            with pytest.raises(Conflict, match=f"{state} cannot {step}"):
                after(state, step)

    def test_the_only_way_to_applied_leads_through_a_judgement_without_blockers(self):
        def ways(wanted):
            return [
                (state, step) for state, steps in EDGES.items() for step, reached in steps.items() if reached is wanted
            ]

        assert ways(State.APPLIED) == [(State.APPLYING, Step.FINISH)]
        assert ways(State.APPLYING) == [(State.READY, Step.APPLY)]
        assert ways(State.READY) == [(State.EVALUATING, Step.CLEAR)]

    def test_what_is_over_is_not_open_and_has_no_steps(self):
        assert {state for state in State if not state.is_open} == set(State) - EDGES.keys()

    @pytest.mark.parametrize("text", ["214", "P-", "P-0", "P-x", "P--1", "P-²", "P-9999999999", ""])
    def test_a_request_is_written_with_its_letter(self, text):
        assert request_id("P-214") == request_id("p-214") == 214
        with pytest.raises(InvalidReference):
            request_id(text)


class TestApprovals:
    def test_as_many_different_people_as_asked_are_enough(self):
        assert reckon(Approvals(2), given("ann", "bob")).enough
        assert not reckon(Approvals(2), given("ann", "ann")).enough
        assert not reckon(Approvals(3), given("ann", "bob")).enough

    def test_a_hotfix_takes_one_more_even_where_none_are_asked_for(self):
        assert Process().consent(hotfix=False) is None
        assert Process().consent(hotfix=True).count == 1
        assert Process(approvals=Approvals(2)).consent(hotfix=True).count == 3

    @pytest.mark.parametrize("field", ["version", "base", "policy", "evidence", "generation"])
    def test_an_approval_is_stale_as_soon_as_anything_it_is_about_changes(self, field):
        other = 4 if field == "generation" else of_bytes(b"other")
        found = reckon(Approvals(1), given("ann", binding=replace(BINDING, **{field: other})))
        name = "incumbent" if field == "generation" else field
        assert not found.enough
        assert found.void == (("ann", f"stale: {name} changed since"),)

    @pytest.mark.parametrize(
        ("at", "counts"), [("2026-03-03T12:00:00.000000Z", True), ("2026-03-03T11:59:59.000000Z", False)]
    )
    def test_an_approval_expires(self, at, counts):
        assert reckon(Approvals(1), given("ann", at=at)).enough is counts

    def test_who_may_not_approve_any_more_does_not_count(self):
        assert reckon(Approvals(1), given("eve")).void == (("eve", "because they may not approve"),)

    def test_each_group_needs_a_person_of_its_own(self):
        asked = Approvals(1, ("leads", "safety"), each_group=1)
        assert reckon(asked, given("ann")).missing == ("safety",)
        assert reckon(asked, given("bob", "ann")).enough
        assert reckon(asked, given("ann", "bob")).enough

    def test_places_are_filled_by_a_largest_matching(self):
        people = {"a": frozenset({"x", "y"}), "b": frozenset({"x"}), "c": frozenset({"y", "z"})}
        assert unfilled(["x", "y", "z"], people) == ()
        assert unfilled(["x", "x", "y", "z"], people) == ("z",)
        assert unfilled([], {}) == ()
