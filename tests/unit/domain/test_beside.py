"""Versions beside each other: which scores are held against which, and what single samples say."""

from __future__ import annotations

import math

import pytest

from adapter_registry.domain.digest import of_bytes
from adapter_registry.domain.evidence.outcomes import outcomes
from adapter_registry.domain.evidence.score import Direction, Invalidation, RecordedScore, Score
from adapter_registry.domain.peft.changes import side_by_side
from adapter_registry.domain.views.beside import Row, flips, measured

AT = "2026-01-01T00:00:00.000000Z"
KEPT = of_bytes(b"outcomes")


def recorded(value: float, *, direction=Direction.HIGHER, invalid: bool = False, kept=None, **setting: str):
    score = Score("x/acc", value, direction, stderr=0.01, n=1000, setting=setting, outcomes=kept)
    gone = Invalidation("wrong", "ann", AT) if invalid else None
    return RecordedScore(of_bytes(b"v"), "team/a", score, "ann", AT, invalid=gone)


class TestScores:
    def test_a_gain_is_against_the_first_and_positive_when_better(self):
        [line] = measured([[recorded(0.5)], [recorded(0.7)], [recorded(0.4)]])
        assert [cell.gain for cell in line.cells] == [None, pytest.approx(0.2), pytest.approx(-0.1)]
        assert line.cells[1].low < 0.2 < line.cells[1].high

    def test_a_lower_loss_is_a_gain(self):
        lower = Direction.LOWER
        [line] = measured([[recorded(0.5, direction=lower)], [recorded(0.4, direction=lower)]])
        assert line.cells[1].gain == pytest.approx(0.1)

    def test_the_newest_score_that_compares_with_the_first_is_taken(self):
        [line] = measured([[recorded(0.5, shots="5")], [recorded(0.6, shots="5"), recorded(0.9, shots="0")]])
        assert line.cells[1].score.score.value == 0.6

    def test_where_none_compares_the_reason_names_the_settings(self):
        [line] = measured([[recorded(0.5, shots="5")], [recorded(0.9, shots="0")]])
        assert line.cells[1].gain is None
        assert line.cells[1].why_not == "measured differently: shots 0, there 5"

    @pytest.mark.parametrize(
        ("second", "why"), [(recorded(math.nan), "not a number"), (recorded(0.1, direction=None), "")]
    )
    def test_what_has_no_difference_says_why(self, second, why):
        [line] = measured([[recorded(0.5)], [second]])
        assert why in line.cells[1].why_not

    def test_nobody_guesses_which_way_is_better(self):
        [line] = measured([[recorded(0.5, direction=None)], [recorded(0.6, direction=None)]])
        assert line.cells[1].why_not == "nobody said which way is better"

    def test_what_was_declared_invalid_does_not_count(self):
        [line] = measured([[recorded(0.5)], [recorded(0.6), recorded(0.9, invalid=True)]])
        assert line.cells[1].score.score.value == 0.6
        assert measured([[recorded(0.5, invalid=True)], []]) == ()

    def test_a_metric_of_one_side_alone_is_shown_without_a_gain(self):
        [line] = measured([[], [recorded(0.6)]])
        assert line.cells[0].score is None
        assert (line.cells[1].gain, line.cells[1].why_not) == (None, "")


class TestSamples:
    def test_right_to_wrong_and_wrong_to_right_are_counted_over_common_samples(self):
        before = outcomes("x/acc", [("a", 1), ("b", 0), ("c", 1), ("gone", 1)])
        after = outcomes("x/acc", [("a", 0), ("b", 1), ("c", 1), ("new", 0)])
        score = Score("x/acc", 0.5, Direction.HIGHER)
        found = flips("x/acc", (score, before), (score, after))
        assert (found.n, found.lost, found.won, found.right) == (3, 1, 1, True)
        assert [flip.key for flip in (*found.losses, *found.wins)] == ["a", "b"]

    def test_where_lower_is_better_a_smaller_value_is_won_and_the_largest_change_comes_first(self):
        before = outcomes("x/loss", [("a", 2.0), ("b", 2.0)])
        after = outcomes("x/loss", [("a", 1.9), ("b", 0.5)])
        score = Score("x/loss", 2.0, Direction.LOWER)
        found = flips("x/loss", (score, before), (score, after))
        assert ([flip.key for flip in found.wins], found.right) == (["b", "a"], False)

    def test_without_common_samples_it_says_so(self):
        score = Score("x/acc", 1.0, Direction.HIGHER)
        found = flips("x/acc", (score, outcomes("x/acc", [("a", 1)])), (score, outcomes("x/acc", [("b", 1)])))
        assert found.why_not == "they have no sample in common"


class TestConfig:
    def test_a_field_that_is_left_out_has_the_default_of_its_method(self):
        rows = side_by_side([{"peft_type": "LORA", "r": 16}, {"peft_type": "LORA"}])
        assert [(row.field, row.values, row.differs) for row in rows if row.field == "r"] == [("r", ("16", "8"), True)]

    def test_what_changes_the_weights_comes_before_what_only_records(self):
        rows = side_by_side([{"peft_type": "LORA", "peft_version": "1", "lora_dropout": 0.1, "r": 2}] * 2)
        assert [row.matters for row in rows] == ["weights", "weights", "training", "record"]
        assert not any(row.differs for row in rows)


def test_what_only_one_of_them_has_differs():
    assert Row("x", (None, "a")).differs
    assert not Row("x", (None, None)).differs
