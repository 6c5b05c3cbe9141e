"""What changes while somebody's request is under way counts as it is when the stage would move, not as it was."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest

from adapter_registry.client import Overriding as Asked
from adapter_registry.domain.audit.event import Outcome
from adapter_registry.domain.audit.file import events_of, exported
from adapter_registry.domain.audit.replay import replayed
from adapter_registry.domain.errors import Forbidden, RegistryError
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Approvals, Overriding, Process, Sources
from adapter_registry.domain.promotions.request import State
from adapter_registry.services import access, auto, promote, reverify, rollback
from adapter_registry.services import request as requests
from tests.integration.test_race import run, store  # noqa: F401  a fixture
from tests.integration.test_requests import asked, in_seconds, ready  # noqa: F401  a fixture

sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
FREE = Policy("prod")


def of_token(ready, verbs):  # noqa: F811
    """The registry on behalf of pat, by a token, and what takes that token away."""
    me = ready.registry()
    me.create_account("pat")
    me.grant("pat", "*", verbs)
    made = me.create_token(account="pat")
    principal, _ = access.authenticate(me._opened, secret=made.secret)
    return replace(me._opened, actor="pat", asks=principal), lambda: me.revoke_token(made.token.id)


@sqlite
class TestWhoLosesTheRight:
    """A token is looked at when a request comes in; gates are weighed after that, and take their time."""

    VERBS = ("read", "promote", "rollback", "approve", "override")

    def acts(self, ready):  # noqa: F811
        """What pat was about to do when the token was taken away: each with the stage as it has to stay."""
        at = {"adapter": "default/a", "stage": "prod"}
        return {
            "promote": lambda pat: promote.promote(pat, reference="default/a@v2", stage="prod"),
            "rollback": lambda pat: rollback.rollback(pat, **at, reason="slow"),
            "approve": lambda pat: requests.approve(pat, **at, request="P-1"),
            "decline": lambda pat: requests.decline(pat, **at, request="P-1", reason="no"),
        }

    @pytest.mark.parametrize("what", ["promote", "rollback", "approve", "decline"])
    def test_a_token_that_is_revoked_meanwhile_moves_nothing(self, ready, what):  # noqa: F811
        ready.registry().set_policy("prod", FREE)
        for version in ("a@v2", "a@v1"):
            ready.registry("rob").promote(version, "prod")
        if what in ("approve", "decline"):
            ready.registry().set_policy("prod", Policy("prod", process=Process(approvals=Approvals(1))))
            asked(ready, "a@v3")
        pat, taken_away = of_token(ready, self.VERBS)
        taken_away()
        with pytest.raises(Forbidden, match="any more: the right or the token was taken away"):
            self.acts(ready)[what](pat)
        assert ready.registry().resolve("a@prod").number == 1
        assert [each.approvals for each in ready.registry().requests()] in ([], [()])
        last = ready.registry().events()[-1].entry
        assert (last.actor, last.outcome) == ("pat", Outcome.REFUSED)

    def test_so_does_a_right_that_is(self, ready):  # noqa: F811
        ready.registry().set_policy("prod", FREE)
        pat, _ = of_token(ready, self.VERBS)
        ready.registry().grant("pat", "*", ("read", "promote:staging"))
        with pytest.raises(Forbidden, match="may not promote:prod on default/a any more"):
            promote.promote(pat, reference="default/a@v2", stage="prod")

    def test_and_the_right_to_override(self, ready):  # noqa: F811
        process = Process(Sources(("dev",)), overriding=Overriding(0, ticket_required=False))
        ready.registry().set_policy("prod", Policy("prod", process=process))
        pat, _ = of_token(ready, self.VERBS)
        ready.registry().grant("pat", "*", ("read", "promote"))
        wish = {"reference": "default/a@v2", "stage": "prod", "reason": "now", "override": Asked(("from",))}
        with pytest.raises(Forbidden, match="may not override:prod on default/a any more"):
            promote.promote(pat, **wish)


@sqlite
class TestWhoseConsentCounts:
    def test_who_declared_evidence_invalid_cannot_approve_what_that_lets_through(self, ready):  # noqa: F811
        bob = ready.registry("bob")
        bob.add_scores("a@v2", (Score("x/f1", 0.1, Direction.HIGHER, n=10),))
        ready.registry("bob2").invalidate_scores("a@v2", because="typo", metric="x/f1")
        request = asked(ready, "a@v2")
        with pytest.raises(Forbidden, match="declared some invalid"):
            ready.registry("bob2").approve(request)

    def test_who_declines_takes_an_earlier_approval_back_where_declining_does_not_block(self, ready):  # noqa: F811
        process = Process(approvals=Approvals(2, decline_blocks=False))
        ready.registry().set_policy("prod", Policy("prod", process=process))
        request = asked(ready)
        bob = ready.registry("bob")
        bob.approve(request)
        declined = bob.decline(request, reason="on second thoughts")
        assert (declined.state, declined.approvals) == (State.WAITING, ())
        assert [(each.by, each.reason) for each in declined.objections] == [("bob", "on second thoughts")]
        assert ready.registry("cat").approve(request).promotion is None
        assert replayed(events_of(exported(bob.events()))).requests[1] == bob.request("P-1")

    def test_who_approves_after_all_objects_no_more(self, ready):  # noqa: F811
        process = Process(approvals=Approvals(2, decline_blocks=False))
        ready.registry().set_policy("prod", Policy("prod", process=process))
        request, bob = asked(ready), ready.registry("bob")
        for reason in ("too early", "no card"):
            declined = bob.decline(request, reason=reason)
        assert [each.reason for each in declined.objections] == ["no card"]
        approved = bob.approve(request).request
        assert ([each.by for each in approved.approvals], approved.objections) == (["bob"], ())
        assert replayed(events_of(exported(bob.events()))).requests[1] == bob.request("P-1")

    def test_an_override_that_ran_out_before_its_last_approval_promotes_nothing(self, ready):  # noqa: F811
        process = Process(Sources(("dev",)), overriding=Overriding(1, ticket_required=False, seconds=60))
        ready.registry().set_policy("prod", Policy("prod", process=process))
        request = asked(ready, reason="outage", override=Asked(("from",)))
        bob = ready.registry("bob")
        bob.adapters()
        late = replace(bob._opened, clock=lambda: in_seconds(61))
        found = requests.approve(late, adapter="default/a", stage="prod", request=request.name)
        assert (found.promotion, found.request.state) == (None, State.EXPIRED)

    def test_an_approval_by_a_clock_that_is_ahead_counts_and_ends_no_later(self, ready):  # noqa: F811
        process = Process(approvals=Approvals(2, expire_seconds=3600))
        ready.registry().set_policy("prod", Policy("prod", process=process))
        request, bob = asked(ready), ready.registry("bob")
        bob.adapters()
        at = {"adapter": "default/a", "stage": "prod", "request": request.name}
        requests.approve(replace(bob._opened, clock=lambda: in_seconds(300)), **at)
        again = ready.registry("cat")
        again.adapters()
        expired = requests.approve(replace(again._opened, clock=lambda: in_seconds(3901)), **at)
        assert expired.promotion is None
        assert requests.approve(replace(bob._opened, clock=lambda: in_seconds(3902)), **at).promotion


@sqlite
class TestTheRecord:
    def test_who_looks_at_a_request_that_may_go_on_is_not_who_moved_it(self, ready):  # noqa: F811
        ready.registry().set_policy("prod", Policy("prod", process=Process(Sources(("dev",)))))
        ready.registry().set_policy("dev", Policy("dev"))
        request = asked(ready)
        ready.registry("ann").promote("a@v1", "dev")
        assert ready.registry("lookeron").request(request.name).state is State.APPLIED
        moves = [each.entry for each in ready.registry().events() if each.entry.detail.get("request") == request.name]
        assert {each.actor for each in moves} == {"rob", auto.ACTOR}

    def test_what_a_request_waits_for_names_it_from_the_start(self, ready):  # noqa: F811
        found = ready.registry("rob").attempt("a@v1", "prod")
        [waits] = found.decision.blockers
        assert waits.fix == "somebody else: adapters approve P-1"
        assert found.request.blockers == (str(waits),)
        assert ready.registry().request("P-1") == found.request

    def test_requests_for_two_stages_of_one_version_go_their_own_ways(self, ready):  # noqa: F811
        one = Process(approvals=Approvals(1))
        ready.registry().set_policy("staging", Policy("staging", process=one))
        rob, bob = ready.registry("rob"), ready.registry("bob")
        first, second = rob.attempt("a@v1", "staging").request, rob.attempt("a@v1", "prod").request
        bob.decline(second, reason="not yet")
        assert bob.request(first.name).state is State.WAITING
        assert bob.approve(first).promotion.stage == "staging"
        assert bob.request(second.name).state is State.DECLINED


def mover(store, me, barrier):  # noqa: F811
    """Everything that moves prod or what it rests on, at once with seven others."""
    mine = store.registry(f"mover-{me}")
    mine.adapters()
    for each in range(5):
        version, stage = f"a@v{(me + each) % 3 + 1}", ("dev", "prod")[each % 2]
        acts = [
            lambda version=version, stage=stage: mine.attempt(version, stage),
            lambda: [mine.approve(asked) for asked in mine.requests("default/a")],
            lambda: mine.rollback("a", "prod", reason="slow"),
            lambda: auto.follow(mine._opened),
            lambda: reverify.reverify(mine._opened, adapter="default/a", stage="prod"),
            lambda version=version: mine.label(version, {"note": str(me)}),
            lambda: requests.sweep(mine._opened),
            lambda version=version: mine.attempt(version, "prod", reason="other"),
        ]
        barrier.wait()
        with suppress(RegistryError):
            acts[(me + each) % len(acts)]()


def test_moves_of_every_kind_at_once_leave_one_history_that_the_log_repeats(ready):  # noqa: F811
    me = ready.registry()
    me.set_policy("dev", Policy("dev"))
    me.promote("a@v1", "dev")
    me.set_policy("prod", Policy("prod", process=Process(Sources(("dev",)), approvals=Approvals(1), auto=True)))
    barrier = multiprocessing.get_context("fork").Barrier(8)
    run(mover, 8, ready, lambda count: [(who, barrier) for who in range(count)])
    for stage in ("dev", "prod"):
        moves = me.history("a", stage).moves
        assert [move.sequence for move in moves] == list(range(len(moves), 0, -1))
        assert all(later.previous == earlier.number for later, earlier in pairwise(moves))
    log = replayed(events_of(exported(me.events())))
    assert log.requests == {each.id: each for each in me.requests("default/a", still_open=False)}
    assert {place: pointed.number for place, pointed in log.pointers.items()} == {
        ("default/a", stage): moves[0].number for stage in ("dev", "prod") if (moves := me.history("a", stage).moves)
    }
    ready.verify()
