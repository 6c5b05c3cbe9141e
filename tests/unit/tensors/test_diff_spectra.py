"""What the factors of two deltas tell is what the deltas themselves tell, made in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_registry.domain.diff import ModuleDiff, State
from adapter_registry.tensors.elements import exact, sampled
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.spectra import alone, measured

BLANK = ModuleDiff("model.layers.0.q_proj", 0, "q_proj", (), State.UNKNOWN, (0, 0), (0.0, 0.0))

sizes = st.integers(1, 24)
ranks = st.integers(1, 6)
scales = st.floats(0.125, 8, width=16)
seeds = st.integers(0, 10**6)


def pair(rows: int, columns: int, rank: int, *, scale: float = 1.0, seed: int = 0) -> Pair:
    numbers = np.random.default_rng(seed)
    up, down = numbers.standard_normal((rows, rank)), numbers.standard_normal((rank, columns))
    return Pair(up.astype(np.float32), down.astype(np.float32), scale)


def dense(side: Pair) -> np.ndarray:
    return side.scale * side.up.astype(np.float64) @ side.down.astype(np.float64)


def turned(side: Pair, turn: np.ndarray) -> Pair:
    """The same delta by other factors: up·G and G⁻¹·down, as float32 can hold them."""
    up, down = side.up.astype(np.float64) @ turn, np.linalg.inv(turn) @ side.down.astype(np.float64)
    return Pair(up.astype(np.float32), down.astype(np.float32), side.scale)


@st.composite
def two(draw) -> tuple[Pair, Pair]:
    rows, columns = draw(sizes), draw(sizes)
    first = pair(rows, columns, draw(ranks), scale=draw(scales), seed=draw(seeds))
    return first, pair(rows, columns, draw(ranks), scale=draw(scales), seed=draw(seeds) + 10**7)


def values(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False)


def spaces(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of what it writes and what it reads."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    kept = s > 1e-7 * s[0]
    return u[:, kept], v[kept].T


def share(space: np.ndarray, matrix: np.ndarray) -> float:
    """Of a delta's energy, in a space."""
    return (np.linalg.norm(space.T @ matrix) / np.linalg.norm(matrix)) ** 2


def padded(found, wanted: np.ndarray) -> np.ndarray:
    """Singular values with zeros for those that only the other has."""
    mine = np.array(found)
    length = max(len(mine), len(wanted))
    return np.pad(mine, (0, length - len(mine))) - np.pad(wanted, (0, length - len(wanted)))


class TestEveryFigureIsThatOfTheDeltas:
    @settings(max_examples=150, deadline=None)
    @given(two())
    def test_norms_and_spectra(self, both):
        first, second = both
        one, other = dense(first), dense(second)
        found = measured(first, second, BLANK)
        for spectrum, matrix in ((found.first, one), (found.second, other), (found.difference, other - one)):
            assert np.abs(padded(spectrum.values, values(matrix))).max() < 1e-9 * max(1.0, values(matrix)[0])
            assert spectrum.norm == pytest.approx(np.linalg.norm(matrix), rel=1e-9)
            assert spectrum.spectral == pytest.approx(values(matrix)[0], rel=1e-9)
            assert spectrum.stable_rank == pytest.approx((spectrum.norm / spectrum.spectral) ** 2, rel=1e-9)
            shares = values(matrix)[values(matrix) > 1e-9 * values(matrix)[0]]
            shares = shares / shares.sum()
            assert spectrum.effective_rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-6)
            energy = shares**2 / (shares**2).sum()
            assert spectrum.entropy_rank == pytest.approx(math.exp(-(energy * np.log(energy)).sum()), rel=1e-6)
        assert found.norms == (found.first.norm, found.second.norm, found.difference.norm)
        assert found.relative == pytest.approx(np.linalg.norm(other - one) / np.linalg.norm(one), rel=1e-9)
        assert found.cosine == pytest.approx(
            (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-9
        )

    @settings(max_examples=150, deadline=None)
    @given(two())
    def test_spaces_and_interference(self, both):
        first, second = both
        one, other = dense(first), dense(second)
        found = measured(first, second, BLANK)
        (u1, v1), (u2, v2) = spaces(one), spaces(other)
        for alignment, p, q, a, b in ((found.left, u1, u2, one, other), (found.right, v1, v2, one.T, other.T)):
            cosines = np.clip(values(p.T @ q), 0, 1)
            assert np.cos(np.radians(alignment.degrees)) == pytest.approx(cosines, abs=1e-7)
            assert alignment.overlap == pytest.approx((cosines**2).mean(), abs=1e-7)
            assert alignment.first_in_second == pytest.approx(
                (np.linalg.norm(q.T @ a) / np.linalg.norm(a)) ** 2, abs=1e-7
            )
            assert alignment.second_in_first == pytest.approx(
                (np.linalg.norm(p.T @ b) / np.linalg.norm(b)) ** 2, abs=1e-7
            )
        parts = math.hypot(np.linalg.norm(one), np.linalg.norm(other))
        met = math.hypot(np.linalg.norm(u1.T @ other @ v1), np.linalg.norm(u2.T @ one @ v2))
        assert found.interference == pytest.approx(met / parts, abs=1e-7)
        assert found.sum_ratio == pytest.approx(np.linalg.norm(one + other) / parts, rel=1e-9)

    @settings(max_examples=60, deadline=None)
    @given(two())
    def test_signs_and_largest_elements(self, both):
        first, second = both
        one, other = dense(first).astype(np.float32), dense(second).astype(np.float32)
        found = exact(first, second)
        assert found.sign_conflict.value == pytest.approx((one * other < 0).mean(), abs=1e-6)
        assert found.sign_conflict.stderr == 0
        kept = max(1, round(0.01 * one.size))
        tops = [np.abs(each) >= np.sort(np.abs(each), None)[-kept] for each in (one, other)]
        assert found.top_overlap.value == pytest.approx((tops[0] & tops[1]).sum() / kept, abs=1 / kept + 1e-9)
        assert found.largest == pytest.approx(np.abs(other - one).max(), rel=1e-4, abs=1e-5)


class TestLaws:
    @settings(max_examples=60, deadline=None)
    @given(two())
    def test_the_other_way_round_is_as_far(self, both):
        there, back = measured(*both, BLANK), measured(*reversed(both), BLANK)
        assert there.norms[2] == pytest.approx(back.norms[2], rel=1e-9)
        assert there.cosine == pytest.approx(back.cosine, abs=1e-9)
        assert there.interference == pytest.approx(back.interference, abs=1e-7)
        assert there.left.first_in_second == pytest.approx(back.left.second_in_first, abs=1e-7)

    @settings(max_examples=30, deadline=None)
    @given(sizes, sizes, ranks, seeds)
    def test_a_delta_against_itself_is_the_same(self, rows, columns, rank, seed):
        side = pair(rows, columns, rank, seed=seed)
        found = measured(side, Pair(side.up.copy(), side.down.copy(), 1.0), BLANK)
        assert (found.state, found.relative, found.cosine) == (State.SAME, 0.0, 1.0)
        assert set(found.difference.values) == {0.0}
        assert np.abs(padded(found.first.values, values(dense(side)))).max() < 1e-6

    @settings(max_examples=60, deadline=None)
    @given(st.integers(8, 40), st.integers(8, 40), st.integers(2, 6), seeds)
    def test_other_factors_of_one_delta_are_recognised(self, rows, columns, rank, seed):
        first = pair(rows, columns, rank, seed=seed)
        second = turned(first, np.random.default_rng(seed + 1).standard_normal((rank, rank)) + 2 * np.eye(rank))
        found = measured(first, second, BLANK)
        true = np.linalg.norm(dense(second) - dense(first))
        assert found.state is State.SAME_DELTA
        assert found.norms[2] == pytest.approx(true, rel=1e-3)

    @pytest.mark.parametrize("where", ["up", "down", "both"])
    @pytest.mark.parametrize("turn", [False, True])
    def test_a_millionth_is_measured_right_to_a_hundredth(self, where, turn):
        first = pair(300, 200, 8, seed=3)
        numbers = np.random.default_rng(4)
        moved = {
            name: getattr(first, name) * (1 + 1e-6 * numbers.standard_normal(getattr(first, name).shape))
            if where in (name, "both")
            else getattr(first, name)
            for name in ("up", "down")
        }
        second = Pair(moved["up"].astype(np.float32), moved["down"].astype(np.float32), 1.0)
        if turn:
            # Factors that are nothing like the first's, of a delta that nearly is.
            second = turned(second, np.linalg.qr(numbers.standard_normal((8, 8)))[0])
        true = np.linalg.norm(dense(second) - dense(first))
        found = measured(first, second, BLANK)
        assert 5e-7 < found.relative < 3e-6
        assert found.norms[2] == pytest.approx(true, rel=0.01)
        assert found.state is State.CHANGED

    def test_another_scale_alone_is_a_change_without_a_turn(self):
        first = pair(30, 20, 4)
        found = measured(first, Pair(first.up, first.down, 1.0 + 1e-6), BLANK)
        assert found.relative == pytest.approx(1e-6, rel=1e-6)
        assert max(found.left.degrees) < 1e-5
        assert found.state is State.CHANGED

    def test_opposed_deltas_cancel(self):
        first = pair(30, 20, 4)
        found = measured(first, Pair(first.up, first.down, -1.0), BLANK)
        assert found.cosine == pytest.approx(-1)
        assert found.sum_ratio == pytest.approx(0, abs=1e-12)

    def test_deltas_in_orthogonal_spaces_do_not_meet(self):
        first, second = (
            Pair(np.eye(8, dtype=np.float32)[:, i : i + 2], pair(2, 9, 2, seed=i).down, 1.0) for i in (0, 4)
        )
        found = measured(first, second, BLANK)
        assert found.interference == pytest.approx(0, abs=1e-12)
        assert found.left.degrees == pytest.approx((90, 90))
        assert found.sum_ratio == pytest.approx(1)

    @pytest.mark.parametrize("side", [0, 1])
    def test_a_zero_delta_has_no_direction(self, side):
        there = pair(12, 9, 3)
        zero = Pair(np.zeros_like(there.up), there.down, 1.0)
        found = measured(*((zero, there) if side == 0 else (there, zero)), BLANK)
        assert found.state is State.CHANGED
        assert found.norms[side] == 0
        assert found.norms[2] == pytest.approx(np.linalg.norm(dense(there)))
        assert (found.cosine, found.left, found.interference) == (None, None, None)

    def test_two_zero_deltas_are_the_same(self):
        there = pair(12, 9, 3)
        zero = Pair(np.zeros_like(there.up), there.down, 1.0)
        assert measured(zero, Pair(zero.up, 2 * there.down, 1.0), BLANK).state is State.SAME_DELTA

    def test_directions_that_a_delta_lacks_are_not_counted(self):
        first = pair(30, 20, 4)
        doubled = Pair(np.concatenate([first.up, first.up], axis=1), np.concatenate([first.down, first.down]), 0.5)
        found = measured(first, doubled, BLANK)
        assert (found.first.rank, found.second.rank) == (4, 4)
        assert found.state is State.SAME_DELTA
        assert len(found.left.degrees) == 4

    @pytest.mark.parametrize("ratio", [1e-12, 1e12])
    def test_how_factors_share_their_size_does_not_matter(self, ratio):
        first, second = pair(30, 20, 4), pair(30, 20, 4, seed=1)
        shared = Pair((second.up * ratio).astype(np.float32), (second.down / ratio).astype(np.float32), 1.0)
        assert measured(first, shared, BLANK).cosine == pytest.approx(measured(first, second, BLANK).cosine, abs=1e-6)

    def test_a_delta_that_one_side_lacks_is_all_difference(self):
        there = pair(12, 9, 3)
        removed, added = alone(there, BLANK, 0), alone(there, BLANK, 1)
        assert (removed.state, removed.relative, removed.second) == (State.REMOVED, 1.0, None)
        assert (added.state, added.relative, added.first) == (State.ADDED, None, None)
        assert removed.norms[2] == added.norms[2] == pytest.approx(np.linalg.norm(dense(there)))


class TestEstimates:
    def test_they_are_within_their_error_of_the_truth(self):
        outside = 0
        for seed in range(40):
            first, second = pair(400, 300, 8, seed=seed), pair(400, 300, 8, seed=seed + 1000)
            second = Pair(first.up + second.up, first.down, 1.0)
            found, true = sampled(first, second, f"m{seed}"), exact(first, second)
            assert not found.exact
            assert found.sign_conflict.stderr > 0
            outside += abs(found.sign_conflict.value - true.sign_conflict.value) > 2.5 * found.sign_conflict.stderr
        assert outside <= 3

    def test_they_are_the_same_each_time(self):
        first, second = pair(400, 300, 8), pair(400, 300, 8, seed=1)
        assert sampled(first, second, "q") == sampled(first, second, "q")

    def test_few_rows_are_counted_all(self):
        assert sampled(pair(9, 30, 2), pair(9, 30, 2, seed=1), "q").exact
