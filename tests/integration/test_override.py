"""Overrides on a real database: asked for by name, approved by others, on the record for good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapter_registry.client import Overriding as Asked
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import Forbidden, InvalidInput
from adapter_registry.domain.people.access import Grant, Principal
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.policy import Bound, Evals, Policy
from adapter_registry.domain.policies.process import Approvals, Overriding, Process, Sources
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import State
from adapter_registry.services import promote
from adapter_registry.services import request as requests
from tests.integration.test_race import store  # noqa: F401  a fixture
from tests.integration.test_requests import in_seconds, ready  # noqa: F401  a fixture

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
EVALS = Evals(bounds=(Bound("x/acc", min=0.9),))
RULES = ("x/acc >= 0.9", "from")


@pytest.fixture
def prod(ready):  # noqa: F811  the fixture
    """A stage whose rules v1 breaks, and which lets two more people pass over them."""
    process = Process(Sources(("staging",)), approvals=Approvals(1), overriding=Overriding(1))
    ready.registry().set_policy("prod", Policy("prod", evals=EVALS, process=process))
    return ready


def ask(prod, rules=RULES, who="rob"):
    return prod.registry(who).attempt("a@v1", "prod", reason="outage", override=Asked(rules, "OPS-1"))


def test_an_override_waits_for_its_own_approval_beside_that_of_the_stage_and_is_marked_for_good(prod):
    me = prod.registry("rob")
    assert me.attempt("a@v1", "prod").decision.outcome is Result.REFUSED
    found = ask(prod)
    assert [each.rule for each in found.decision.blockers] == ["approvals", "override"]
    assert prod.registry("bob").approve(found.request).promotion is None
    done = prod.registry("cat").approve(found.request)
    assert done.request.state is State.APPLIED
    [move] = me.history("a", "prod").moves
    assert (move.override.rules, move.override.reason, move.override.ticket) == (
        ("x/acc ≥ 0.9", "from"),
        "outage",
        "OPS-1",
    )
    assert {f.rule for f in move.findings if str(f.outcome) == "overridden"} == {"x/acc ≥ 0.9", "from"}
    marked = next(e.entry for e in me.events("a@v1") if e.entry.action == "override")
    assert marked.detail["severity"] == "high"
    assert marked.detail["approved_by"] == ["bob", "cat"]
    me.set_policy("prod", Policy("prod"))
    assert me.history("a", "prod").moves[0].override == move.override


def test_a_rule_that_was_not_named_still_stands_in_the_way(prod):
    found = ask(prod, ("from",))
    assert found.decision.outcome is Result.REFUSED
    assert [each.rule for each in found.decision.blockers] == ["x/acc ≥ 0.9", "approvals", "override"]
    assert prod.registry().requests() == ()


def test_approvals_of_another_request_do_not_carry_over_to_an_override(prod):
    plain = replace(prod.registry().policy("prod").policy, evals=Evals())
    prod.registry().set_policy("prod", plain)
    waiting = prod.registry("rob").attempt("a@v1", "prod")
    prod.registry("bob").approve(waiting.request)
    found = ask(prod, ("from",))
    assert found.request.approvals == ()
    assert prod.registry().request(waiting.request.name).state is State.SUPERSEDED


def test_an_override_ends_with_its_time_and_with_the_policy_that_allowed_it(prod):
    first = ask(prod)
    [ended] = requests.sweep(replace(prod.registry()._opened or _opened(prod), clock=lambda: in_seconds(86_401)))
    assert (ended.name, ended.state) == (first.request.name, State.EXPIRED)
    assert "its override was good until" in ended.ended
    second = ask(prod)
    without = replace(prod.registry().policy("prod").policy.process, overriding=None)
    prod.registry().set_policy("prod", Policy("prod", evals=EVALS, process=without))
    assert prod.registry().request(second.request.name).state is State.REFUSED


def _opened(prod):
    registry = prod.registry()
    registry.adapters()
    return registry._opened


def test_refused_overrides_are_on_the_record(prod):
    with pytest.raises(InvalidInput, match="is no rule of this judgement"):
        ask(prod, ("from", "soak"))
    last = prod.registry().events("a@v1")[-1].entry
    assert (last.action, last.outcome) == ("promote", Outcome.REFUSED)
    assert last.detail["rules"] == ["from", "soak"]
    assert "is no rule" in last.detail["because"]


def test_it_takes_a_verb_and_a_person(prod):
    backend = _opened(prod)
    asked = {"reference": "default/a@v1", "stage": "prod", "reason": "outage", "override": Asked(("from",), "OPS-1")}
    verbs = ("read", "promote", "override:staging")
    promoter = Principal("rob", (Grant("default/*", verbs),))
    for asks, why in (
        (promoter, "needs the verb 'override:prod'"),
        (Principal("ci", (Grant("*", ("*",)),), machine=True), "service account"),
    ):
        with pytest.raises(Forbidden, match=why):
            promote.promote(replace(backend, asks=asks, actor=asks.name), **asked)
    fit = replace(promoter, grants=(Grant("default/*", (*verbs, "override:prod")),))
    assert promote.promote(replace(backend, asks=fit, actor="rob"), **asked).request.override


def test_a_policy_whose_override_nobody_could_approve_is_refused(prod):
    me = prod.registry()
    managers = Policy("prod", process=Process(overriding=Overriding(1, ("managers",))))
    with pytest.raises(InvalidInput, match="override: group managers has no members"):
        me.set_policy("prod", managers)
    me.create_account("ci", kind=AccountKind.SERVICE)
    me.set_member("managers", "ci")
    with pytest.raises(InvalidInput, match="override: 1 wanted, and 0 accounts"):
        me.set_policy("prod", managers)
