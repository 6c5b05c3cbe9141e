"""Requests on real databases: what was approved is what is promoted, or nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adapter_registry.calls.asking import STIRRING
from adapter_registry.domain.audit.event import GENESIS, Outcome, chained
from adapter_registry.domain.audit.file import exported, verified
from adapter_registry.domain.errors import BrokenChain, Conflict, Forbidden, InvalidInput, Revoked
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.people.access import SYSTEM
from adapter_registry.domain.people.account import AccountKind
from adapter_registry.domain.policies.policy import Bound, Evals, Policy, document
from adapter_registry.domain.policies.process import Approvals, Process, Rollbacks, Soak, Sources
from adapter_registry.domain.promotions.promotion import Result
from adapter_registry.domain.promotions.request import State
from adapter_registry.operations import BY_FUNCTION
from adapter_registry.services import request as requests
from benchmarks.promotion_races import VERSIONS, Raced, race
from tests.integration.test_kill import variant
from tests.integration.test_race import store  # noqa: F401  a fixture

ROUNDS = 20
TWO = Process(approvals=Approvals(2))
ONE = Policy("prod", process=Process(approvals=Approvals(1)))


@pytest.fixture
def ready(store, lora_folder, tmp_path):  # noqa: F811  the fixture
    """v1 to v3 by ann, scored by sue; prod takes one approval."""
    ann = store.registry("ann")
    for i in range(VERSIONS):
        ann.push(variant(lora_folder, tmp_path / f"v{i}", i), base="llama", name="a")
        store.registry("sue").add_scores(f"a@v{i + 1}", (Score("x/acc", 0.5, Direction.HIGHER, n=1000),))
    ann.set_policy("prod", ONE)
    return store


def in_seconds(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def asked(ready, version="a@v1", **given):
    found = ready.registry("rob").attempt(version, "prod", **given)
    assert found.decision.outcome is Result.WAITING
    return found.request


def test_a_request_is_applied_as_soon_as_it_is_approved(ready):
    request = asked(ready)
    assert (request.name, request.state) == ("P-1", State.WAITING)
    approved = ready.registry("bob").approve(request, comment="looks good")
    assert approved.request.state is State.APPLIED
    assert ready.registry().resolve("a@prod").number == 1
    assert approved.promotion.version == request.version
    assert ready.registry().requests() == ()
    ready.verify()


@pytest.mark.parametrize("who", ["ann", "rob", "sue"])
def test_author_requester_and_importer_of_the_evidence_cannot_approve(ready, who):
    request = asked(ready)
    with pytest.raises(Forbidden, match="because they"):
        ready.registry(who).approve(request)
    assert ready.registry().request("P-1").approvals == ()
    refused = ready.registry().events("a@v1")[-1]
    assert (refused.entry.action, refused.entry.outcome) == ("request.approve", Outcome.REFUSED)


def test_a_service_account_cannot_approve_whatever_it_was_granted():
    machine = replace(SYSTEM, machine=True)
    assert not machine.may("approve:prod", "team/a")
    assert machine.may("promote:prod", "team/a")


def test_what_changes_after_an_approval_makes_it_stale(ready):
    ready.registry().set_policy("prod", Policy("prod", process=TWO))
    request = asked(ready)
    assert ready.registry("bob").approve(request).request.state is State.WAITING
    ready.registry("sue").label("a@v1", {"license": "mit"})
    found = ready.registry().request(request.name)
    assert found.state is State.WAITING
    last = ready.registry("cat").approve(found)
    assert last.promotion is None
    approvals = next(str(each) for each in last.decision.findings if each.rule == "approvals")
    assert "1 of 2 by cat; bob's does not count, stale: evidence changed since" in approvals


def test_an_approval_of_what_is_no_longer_there_is_refused(ready):
    request = asked(ready)
    seen = ready.registry("bob").explain("a@v1", "prod").seen
    ready.registry().label("a@v1", {"license": "mit"})
    with pytest.raises(Conflict, match="no longer what you saw"):
        ready.registry("bob").approve(request, seen=seen)


def test_a_request_for_another_version_supersedes_and_a_decline_ends(ready):
    first, second = asked(ready), asked(ready, "a@v2")
    assert asked(ready, "a@v2").name == second.name
    assert ready.registry().request(first.name).state is State.SUPERSEDED
    declined = ready.registry("bob").decline(second, reason="no license")
    assert (declined.state, declined.ended) == (State.DECLINED, "bob: no license")
    with pytest.raises(Conflict, match="is declined"):
        ready.registry("bob").approve(second)
    assert ready.registry("rob").cancel(asked(ready)).state is State.CANCELLED


def test_a_request_of_who_may_not_ask_is_refused_at_once_and_keeps_nobody_from_asking(ready):
    me = ready.registry("root")
    for name in ("rob", "bob"):
        me.create_account(name)
    me.grant("bob", "*", ("promoter",))
    refused = ready.registry("rob").attempt("a@v1", "prod")
    assert (refused.decision.outcome, refused.request.state) == (Result.REFUSED, State.REFUSED)
    assert me.requests() == ()
    assert ready.registry("bob").attempt("a@v1", "prod").request.state is State.WAITING


def test_a_request_that_takes_the_place_of_another_says_which(ready):
    ready.registry().set_policy("prod", Policy("prod", process=TWO))
    first = asked(ready)
    ready.registry("bob").approve(first)
    seen = ready.registry("rob").explain("a@v2", "prod").instead_of
    assert (seen.name, len(seen.approvals)) == (first.name, 1)
    assert ready.registry("rob").explain("a@v1", "prod").instead_of is None
    assert ready.registry("rob").attempt("a@v2", "prod").instead_of.name == first.name


def test_what_waits_makes_way_for_what_is_promoted_and_never_takes_it_back(ready):
    """Applied later, it would move the stage back to what was asked for before."""
    me = ready.registry()
    me.set_policy("prod", Policy("prod", evals=Evals(bounds=(Bound("x/late", min=0.0),))))
    waits = asked(ready, "a@v1")
    score = Score("x/late", 0.5, Direction.HIGHER, n=1000)
    me.add_scores("a@v2", (score,))
    assert me.explain("a@v2", "prod").instead_of.name == waits.name
    done = ready.registry("rob").attempt("a@v2", "prod")
    assert (done.promotion.number, done.instead_of.name) == (2, waits.name)
    ended = me.request(waits.name)
    assert (ended.state, ended.ended) == (State.SUPERSEDED, f"{done.version.reference} was promoted in its place.")
    me.add_scores("a@v1", (score,))
    requests.sweep(me._opened)
    assert me.resolve("a@prod").number == 2
    ready.verify()


def test_without_a_server_what_was_missing_moves_a_request_on_when_it_comes(ready):
    me = ready.registry()
    evals = Evals(bounds=(Bound("x/late", min=0.4),))
    me.set_policy("prod", Policy("prod", evals=evals, metadata=("description",)))
    request = asked(ready)
    me.add_scores("a@v1", (Score("x/late", 0.5, Direction.HIGHER, n=1000),))
    assert "description" in " ".join(me.requests()[0].blockers)
    me.label("a@v1", {"description": "answers"})
    assert me.resolve("a@prod").number == 1
    assert me.requests() == ()
    other = ready.registry("rob").attempt("a@v2", "prod").request
    me.add_scores("a@v2", (Score("x/late", 0.1, Direction.HIGHER, n=1000),))
    assert [each.state for each in me.requests(still_open=False)] == [State.REFUSED, State.APPLIED]
    assert {each.id for each in me.requests(still_open=False)} == {request.id, other.id}


def test_every_operation_that_stirs_requests_is_one():
    names = {f"{f.__module__.rpartition('.')[2]}.{f.__name__}" for f in BY_FUNCTION}
    assert names >= STIRRING


def test_a_rule_that_fails_meanwhile_ends_the_request(ready):
    request = asked(ready)
    evals = Evals(bounds=(Bound("x/acc", min=0.9),))
    ready.registry().set_policy("prod", Policy("prod", evals=evals, process=ONE.process))
    ended = ready.registry().request(request.name)
    assert ended.state is State.REFUSED
    assert ended.ended.startswith("x/acc ≥ 0.9: ")
    assert "approvals" not in ended.ended


def test_the_request_for_a_version_that_is_revoked_fails(ready):
    request = asked(ready)
    ready.registry().revoke("a@v1", because="leaked")
    [ended] = ready.registry().requests(still_open=False)
    assert (ended.id, ended.state) == (request.id, State.FAILED)
    with pytest.raises(Revoked, match="leaked"):
        ready.registry().served("a@v1")


def test_without_a_server_a_request_goes_on_when_what_stood_still_moves(ready):
    me = ready.registry()
    me.set_policy("prod", Policy("prod", process=Process(Sources(("staging",)))))
    waits = me.attempt("a@v1", "prod").request
    window = me.freeze("2020-01-01", "2999-01-01", stage="prod", reason="audit")
    assert me.attempt("a@v1", "staging").promotion
    [still] = me.requests()
    assert (still.id, ["freeze: until" in line for line in still.blockers]) == (waits.id, [True])
    me.thaw(window.id)
    assert me.requests() == ()
    assert me.resolve("a@prod").number == 1


def test_soak_time_that_is_over_applies_the_request_without_anybody(ready):
    process = Process(Sources(("staging",)), Soak("staging", 60))
    for stage, policy in (("staging", Policy("staging")), ("prod", Policy("prod", process=process))):
        ready.registry().set_policy(stage, policy)
    assert [f.rule for f in ready.registry().explain("a@v1", "prod").decision.blockers] == ["from", "soak"]
    rob = ready.registry("rob")
    rob.promote("a@v1", "staging")
    asked(ready)
    assert requests.sweep(rob._opened) == ()
    [moved] = requests.sweep(replace(rob._opened, clock=lambda: in_seconds(61)))
    assert moved.state is State.APPLIED


def test_a_request_that_is_open_for_a_month_expires(ready):
    rob = ready.registry("rob")
    rob.attempt("a@v1", "prod")
    [ended] = requests.sweep(replace(rob._opened, clock=lambda: in_seconds(31 * 86_400)))
    assert ended.state is State.EXPIRED


def test_every_open_request_moves_on_however_many_there_are(ready, lora_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "MOST", 1)
    ready.registry("ann").push(lora_folder, base="llama", name="b")
    rob = ready.registry("rob")
    for version in ("a@v1", "b@v1"):
        rob.attempt(version, "prod")
    ended = requests.sweep(replace(rob._opened, clock=lambda: in_seconds(31 * 86_400)))
    assert {each.adapter.partition("/")[2] for each in ended} == {"a", "b"}


def test_a_rollback_follows_the_stages_rules_and_holds_machines(ready):
    process = Process(rollbacks=Rollbacks(window=1, reason_required=True))
    ready.registry().set_policy("prod", Policy("prod", process=process))
    me = ready.registry("rob")
    for number in (1, 2, 3):
        me.promote(f"a@v{number}", "prod")
    with pytest.raises(InvalidInput, match="needs a reason"):
        me.rollback("a", "prod")
    with pytest.raises(Conflict, match="not among the last 1"):
        me.rollback("a", "prod", to="v1", reason="slow")
    assert me.hold("default/a", "prod") is None
    me.rollback("a", "prod", reason="slow")
    assert me.hold("default/a", "prod").reason == "slow"
    machine = replace(me._opened, asks=replace(SYSTEM, name="ci", machine=True), actor="ci")
    from adapter_registry.services import promote

    held = promote.promote(machine, reference="default/a@v3", stage="prod")
    assert [f.rule for f in held.decision.blockers] == ["hold"]
    me.lift_hold("default/a", "prod")
    assert me.request(held.request.name).state is State.APPLIED
    events = [e.entry for e in me.events() if e.entry.action == "rollback"]
    assert [e.outcome for e in events] == [Outcome.REFUSED, Outcome.REFUSED, Outcome.DONE]


def test_a_policy_that_nobody_can_satisfy_is_refused_by_name(ready):
    me = ready.registry()
    groups = Policy("prod", process=Process(approvals=Approvals(2, ("leads",), 1)))
    with pytest.raises(InvalidInput, match="group leads has no members"):
        me.set_policy("prod", groups)
    for name in ("bob", "eve"):
        me.create_account(name)
        me.grant(name, "*", ("approver",))
    me.create_account("ci", kind=AccountKind.SERVICE)
    me.set_member("leads", "ci")
    with pytest.raises(InvalidInput, match="2 wanted, and 0 accounts"):
        me.set_policy("prod", groups)
    me.set_member("leads", "bob")
    me.set_member("leads", "eve")
    assert me.set_policy("prod", groups).policy == groups
    assert document(groups)["require"]["approvals"]["from"] == ["group:leads"]


class TestAudit:
    def test_pointers_and_requests_can_be_made_again_from_the_log(self, ready):
        ready.registry("bob").approve(asked(ready))
        ready.registry("bob").approve(asked(ready, "a@v2"))
        ready.registry().rollback("a", "prod", reason="slow")
        asked(ready, "a@v3")
        moves, states = [], {}
        for event in ready.registry().events():
            entry, detail = event.entry, event.entry.detail
            if entry.action in ("promote", "rollback") and "sequence" in detail:
                moves.append((detail["sequence"], entry.subject, detail["digest"], detail["previous"], detail["by"]))
            if "state" in detail:
                assert states.get(detail["request"]) == detail["before"]
                states[detail["request"]] = detail["state"]
        kept = ready.registry().history("a", "prod").moves
        assert moves == [
            (m.sequence, f"{m.adapter}@v{m.number}", m.version, m.previous, m.actor) for m in reversed(kept)
        ]
        assert states == {each.name: each.state for each in ready.registry().requests(still_open=False)}

    def test_what_was_changed_removed_or_moved_is_noticed_offline(self, ready):
        events = ready.registry().events()
        text = exported(events)
        lines = text.splitlines(keepends=True)
        assert verified(text, head=events[-1].digest).events == len(events)
        damaged = {
            "changed": text.replace('"actor":"ann"', '"actor":"eve"', 1),
            "removed": "".join(lines[:2] + lines[3:]),
            "moved": "".join([lines[0], lines[2], lines[1], *lines[3:]]),
            "first removed": "".join(lines[1:]),
            "cut": "".join(lines[:-3]),
            "cut and ended": "".join(lines[:-2]) + lines[-1],
            "empty": "",
            "no JSON": "\x00" + text,
        }
        for kind, each in damaged.items():
            with pytest.raises(BrokenChain):
                print(kind, verified(each))

    def test_a_log_written_anew_is_noticed_by_the_head_that_was_kept(self, ready):
        events = ready.registry().events()
        previous, forged = GENESIS, []
        for event in events:
            forged.append(chained(replace(event.entry, actor="eve"), sequence=event.sequence, previous=previous))
            previous = forged[-1].digest
        assert verified(exported(forged)).events == len(events)
        with pytest.raises(BrokenChain, match="written anew"):
            verified(exported(forged), head=events[-1].digest)


def test_each_round_has_one_winner_and_what_is_promoted_is_what_was_approved(ready):
    found = race(lambda me: ready.registry(f"racer-{me}"), ROUNDS)
    assert found == Raced(ROUNDS, found.moves, not_one=0, several=0, bare=0, gaps=False, undone=found.undone)
    assert found.moves + found.undone == ROUNDS
    ready.verify()
