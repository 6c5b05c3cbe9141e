"""Overrides: named one by one, never all, and with approvals of their own."""

import pytest

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.policies.file import read_policy, to_yaml
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import NEVER, Approvals, Overriding, Process
from adapter_registry.domain.promotions.finding import Finding, Outcome
from adapter_registry.domain.promotions.override import Asked, Override, check_asked, check_needed, named, passed_over
from adapter_registry.domain.promotions.request import Person, Reckoning, beside

NOW, LATER = "2026-03-10T12:00:00.000000Z", "2026-03-11T12:00:00.000000Z"
BY = Overriding(2, never=(*NEVER, "approvals"))
SAID = tuple(
    Finding(rule, outcome, "why", "what to do")
    for rule, outcome in (
        ("compatibility", Outcome.FAIL),
        ("integrity format", Outcome.FAIL),
        ("gsm8k/acc ≥ 0.42", Outcome.FAIL),
        ("soak", Outcome.PENDING),
        ("health", Outcome.PASS),
        ("approvals", Outcome.PENDING),
    )
)


def override(*rules, expires=LATER):
    return Override(rules, "rob", "outage", "OPS-1", expires)


def outcomes(over, by=BY, now=NOW):
    return {each.rule: each.outcome for each in passed_over(SAID, over, by, now=now)}


def test_what_is_named_and_stands_in_the_way_is_passed_over_and_still_says_what_it_said():
    found = tuple(passed_over(SAID, override("soak", "health"), BY, now=NOW))
    soak = found[3]
    assert (soak.outcome, soak.reason, soak.fix) == (Outcome.OVERRIDDEN, "pending: why; overridden by rob", "")
    assert soak.passes
    assert found[:3] + found[4:] == SAID[:3] + SAID[4:]


@pytest.mark.parametrize("rule", ["compatibility", "integrity format", "approvals"])
def test_what_may_never_be_passed_over_is_not_even_when_it_is_named(rule):
    assert outcomes(override(rule)) == {each.rule: each.outcome for each in SAID}


def test_an_override_counts_until_it_expires_and_only_while_the_policy_declares_one():
    as_it_was = {each.rule: each.outcome for each in SAID}
    assert outcomes(override("soak", expires=NOW))["soak"] is Outcome.OVERRIDDEN
    assert outcomes(override("soak"), now="2026-03-11T12:00:00.000001Z") == as_it_was
    assert outcomes(override("soak"), by=None) == as_it_was
    assert outcomes(None) == as_it_was


def test_rules_are_named_as_people_type_them():
    assert named([" gsm8k/acc  >= 0.42 ", "soak", "soak", ""]) == ("gsm8k/acc ≥ 0.42", "soak")


@pytest.mark.parametrize(
    ("asked", "reason", "by", "said"),
    [
        (Asked(("soak",), "T-1"), "because", None, "declares no override"),
        (Asked((), "T-1"), "because", BY, "names each rule"),
        (Asked(("soak", "compatibility"), "T-1"), "because", BY, "compatibility can never be overridden"),
        (Asked(("integrity format",), "T-1"), "because", BY, "integrity format can never"),
        (Asked(("approvals",), "T-1"), "because", BY, "approvals can never"),
        (Asked(("override",), "T-1"), "because", BY, "override can never"),
        (Asked(("requester",), "T-1"), "because", BY, "requester can never"),
        (Asked(("soak",), "T-1"), "  ", BY, "needs a reason"),
        (Asked(("soak",)), "because", BY, "needs a ticket"),
        (Asked(("soak",), "T\n1"), "because", BY, "needs a ticket"),
    ],
)
def test_what_is_wrong_with_an_override_is_said(asked, reason, by, said):
    with pytest.raises(InvalidInput, match=said):
        check_asked(asked, reason, by, stage="prod")


def test_nothing_is_passed_over_ahead_of_time():
    found = tuple(passed_over(SAID, override("soak", "health"), BY, now=NOW))
    check_needed(["soak"], found)
    with pytest.raises(InvalidInput, match=r"'health' does not stand in the way.*What does: compatibility; .*soak"):
        check_needed(["health"], found)
    with pytest.raises(InvalidInput, match="'soaks' is no rule"):
        check_needed(["soaks"], found)


PEOPLE = {name: Person(name, frozenset(groups)) for name, groups in (("ann", ["leads"]), ("bob", []), ("cat", []))}


class TestApprovals:
    def count(self, first, extra, asked, *, needed=1):
        own = Reckoning(asked.count, first, (), ())
        found = beside(Reckoning(needed, extra, (), ()), own, asked, PEOPLE)
        return found.counted

    def test_one_persons_approval_counts_for_the_stage_or_for_the_override(self):
        assert self.count(("ann",), ("ann",), Approvals(1)) == ()
        assert self.count(("ann", "bob"), ("ann", "bob"), Approvals(1)) != ()
        assert self.count(("ann", "bob"), ("ann",), Approvals(1)) == ("ann",)

    def test_the_stage_comes_first_and_each_group_gets_its_own(self):
        leads = Approvals(1, ("leads",), each_group=1)
        assert self.count(("ann",), ("ann", "bob"), leads) == ("bob",)
        assert len(self.count(("ann", "bob", "cat"), ("ann", "bob", "cat"), Approvals(1), needed=2)) == 2


class TestDocument:
    TEXT = """
apiVersion: adapters/v1
kind: StagePolicy
stage: prod
override: {who: group:release-managers, approvals: 2, reason: required, ticket: optional, ttl: 36h,
           rules_named_one_by_one: true, never: [integrity, compatibility, revoked, from]}
"""

    def test_it_is_read_and_written(self):
        over = Overriding(2, ("release-managers",), ticket_required=False, seconds=36 * 3600, never=(*NEVER, "from"))
        read = read_policy(self.TEXT)
        assert read == Policy("prod", process=Process(overriding=over))
        assert read_policy(to_yaml(read)) == read
        assert read.digest != Policy("prod").digest

    @pytest.mark.parametrize(
        ("before", "after", "said"),
        [
            ("compatibility, ", "", "compatibility is missing"),
            ("one_by_one: true", "one_by_one: false", "rules_named_one_by_one"),
            ("reason: required", "reason: optional", "override.reason"),
            ("group:release-managers", "release-managers", "group:NAME"),
            ("36h", "forever", "a time span"),
        ],
    )
    def test_what_would_open_it_wide_is_refused(self, before, after, said):
        with pytest.raises(InvalidInput, match=said):
            read_policy(self.TEXT.replace(before, after))
