"""Versions made of others on a real database: they inherit nothing, and are marked when an ancestor is withdrawn."""

from __future__ import annotations

import pytest

from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.errors import InUse, Revoked
from adapter_registry.domain.lineage import Lineage, Parent
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import State
from tests.integration.test_kill import variant
from tests.integration.test_race import store  # noqa: F401  a fixture
from tests.integration.test_requests import ONE, ready  # noqa: F401  a fixture

pytestmark = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@pytest.fixture
def family(ready, lora_folder, tmp_path):  # noqa: F811  the fixture
    """child@v1 is made of a@v1, which is in dev and staging and has an approved request for prod."""
    for stage in ("dev", "staging"):
        ready.registry().set_policy(stage, Policy(stage))
        ready.registry().promote("a@v1", stage)
    ready.registry("bob").approve(ready.registry("rob").attempt("a@v1", "prod").request)
    parent = ready.registry().resolve("a@v1")
    of = (Parent(parent.adapter, parent.number, parent.digest, 0.5),)
    lineage = Lineage("compose", "linear", "peft", of, {}, 0, {}, "cpu", 0.0, ())
    folder = variant(lora_folder, tmp_path / "child", 40)
    ready.registry("ann").push(folder, base="llama", name="child", lineage=lineage)
    return ready


def test_a_derived_version_inherits_no_stage_approval_score_or_label(family):
    me = family.registry()
    parent, child = me.resolve("a@v1"), me.resolve("child@v1")
    assert parent.stages == ("dev", "prod", "staging")
    assert (child.stages, child.tags, child.labels) == ((), (), {})
    assert me.scores("child@v1") == ()
    found = family.registry("rob").attempt("child@v1", "prod")
    assert found.decision.outcome is Result.WAITING
    assert found.request.approvals == ()
    assert [each.reference for each in me.derived("a@v1")] == ["default/child@v1"]


def test_revoking_marks_what_was_made_of_it_and_ends_its_requests_once_stages_moved(family):
    me, rob = family.registry(), family.registry("rob")
    waiting = rob.attempt("child@v1", "prod").request
    with pytest.raises(InUse, match="dev and prod and staging serve"):
        me.revoke("a@v1", because="leaked")
    assert me.resolve("child@v1").revoked_ancestors == ()
    for stage in ("dev", "staging"):
        me.promote("a@v2", stage)
    family.registry("bob").approve(rob.attempt("a@v2", "prod").request)
    me.revoke("a@v1", because="leaked")
    assert me.resolve("child@v1").revoked_ancestors == ("default/a@v1",)
    [told] = [e.entry for e in me.events("child@v1") if e.entry.action == "ancestor.revoke"]
    assert told.detail == {"ancestor": "default/a@v1", "because": "leaked.", "stages": []}
    assert me.request(waiting.name).state is State.REFUSED
    with pytest.raises(Revoked, match="leaked"):
        me.promote("a@v1", "dev")
    last = me.events("a@v1")[-1].entry
    assert (last.action, last.outcome) == ("promote", Outcome.REFUSED)
    refused = rob.attempt("child@v1", "prod")
    assert [each.rule for each in refused.decision.blockers] == ["ancestry", "approvals"]
    me.set_policy("prod", Policy("prod", process=ONE.process, revoked_ancestors_pass=True))
    assert rob.attempt("child@v1", "prod").decision.outcome is Result.WAITING
    family.verify()
