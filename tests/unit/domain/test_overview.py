"""How versions did by their leading metric, and beside the incumbent."""

from __future__ import annotations

import math

import pytest

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.views.overview import Against, Attempt, Point, against, attempts_of, trend_of

AT = "2026-01-01T00:00:00.000000Z"


def score(value: float, *, metric: str = "x/acc", direction=Direction.HIGHER, stderr=0.1, **setting: str) -> Score:
    return Score(metric, value, direction, stderr=stderr, setting=setting)


def recorded(*scores: tuple[int, Score]) -> list[tuple[int, RecordedScore]]:
    return [(number, RecordedScore(of_bytes(b"v"), "team/a", each, "ann", AT)) for number, each in scores]


class TestTrend:
    def test_nothing_measured_has_no_trend(self):
        assert trend_of([]) is None

    def test_it_goes_from_the_oldest_version_to_the_newest_however_they_were_recorded(self):
        trend = trend_of(recorded((3, score(0.3)), (1, score(0.1)), (2, score(0.2))))
        assert trend.points == (Point(1, 0.1), Point(2, 0.2), Point(3, 0.3))
        assert (trend.metric, trend.direction) == ("x/acc", Direction.HIGHER)

    def test_a_version_counts_with_what_was_recorded_of_it_last(self):
        assert trend_of(recorded((1, score(0.1)), (1, score(0.4)))).points == (Point(1, 0.4),)

    def test_what_cannot_be_compared_with_the_newest_value_is_left_out(self):
        trend = trend_of(recorded((1, score(0.9, shots="0")), (2, score(0.2, shots="5"))))
        assert trend.points == (Point(2, 0.2),)

    def test_what_is_no_number_is_no_point(self):
        assert trend_of(recorded((1, score(math.nan)), (2, score(0.2)))).points == (Point(2, 0.2),)


class TestAgainst:
    def test_without_the_incumbents_value_there_is_nothing_to_say(self):
        assert against(score(1.0), None, number=1) is None

    @pytest.mark.parametrize(("direction", "difference"), [(Direction.HIGHER, 0.2), (Direction.LOWER, -0.2)])
    def test_positive_is_better_whichever_way_the_metric_goes(self, direction, difference):
        mine, other = (score(value, direction=direction) for value in (0.7, 0.5))
        found = against(mine, other, number=3)
        assert found.difference == pytest.approx(difference)
        assert found.half_width == pytest.approx(1.959964 * math.hypot(0.1, 0.1))

    def test_an_interval_takes_both_standard_errors(self):
        assert against(score(0.7, stderr=None), score(0.5), number=3) == Against(3, pytest.approx(0.2))

    @pytest.mark.parametrize(
        "mine",
        [score(0.7, shots="5"), score(math.inf), score(math.nan)],
        ids=["another setting", "infinite", "no number"],
    )
    def test_what_may_not_be_compared_has_no_difference(self, mine):
        assert against(mine, score(0.5), number=3) == Against(3, None)

    def test_nobody_guesses_which_way_is_better(self):
        mine, other = (score(value, direction=None) for value in (0.7, 0.5))
        assert against(mine, other, number=3) == Against(3, None)


class TestAttempts:
    """Entries are told oldest first here, as they come to be."""

    @staticmethod
    def left(*told: tuple[str, str, str], stage: str = "prod") -> tuple[Attempt, ...]:
        """What is left of what happened to team/a@v1: (action, outcome, what came of it)."""
        entries = []
        for action, outcome, result in told:
            detail = {"stage": stage, **({"result": result} if result else {}), "request": "P-1"}
            entries.append(Entry(action, "team/a@v1", Outcome(outcome), "ann", AT, detail))
        return attempts_of(entries[::-1]).get("team/a@v1", ())

    @pytest.mark.parametrize("result", ["refused", "undecided", "waiting"])
    def test_an_attempt_that_did_not_get_there_is_told(self, result):
        assert self.left(("promote", "refused", result)) == (Attempt("prod", result, "P-1", AT),)

    @pytest.mark.parametrize(
        "after",
        [
            ("promote", "done", "promote"),
            ("request.applied", "done", ""),
            ("request.cancelled", "done", ""),
            ("request.superseded", "done", ""),
        ],
        ids=lambda each: each[0],
    )
    def test_one_that_got_there_or_is_asked_for_no_more_is_not(self, after):
        assert self.left(("promote", "refused", "waiting"), after) == ()

    @pytest.mark.parametrize("state", ["declined", "expired", "refused", "failed"])
    def test_the_end_of_its_request_is_what_counts(self, state):
        (found,) = self.left(("promote", "refused", "waiting"), (f"request.{state}", "refused", ""))
        assert found.state == state

    def test_a_request_that_is_ready_still_waits(self):
        (found,) = self.left(("promote", "refused", "waiting"), ("request.ready", "done", ""))
        assert found.state == "waiting"

    def test_who_had_no_right_to_ask_said_nothing_of_the_version(self):
        assert self.left(("promote", "done", "promote"), ("promote", "refused", "")) == ()
        assert len(self.left(("promote", "refused", "refused"), ("promote", "refused", ""))) == 1

    def test_what_is_no_step_of_a_request_says_nothing(self):
        assert len(self.left(("promote", "refused", "waiting"), ("request.approve", "done", ""))) == 1

    def test_every_stage_has_its_own(self):
        entries = [
            Entry("promote", f"team/a@v{number}", Outcome.REFUSED, "ann", AT, {"stage": stage, "result": "refused"})
            for number, stage in ((1, "prod"), (1, "staging"), (2, "prod"))
        ]
        found = attempts_of(entries)
        assert {key: [each.stage for each in value] for key, value in found.items()} == {
            "team/a@v1": ["prod", "staging"],
            "team/a@v2": ["prod"],
        }
