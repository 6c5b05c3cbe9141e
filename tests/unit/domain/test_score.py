import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_registry.domain.evidence.comparison import spread
from adapter_registry.domain.evidence.metric import is_rate, known_direction, last_name, off_scale
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.figures import apart, shown, signed


class TestComparability:
    def test_it_is_the_metric_and_its_setting_and_nothing_else(self):
        score = Score("a/acc", 0.5, Direction.HIGHER, setting={"shots": "5"}, producer="x", source="y")
        assert score.comparability == Score("a/acc", 0.9, None, setting={"shots": "5"}).comparability
        assert score.comparability != Score("a/acc", 0.5, Direction.HIGHER).comparability
        assert score.comparability != Score("b/acc", 0.5, Direction.HIGHER, setting={"shots": "5"}).comparability


class TestNames:
    @pytest.mark.parametrize(
        "metric",
        [
            "gsm8k/exact_match@strict-match",
            "acc",
            "x/acc_norm",
            "x/pass@1",
            "x/pass@k:k=1",
            "x/maj@8",
            "x/mcc",
            "x/F1",
            "t/codegen_pass@1:16",
            "t/rougeL",
            "t/prompt_level_strict_acc@none",
            "my/val_accuracy",
            "agents/accuracy@inspect_evals/judge",
            "a@b/acc",
        ],
    )
    def test_higher_is_better_beyond_doubt(self, metric):
        assert known_direction(metric) is Direction.HIGHER

    @pytest.mark.parametrize(
        ("metric", "value", "off"),
        [
            ("qa/acc", 1.0, False),
            ("qa/acc", 1 + 1e-9, False),
            ("qa/acc", 44.7, True),
            ("qa/acc", -0.1, True),
            ("qa/acc", math.nan, False),
            ("qa/bleu", 44.7, False),
            ("heldout/loss", 2.3, False),
        ],
    )
    def test_what_no_share_can_be_is_off_the_scale_of_a_rate(self, metric, value, off):
        assert off_scale(metric, value) is off

    @pytest.mark.parametrize("metric", ["heldout/loss", "w/word_perplexity", "w/bits_per_byte", "eval_loss", "asr/wer"])
    def test_lower_is_better_beyond_doubt(self, metric):
        assert known_direction(metric) is Direction.LOWER

    @pytest.mark.parametrize(
        "metric", ["t/mean", "crows/pct_stereotype", "lat/p95_ms", "t/score", "t/rate", "t/length"]
    )
    def test_a_name_that_could_mean_either_has_no_direction(self, metric):
        assert known_direction(metric) is None

    def test_a_loss_is_no_rate(self):
        assert not is_rate("heldout/loss")
        assert not is_rate("t/bleu")
        assert is_rate("toxicity/rate")
        assert last_name("gsm8k/Exact_Match@strict-match") == "exact_match"


class TestSpread:
    def test_a_stated_standard_error_is_taken(self):
        assert spread(Score("a/acc", 0.5, None, stderr=0.1, n=4)) == 0.1

    def test_a_rate_is_bounded_by_its_samples(self):
        assert spread(Score("a/acc", 0.5, None, n=100)) == pytest.approx(0.05)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_a_rate_at_its_end_is_not_certain(self, value):
        few, many = (spread(Score("a/acc", value, None, stderr=0.0, n=n)) for n in (5, 5000))
        assert few > 0.1 > many > 0

    def test_a_rate_at_its_end_without_samples_is_unknown(self):
        assert spread(Score("a/acc", 1.0, None, stderr=0.0)) is None

    @pytest.mark.parametrize("stderr", [math.nan, math.inf, -1.0])
    def test_a_standard_error_that_is_none_is_not_used(self, stderr):
        assert spread(Score("a/loss", 2.0, None, stderr=stderr)) is None


class TestFigures:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.44712, "0.4471"), (2.0, "2"), (1234567.8, "1,234,568"), (1e-9, "1e-09"), (1e300, "1e+300")],
    )
    def test_numbers_are_short(self, value, text):
        assert shown(value) == text

    @pytest.mark.parametrize(("value", "text"), [(0.0131, "+0.0131"), (-0.0131, "-0.0131"), (0.0, "+0"), (-0.0, "+0")])
    def test_differences_show_their_sign(self, value, text):
        assert signed(value) == text

    @given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
    def test_unequal_numbers_never_look_equal(self, value, bound):
        texts = apart(value, bound)
        assert (texts[0] == texts[1]) == (value == bound)
