"""The way into a stage: where from, how long, through which windows."""

from dataclasses import replace

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Approvals, Freezing, Mode, Process, Soak, Sources
from adapter_registry.domain.promotions.finding import Outcome
from adapter_registry.domain.promotions.passage import Hold, Situation, Window, held, passing, since
from adapter_registry.domain.promotions.promotion import Kind, Promotion
from adapter_registry.domain.promotions.request import Person, Reckoning, Request

DIGEST = of_bytes(b"version")
REQUEST = Request(0, "t/a", "prod", 3, DIGEST, "ann", False, False, "", "2026-03-10T12:00:00.000000Z")
NOW = "2026-03-10T12:00:00.000000Z"
WINDOW = Window(1, "*", "prod", "2026-03-29T01:30:00", "2026-03-29T03:30:00", "Europe/Berlin", "audit", "eve")


def moves(*numbers, at="2026-03-09T16:48:00.000000Z"):
    """Newest first; a negative number was gone back to."""
    found, before = [], None
    for sequence, number in enumerate(numbers, 1):
        kind = Kind.ROLLBACK if number < 0 else Kind.PROMOTE
        found.append(
            Promotion("t/a", "staging", sequence, abs(number), DIGEST, before, kind, "a", "", (), DIGEST, 0, DIGEST, at)
        )
        before = abs(number)
    return tuple(reversed(found))


def say(process, **situation):
    [finding] = passing(Policy("prod", process=process), Situation(**{"request": REQUEST, "now": NOW, **situation}))
    return finding.outcome, finding.reason


class TestApprovals:
    MISSING = Reckoning(1, (), (), ())

    @pytest.mark.parametrize(
        ("able", "fix"),
        [
            (None, "once it is asked for, somebody else: adapters approve t/a@v3 prod"),
            ((Person("bob"),), "once it is asked for, one of them: adapters approve t/a@v3 prod"),
            ((), "let somebody approve first: adapters account grant NAME t/a approver"),
        ],
    )
    def test_who_can_give_one_is_told_as_far_as_it_is_known(self, able, fix):
        situation = Situation(REQUEST, NOW, reckoning=self.MISSING, able=able)
        [finding] = passing(Policy("prod", process=Process(approvals=Approvals(1))), situation)
        assert (finding.outcome, finding.fix) == (Outcome.PENDING, fix)

    def test_more_than_the_people_there_are_can_never_be_given(self):
        asked = Process(Sources(("staging",), hotfix=("dev",)), approvals=Approvals(2, ("ml", "safety"), 1))
        people = (Person("bob", frozenset({"ml"})), Person("cat", frozenset({"safety"})))
        way = {"moves": {"dev": moves(3), "staging": ()}, "request": replace(REQUEST, hotfix=True), "now": NOW}
        situation = Situation(**way, reckoning=Reckoning(3, (), (), ("ml", "safety")), able=people)
        [_, finding] = passing(Policy("prod", process=asked), situation)
        assert finding.reason.endswith("; 3 more are needed and only 2 can")
        assert finding.fix == "put somebody else who may approve into ml: adapters group add ml NAME"

    def test_a_group_in_which_nobody_can_is_named_first(self):
        asked = Process(approvals=Approvals(2, ("ml", "safety"), 1))
        able = (Person("bob", frozenset({"ml"})), Person("eve", frozenset({"ml"})))
        situation = Situation(REQUEST, NOW, reckoning=Reckoning(2, (), (), ("ml", "safety")), able=able)
        [finding] = passing(Policy("prod", process=asked), situation)
        assert finding.reason == "0 of 2; needs group ml (bob, eve can); needs group safety (nobody can)"
        assert finding.fix == "put somebody else who may approve into safety: adapters group add safety NAME"


class TestFrom:
    @pytest.mark.parametrize(
        ("history", "been"),
        [((3,), True), ((3, 4), True), ((2, 3, -2), False), ((3, 4, -3), True), ((2,), False), ((), False)],
    )
    def test_a_version_has_been_in_a_stage_unless_a_rollback_took_it_away(self, history, been):
        assert held(moves(*history), 3) is been

    def test_all_or_one_of_the_stages(self):
        lower = {"dev": moves(3), "staging": moves(2)}
        for mode, outcome in ((Mode.ALL, Outcome.PENDING), (Mode.ONE_OF, Outcome.PASS)):
            assert say(Process(Sources(("dev", "staging"), mode)), moves=lower)[0] is outcome

    def test_a_hotfix_may_come_from_the_declared_stages_and_no_other(self):
        sources, hotfix = Process(Sources(("staging",), hotfix=("dev",))), replace(REQUEST, hotfix=True)
        assert say(sources, moves={"staging": (), "dev": moves(3)})[0] is Outcome.PENDING
        assert say(sources, moves={"staging": (), "dev": moves(3)}, request=hotfix) == (Outcome.PASS, "hotfix from dev")
        assert say(sources, moves={"staging": (), "dev": ()}, request=hotfix)[0] is Outcome.PENDING


class TestSoak:
    @pytest.mark.parametrize(("hours", "outcome"), [(19, Outcome.PASS), (20, Outcome.PENDING)])
    def test_the_clock_runs_while_the_version_holds_the_stage(self, hours, outcome):
        said, text = say(Process(soak=Soak("staging", hours * 3600)), moves={"staging": moves(3)})
        assert said is outcome
        assert text.endswith(f"of {hours}h in staging")

    def test_the_clock_starts_again_when_it_is_replaced(self):
        assert say(Process(soak=Soak("staging", 60)), moves={"staging": moves(3, 4)})[1].startswith("0m of 1m")
        assert since(moves(3, 4, -3), 3) is not None

    def test_the_boundary_itself_passes(self):
        exact = moves(3, at="2026-03-10T11:00:00.000000Z")
        assert say(Process(soak=Soak("staging", 3600)), moves={"staging": exact})[0] is Outcome.PASS
        assert say(Process(soak=Soak("staging", 3660)), moves={"staging": exact})[0] is Outcome.PENDING


class TestFreeze:
    @pytest.mark.parametrize(
        ("at", "frozen"),
        [
            ("00:29:59", False),
            ("00:30:00", True),
            ("01:29:59", True),
            ("01:30:00", False),
        ],
    )
    def test_a_window_keeps_local_time_when_clocks_change(self, at, frozen):
        # The night loses its hour from 2 to 3 in Berlin, so two hours by the clock are one.
        assert WINDOW.covers("t/a", "prod", at=f"2026-03-29T{at}.000000Z") is frozen

    @pytest.mark.parametrize(
        ("at", "frozen"),
        [
            ("2026-10-25T00:14:59", False),
            ("2026-10-25T00:15:00", True),  # 02:15 in summer
            ("2026-10-25T01:44:59", True),  # 02:44:59 in winter
            ("2026-10-25T01:45:00", False),
        ],
    )
    def test_a_window_in_the_hour_that_comes_twice_lasts_until_it_is_over_for_good(self, at, frozen):
        twice = replace(WINDOW, begins="2026-10-25T02:15:00", ends="2026-10-25T02:45:00")
        assert twice.covers("t/a", "prod", at=f"{at}.000000Z") is frozen

    def test_a_window_that_ends_in_the_hour_that_is_left_out_ends_after_it(self):
        until = replace(WINDOW, ends="2026-03-29T02:30:00")
        assert until.covers("t/a", "prod", at="2026-03-29T01:00:00.000000Z")
        assert not until.covers("t/a", "prod", at="2026-03-29T01:30:00.000000Z")

    @pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
    def test_a_window_may_last_as_long_as_the_calendar(self, zone):
        ever = replace(WINDOW, begins="0001-01-01T00:00:00", ends="9999-12-31T23:59:00", zone=zone)
        assert ever.covers("t/a", "prod", at=NOW)
        assert not replace(ever, ends="0001-01-01T00:01:00").covers("t/a", "prod", at=NOW)

    @pytest.mark.parametrize(
        ("scope", "stage", "covers"),
        [("*", None, True), ("t/*", "prod", True), ("t/a", "prod", True), ("t/ab", None, False), ("*", "dev", False)],
    )
    def test_a_window_has_a_scope(self, scope, stage, covers):
        window = replace(WINDOW, scope=scope, stage=stage)
        assert window.covers("t/a", "prod", at="2026-03-29T01:00:00.000000Z") is covers

    @pytest.mark.parametrize(
        ("at", "frozen"),
        [
            ("2026-03-27T14:59:59", False),  # Friday, 15:59:59 in Berlin's winter
            ("2026-03-27T15:00:00", True),
            ("2026-03-29T12:00:00", True),  # the Sunday on which summer time begins
            ("2026-03-30T05:59:59", True),  # Monday, 07:59:59 in summer
            ("2026-03-30T06:00:00", False),
            ("2026-04-03T13:59:59", False),
            ("2026-04-03T14:00:00", True),
        ],
    )
    def test_a_window_of_every_week_begins_and_ends_by_the_clock_on_the_wall(self, at, frozen):
        weekend = replace(WINDOW, begins="fri 16:00", ends="mon 08:00")
        assert weekend.covers("t/a", "prod", at=f"{at}.000000Z") is frozen

    def test_a_window_within_one_week(self):
        noon = replace(WINDOW, begins="tue 12:00", ends="tue 13:00", zone="UTC")
        found = [noon.covers("t/a", "prod.eu", at=f"2026-03-10T{at}:00.000000Z") for at in ("11:59", "12:00", "13:00")]
        assert found == [False, True, False]
        assert say(Process(), freezes=(noon,))[1] == "every week from tue 12:00 to tue 13:00 UTC: audit"

    def test_promotions_wait_hotfixes_pass_and_a_policy_may_not_care(self):
        assert say(Process(), freezes=(WINDOW,))[0] is Outcome.PENDING
        hotfix = Situation(replace(REQUEST, hotfix=True), NOW, {"staging": moves(2), "dev": moves(3)}, (WINDOW,))
        declared = Process(Sources(("staging",), hotfix=("dev",)), Soak("staging", 60))
        said = [f.outcome for f in passing(Policy("prod", process=declared), hotfix)]
        assert said == [Outcome.PASS, Outcome.WAIVED, Outcome.WAIVED]
        undeclared = Process(Sources(("staging",)), Soak("staging", 60))
        assert [f.outcome for f in passing(Policy("prod", process=undeclared), hotfix)] == [Outcome.PENDING] * 3
        assert not list(
            passing(
                Policy("prod", process=Process(freezing=Freezing(False))), Situation(REQUEST, NOW, freezes=(WINDOW,))
            )
        )


def test_a_hold_keeps_machines_waiting_and_nobody_else():
    hold = Hold("t/a", "prod", "eve", NOW, "wrong joins")
    assert say(Process(), hold=hold, request=replace(REQUEST, machine=True))[0] is Outcome.PENDING
    assert not list(passing(Policy("prod"), Situation(REQUEST, NOW, hold=hold)))
