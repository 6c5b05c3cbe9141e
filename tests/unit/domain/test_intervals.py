"""Bounds of differences: their laws, the textbooks' numbers, and that they keep the error they state."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_registry.domain.evidence.comparison import bounded, chance, estimate, holm, samples_to_decide, shows
from adapter_registry.domain.evidence.intervals import from_errors, paired_rates, paired_values, two_rates
from adapter_registry.domain.evidence.score import Direction, Score
from adapter_registry.domain.policies.policy import Test
from benchmarks.gate_error_rates import ERROR, cases, measure

CONFIDENCE = st.floats(0.6, 0.999)
SIZES = st.integers(20, 3000)


class TestTextbooks:
    def test_two_rates_are_newcombe_s_example(self):
        # Newcombe 1998, table II, example (a): 56/70 against 48/80 at 95 % two-sided, method 11.
        low, high = two_rates(56 / 70, 70, 48 / 80, 80).bounds(0.975)
        assert (low, high) == (pytest.approx(0.0428, abs=5e-5), pytest.approx(0.3422, abs=5e-5))

    def test_none_of_ten_against_none_of_twenty_is_newcombe_s_example(self):
        # The same table, example (f).
        low, high = two_rates(0, 10, 0, 20).bounds(0.975)
        assert (low, high) == (pytest.approx(-0.2005, abs=5e-5), pytest.approx(0.3445, abs=5e-5))

    def test_welch_s_t_is_that_of_scipy(self):
        from scipy import stats

        low, high = from_errors(0.3, (0.1, 0.2), (12, 30)).bounds(0.975)
        theirs = stats.ttest_ind_from_stats(0.3, 0.1 * math.sqrt(12), 12, 0, 0.2 * math.sqrt(30), 30, equal_var=False)
        # At the confidence of its own p value, one bound lies on zero.
        assert from_errors(0.3, (0.1, 0.2), (12, 30)).bounds(1 - theirs.pvalue / 2)[0] == pytest.approx(0, abs=1e-9)
        assert (low + high) / 2 == pytest.approx(0.3)

    def test_without_sizes_it_is_the_z_test(self):
        low, high = from_errors(0.05, (0.03, 0.04), (None, 9)).bounds(0.975)
        assert (low, high) == (pytest.approx(0.05 - 1.959964 * 0.05), pytest.approx(0.05 + 1.959964 * 0.05))

    @pytest.mark.parametrize(("wins", "losses"), [(3, 0), (10, 3), (40, 25), (120, 90)])
    def test_at_no_margin_the_paired_test_is_mcnemar_s_with_continuity_correction(self, wins, losses):
        from scipy import stats

        p = stats.norm.sf((wins - losses - 1) / math.sqrt(wins + losses))
        assert chance(paired_rates(wins, losses, 1000), margin=0.0) == pytest.approx(p, rel=1e-6)

    def test_it_is_close_to_the_exact_binomial_test_and_never_bolder_by_much(self):
        from scipy import stats

        for wins, losses in [(9, 2), (30, 14), (80, 60)]:
            exact = stats.binomtest(wins, wins + losses, alternative="greater").pvalue
            assert chance(paired_rates(wins, losses, 500), margin=0.0) == pytest.approx(exact, rel=0.15)


class TestDegenerateEvidence:
    """Numbers at the edge decide nothing that ordinary ones would not, and are no accident."""

    DIFFERENCES = (0.3, -0.1, 0.2, 0.4, 0.1)

    @pytest.mark.parametrize("unit", [2.0**-1060, 2.0**-600, 2.0**600, 2.0**1020])
    def test_the_unit_of_the_values_changes_nothing_but_the_unit(self, unit):
        plain = paired_values(self.DIFFERENCES, seed=1).bounds(0.95)
        found = paired_values([value * unit for value in self.DIFFERENCES], seed=1).bounds(0.95)
        assert found == (pytest.approx(plain[0] * unit, rel=1e-3), pytest.approx(plain[1] * unit, rel=1e-3))

    def test_a_difference_that_no_number_holds_is_no_estimate(self):
        score = Score("x/loss", 0.0, Direction.HIGHER)
        pairs = [(1e308, -1e308)] * 20
        assert estimate(score, score, direction=Direction.HIGHER, pairs=pairs) is None

    @pytest.mark.parametrize(
        "lone", [Score("x/loss", 0.1, None, stderr=0.0), Score("x/loss", 0.1, None, stderr=0.0, n=1)]
    )
    def test_an_error_of_nothing_over_one_sample_or_nobody_knows_how_many_decides_nothing(self, lone):
        incumbent = Score("x/loss", 9.0, None, stderr=0.1, n=100)
        assert estimate(lone, incumbent, direction=Direction.LOWER) is None

    def test_a_rate_is_never_certain_whatever_error_it_states(self):
        stated = Score("x/acc", 0.5, None, stderr=0.0, n=10)
        other = Score("x/acc", 0.6, None, stderr=0.2, n=10)  # no plain successes
        assert estimate(other, stated, direction=Direction.HIGHER).bounds(0.95)[0] < 0

    def test_the_same_difference_on_every_sample_is_not_certain_to_be_that_of_the_next(self):
        low, high = paired_values([0.1] * 20, seed=1).bounds(0.95)
        assert 0 < low < 0.1 < high


class TestLaws:
    @given(st.integers(0, 50), st.integers(0, 50), SIZES, SIZES, CONFIDENCE)
    def test_two_rates_turned_around_are_the_same_difference_with_the_other_sign(self, k, other, n, m, confidence):
        rates = min(k, n) / n, min(other, m) / m
        low, high = two_rates(rates[0], n, rates[1], m).bounds(confidence)
        turned = two_rates(rates[1], m, rates[0], n).bounds(confidence)
        assert turned == pytest.approx((-high, -low), abs=1e-12)
        assert low <= rates[0] - rates[1] + 1e-12
        assert high >= rates[0] - rates[1] - 1e-12

    @given(st.integers(0, 40), st.integers(0, 40), st.integers(100, 3000), CONFIDENCE)
    def test_paired_rates_turned_around_too(self, wins, losses, n, confidence):
        low, high = paired_rates(wins, losses, n).bounds(confidence)
        assert paired_rates(losses, wins, n).bounds(confidence) == (-high, -low)
        assert low <= (wins - losses) / n <= high

    @settings(max_examples=25)
    @given(st.lists(st.floats(-5, 5), min_size=20, max_size=60), st.integers(0, 9))
    def test_paired_values_turned_around_too(self, values, seed):
        found, turned = (paired_values(each, seed=seed) for each in (values, [-value for value in values]))
        low, high = found.bounds(0.95)
        assert turned.bounds(0.95) == pytest.approx((-high, -low), abs=1e-9)
        assert low <= found.mean <= high

    @given(st.integers(0, 40), st.integers(0, 40), st.integers(100, 2000), CONFIDENCE, CONFIDENCE)
    def test_more_confidence_never_narrows_the_bounds(self, wins, losses, n, one, two):
        for found in (paired_rates(wins, losses, n), two_rates(wins / n, n, losses / n, n)):
            less, more = (found.bounds(confidence) for confidence in sorted((one, two)))
            assert more[0] <= less[0] + 1e-12
            assert more[1] >= less[1] - 1e-12

    @given(
        st.integers(0, 40),
        st.integers(0, 40),
        st.integers(100, 2000),
        st.floats(0, 0.2),
        st.integers(2, 50),
        st.sampled_from(Test),
    )
    def test_more_samples_of_the_same_never_take_an_answer_back(self, wins, losses, n, margin, times, test):
        for found in (paired_rates(wins, losses, n), two_rates(wins / n, n, losses / n, n)):
            before = shows(bounded(found, confidence=0.95), test, margin=margin)
            after = shows(bounded(found.with_samples(n * times), confidence=0.95), test, margin=margin)
            assert before is None or after is before

    def test_equal_inputs_give_equal_bounds_and_the_seed_is_one_of_them(self):
        values = [math.sin(number) ** 3 for number in range(50)]
        assert paired_values(values, seed=1).bounds(0.95) == paired_values(values, seed=1).bounds(0.95)
        assert paired_values(values, seed=1).bounds(0.95) != paired_values(values, seed=2).bounds(0.95)


class TestTwoRunsOfOneModel:
    def test_the_same_answers_are_not_inferior_and_not_superior(self):
        same = bounded(paired_rates(0, 0, 1319), confidence=0.95)
        assert shows(same, Test.SUPERIOR, margin=0.0) is None
        assert shows(same, Test.NON_INFERIOR, margin=0.01) is True

    def test_the_same_losses_neither(self):
        same = bounded(paired_values([0.0] * 100, seed=0), confidence=0.95)
        assert shows(same, Test.SUPERIOR, margin=0.0) is False
        assert shows(same, Test.NON_INFERIOR, margin=0.0) is True

    def test_a_constant_gain_is_not_taken_for_certain(self):
        low, _ = paired_values([0.1] * 30, seed=0).bounds(0.95)
        assert 0 < low < 0.1

    def test_no_number_of_samples_decides_a_difference_that_lies_on_the_margin(self):
        found = two_rates(0.5, 100, 0.5, 100)
        assert samples_to_decide(found, Test.NON_INFERIOR, margin=0.0, confidence=0.95) is None

    @pytest.mark.parametrize("found", [two_rates(0.62, 200, 0.6, 200), paired_rates(31, 25, 200)])
    def test_the_number_of_samples_that_would_decide_is_the_smallest(self, found):
        needed = samples_to_decide(found, Test.SUPERIOR, margin=0.0, confidence=0.95)
        for samples, answer in [(needed, True), (needed - 1, None)]:
            then = bounded(found.with_samples(samples), confidence=0.95)
            assert shows(then, Test.SUPERIOR, margin=0.0) is answer


class TestWhichMethod:
    ACC = Score("t/acc", 0.6, Direction.HIGHER, n=500)

    def method(self, mine: Score, other: Score, **more: object) -> str:
        return estimate(mine, other, direction=Direction.HIGHER, **more).method

    def test_by_what_is_known_of_both_sides(self):
        stated = Score("t/loss", 2.0, Direction.HIGHER, stderr=0.1, n=500)
        assert self.method(self.ACC, self.ACC) == "two rates, Newcombe's interval"
        assert self.method(stated, stated) == "Welch's t from both standard errors"
        assert self.method(stated, Score("t/loss", 2.0, None, stderr=0.1)) == "two-sample z from both standard errors"
        assert self.method(self.ACC, self.ACC, pairs=[(1.0, 0.0)] * 30) == "paired, Tango's score interval"
        assert self.method(stated, stated, pairs=[(n / 7, 0.5) for n in range(30)]) == "paired bootstrap"

    def test_a_standard_error_that_is_not_that_of_a_share_is_believed(self):
        clustered = Score("t/acc", 0.6, Direction.HIGHER, n=500, stderr=0.05)
        plain = Score("t/acc", 0.6, Direction.HIGHER, n=500, stderr=math.sqrt(0.24 / 499))
        assert self.method(clustered, self.ACC) == "Welch's t from both standard errors"
        assert self.method(plain, self.ACC) == "two rates, Newcombe's interval"

    def test_lower_is_better_turns_the_difference(self):
        loss = Score("t/rate", 0.1, Direction.LOWER, n=500), Score("t/rate", 0.2, Direction.LOWER, n=500)
        found = estimate(*loss, direction=Direction.LOWER)
        assert found.mean == pytest.approx(0.1)
        assert estimate(*loss, direction=Direction.LOWER, pairs=[(0.0, 1.0)] * 40).mean == 1.0


class TestHolm:
    def test_one_claim_keeps_its_error(self):
        assert holm([0.04], [0.05]) == [1]

    def test_the_clearest_is_held_against_the_smallest_error_and_the_rest_follow(self):
        assert holm([0.001, 0.02, 0.04], [0.05] * 3) == [3, 2, 1]

    def test_the_first_that_does_not_pass_keeps_the_rest_at_its_error(self):
        assert holm([0.04, 0.03, 0.02], [0.05] * 3) == [3, 3, 3]
        assert holm([0.04, 0.03, 0.001], [0.05] * 3) == [2, 2, 3]

    @given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=8))
    def test_what_passes_is_what_the_textbook_rejects(self, chances):
        allowed = [0.05] * len(chances)
        ours = [p <= 0.05 / divisor for p, divisor in zip(chances, holm(chances, allowed), strict=True)]
        order, rejected = sorted(range(len(chances)), key=lambda index: chances[index]), set()
        for step, index in enumerate(order):
            if chances[index] > 0.05 / (len(chances) - step):
                break
            rejected.add(index)
        assert ours == [index in rejected for index in range(len(chances))]


@pytest.mark.parametrize("case", [case for case in cases((50, 400)) if not case.slow], ids=lambda case: case.name)
def test_equal_versions_pass_as_superior_at_most_at_the_stated_error(case):
    draws = 300 if "paired, " in case.name else 1_000
    found = measure(case, draws, seed=1)
    # Three standard errors of a rate measured on so many draws, and the half per cent that skewed losses cost at n=50.
    noise = 3 * math.sqrt(ERROR * (1 - ERROR) / draws) + 0.005
    assert found.superior <= ERROR + noise
    assert found.non_inferior <= ERROR + noise
    assert found.power > 2 * found.superior
