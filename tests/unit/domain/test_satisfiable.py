"""Whether the people there are could give what a policy asks for: counted without the author, each person once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapter_registry.domain.people.access import grant_of
from adapter_registry.domain.people.account import Account, AccountKind
from adapter_registry.domain.policies.evals import Bound, Comparison, Evals, Margin, Test
from adapter_registry.domain.policies.lint import lint
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import NEVER, Approvals, Overriding, Process, Sources
from adapter_registry.domain.policies.satisfiable import unsatisfied

AT = "2026-01-01T00:00:00.000000Z"


def account(name, *verbs, kind=AccountKind.PERSON):
    return Account(name, kind, (grant_of("*", verbs),), "root", AT)


ROOT = account("root", "override")
PEOPLE = (ROOT, *(account(name, "approve") for name in ("ann", "bob", "cat")))


def prod(own=None, over=None):
    return Policy("prod", process=Process(approvals=own, overriding=over))


def told(policy, accounts=PEOPLE, **groups):
    return [(each.rule, each.text, each.impossible) for each in unsatisfied(policy, accounts, groups)]


def test_enough_people_for_each_and_for_both_leave_nothing_to_say():
    assert told(prod(Approvals(1), Overriding(2))) == []


def test_the_approvals_of_an_override_take_people_of_their_own():
    [(rule, text, impossible)] = told(prod(Approvals(2), Overriding(2)))
    assert (rule, impossible) == ("override", False)
    assert text == (
        "2 and 2 wanted, each of another person, and 3 accounts may give them (ann, bob, cat): "
        "adapters account grant NAME '*' approver"
    )


def test_nobody_counts_for_both_even_from_two_groups():
    policy = prod(Approvals(1, ("leads",), 1), Overriding(1, ("managers",)))
    assert told(policy, leads=("ann",), managers=("bob",)) == []
    assert [rule for rule, *_ in told(policy, leads=("ann",), managers=("ann",))] == ["override"]


def test_a_hotfix_that_too_few_could_approve_is_told():
    way = Sources(("staging",), hotfix=("dev",))
    few, enough = (Policy("prod", process=Process(way, approvals=Approvals(n))) for n in (3, 2))
    [(rule, text, impossible)] = told(few)
    assert (rule, impossible) == ("hotfix", False)
    assert text.startswith("4 wanted, and 3 accounts may give them (ann, bob, cat)")
    assert told(enough) == []
    nobody = (account("ann", "read"),)
    assert [rule for rule, *_ in told(Policy("prod", process=Process(way)), nobody)] == ["hotfix"]


def test_who_pushed_it_is_not_counted():
    people = (ROOT, account("ann", "approve", "push"), account("bob", "approve"), account("dan", "push"))
    [(rule, text, impossible)] = told(prod(Approvals(2)), people)
    assert (rule, impossible) == ("approvals", False)
    assert text == "2 wanted: what ann pushed could never be approved, too few others may"


@pytest.mark.parametrize(
    "who",
    [account("root", "approve"), account("root", "override", kind=AccountKind.SERVICE), replace(ROOT, disabled_at=AT)],
)
def test_an_override_that_no_person_may_ask_for_is_named(who):
    [(rule, text, impossible)] = told(prod(over=Overriding(1)), (who, *PEOPLE[1:]))
    assert (rule, impossible) == ("override", False)
    assert "nobody may ask for one: it takes a person with the verb override:prod" in text


def test_a_group_of_the_override_without_members_is_impossible():
    found = told(prod(over=Overriding(1, ("managers",))))
    assert ("override", "group managers has no members: adapters group add managers ACCOUNT", True) in found


class TestWhatAnOverrideNeverReaches:
    EVALS = Evals(bounds=(Bound("x/acc", min=0.5),))

    def told(self, *never, evals=EVALS, count=1, own=None):
        process = Process(approvals=own, overriding=Overriding(count, never=(*NEVER, *never)))
        return [each.text for each in lint(Policy("prod", evals=evals, process=process), ())]

    def test_rules_of_the_policy_may_be_named(self):
        assert self.told("x/acc", "x/acc ≥ 0.5", "soak", "metadata license", "approvals") == []

    def test_what_is_no_rule_of_it_is_told(self):
        assert self.told("x/ac") == ["never names x/ac, which is no rule of this policy"]

    def test_what_a_pattern_may_cover_is_not(self):
        any_task = Evals(comparisons=(Comparison("*/acc", Test.NON_INFERIOR, Margin(0.01)),))
        assert self.told("x/ac", evals=any_task) == []

    def test_one_person_alone_over_everybody_s_approval_is_told(self):
        [text] = self.told(count=0, own=Approvals(2))
        assert "whoever asks passes over everybody else's" in text
        assert self.told("approvals", count=0, own=Approvals(2)) == []
