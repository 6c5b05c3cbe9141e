"""A policy tried on the past: evidence, lower stages and approvals as the history has them."""

from __future__ import annotations

import pytest

from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Approvals, Process, Soak, Sources
from adapter_registry.domain.promotions.promotion import Result
from tests.integration.test_race import store  # noqa: F401  a fixture
from tests.integration.test_requests import ONE, asked, ready  # noqa: F401  a fixture

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def said(me, process):
    return [
        (each.reference.partition("@")[2], each.outcome, [finding.rule for finding in each.blockers])
        for each in me.try_policy("prod", Policy("prod", process=process))
    ]


def test_approvals_and_soak_time_are_those_of_then(ready):  # noqa: F811
    me = ready.registry()
    me.set_policy("staging", Policy("staging"))
    me.set_policy("prod", Policy("prod"))
    me.promote("a@v3", "prod")
    me.set_policy("prod", ONE)
    me.promote("a@v1", "staging")
    ready.registry("bob").approve(asked(ready, "a@v1"))
    me.promote("a@v2", "staging")
    ready.registry("bob").approve(asked(ready, "a@v2"))
    first = ("v3", Result.PROMOTE, [])  # nobody had to approve it, so that approvals are not judged
    assert said(me, Process(approvals=Approvals(1))) == [("v2", Result.PROMOTE, []), ("v1", Result.PROMOTE, []), first]
    two = [("v2", Result.WAITING, ["approvals"]), ("v1", Result.WAITING, ["approvals"]), first]
    assert said(me, Process(approvals=Approvals(2))) == two
    never = ("v3", Result.WAITING, ["from"])
    from_staging = [("v2", Result.PROMOTE, []), ("v1", Result.PROMOTE, []), never]
    assert said(me, Process(Sources(("staging",)))) == from_staging
    day = said(me, Process(soak=Soak("staging", 86_400)))
    assert [rules for _, _, rules in day] == [["soak"], ["soak"], ["soak"]]
