"""How a metric went from version to version: lines that break, who held a stage when, what policies ask."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.policies.policy import Bound, preset
from adapter_registry.domain.promotions.promotion import Kind, Promotion
from adapter_registry.domain.promotions.stage import Stage
from adapter_registry.domain.views.course import Reign, Threshold, milestones, reigns, thresholds

AT = "2026-01-01T00:00:00.000000Z"


def scored(number: int, value: float, *, stderr: float | None = 0.1, n: int | None = None, **setting: str):
    score = Score("x/loss", value, Direction.LOWER, stderr=stderr, n=n, setting=setting)
    return number, AT, RecordedScore(of_bytes(b"v"), "team/a", score, "ann", AT)


def move(stage: str, number: int, at: str) -> Promotion:
    digest = of_bytes(b"x")
    return Promotion("team/a", stage, 1, number, digest, None, Kind.PROMOTE, "ann", "", (), digest, 0, digest, at)


class TestMilestones:
    def test_there_is_one_for_each_version_the_oldest_first_with_its_last_value(self):
        found = milestones([scored(2, 0.5), scored(1, 0.9), scored(2, 0.4)])
        assert [(each.number, each.value) for each in found] == [(1, 0.9), (2, 0.4)]

    def test_an_interval_is_1_96_standard_errors_each_way(self):
        [point] = milestones([scored(1, 0.5)])
        assert (point.low, point.high) == (pytest.approx(0.5 - 0.196, abs=1e-4), pytest.approx(0.5 + 0.196, abs=1e-4))

    def test_without_a_standard_error_there_is_no_interval(self):
        [point] = milestones([scored(1, 0.5, stderr=None)])
        assert (point.low, point.high) == (None, None)

    def test_the_line_breaks_where_the_measurement_changes_and_again_where_it_changes_back(self):
        found = milestones([scored(n, 0.5, shots=shots) for n, shots in enumerate("00500", 1)])
        assert [each.line for each in found] == [0, 0, 1, 2, 2]

    def test_what_is_no_number_is_no_point_and_breaks_no_line(self):
        found = milestones([scored(1, 0.5), scored(2, math.nan, shots="5"), scored(3, 0.4)])
        assert [(each.number, each.line) for each in found] == [(1, 0), (3, 0)]


class TestReigns:
    def test_a_version_holds_a_stage_until_the_next_one_enters_it(self):
        moves = [move("prod", 2, "2026-03"), move("dev", 2, "2026-02"), move("prod", 1, "2026-01")]
        assert reigns(moves) == (
            Reign("prod", 1, "2026-01", "2026-03"),
            Reign("dev", 2, "2026-02", None),
            Reign("prod", 2, "2026-03", None),
        )


class TestThresholds:
    def test_they_are_the_limits_of_the_policies_on_this_metric_alone(self):
        solo = preset("solo", stage=Stage("prod"))
        bounds = (Bound("x/loss", max=0.5), Bound("x/acc", min=0.1), Bound("x/loss", min=0.1, max=0.9, shadow=True))
        policy = replace(solo, evals=replace(solo.evals, bounds=bounds))
        assert thresholds([("dev", preset("solo", stage=Stage("dev"))), ("prod.eu", policy)], "x/loss") == (
            Threshold("prod.eu", 0.5, floor=False, shadow=False),
            Threshold("prod.eu", 0.1, floor=True, shadow=True),
            Threshold("prod.eu", 0.9, floor=False, shadow=True),
        )
