"""What is said of sums of deltas in their core space is what float64 says of the matrices themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.lowrank import Span, basis, distance, rank_within, subspace_svd, tail


def pair(rng, rows, rank, columns, scale=1.0):
    up, down = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
    return Pair(up.astype(np.float32), down.astype(np.float32), scale)


def dense(p):
    return p.scale * (p.up.astype(np.float64) @ p.down.astype(np.float64))


@st.composite
def several(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, columns = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    ranks = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any))
    return [pair(rng, rows, rank, columns, draw(st.floats(-3, 3))) for rank in ranks]


def whole(factored):
    up, down = factored.truncated(len(factored.values))
    return up @ down


class TestSpan:
    @settings(max_examples=60, deadline=None)
    @given(several())
    def test_the_sum_of_cores_is_the_sum_of_deltas(self, pairs):
        span = Span.of(pairs)
        expected = sum(map(dense, pairs))
        size = sum(np.linalg.norm(dense(each)) for each in pairs)
        assert np.linalg.norm(whole(span.lifted(sum(span.cores))) - expected) <= 1e-8 * size + 1e-300

    @settings(max_examples=40, deadline=None)
    @given(several())
    def test_inner_products_are_those_of_the_deltas(self, pairs):
        flat = np.stack([dense(each).ravel() for each in pairs])
        assert np.allclose(Span.of(pairs).inner(), flat @ flat.T, rtol=1e-7, atol=1e-9)

    def test_it_does_not_matter_how_a_delta_is_written_as_a_product(self):
        rng = np.random.default_rng(1)
        one, other = pair(rng, 40, 5, 30), pair(rng, 40, 5, 30)
        g = rng.standard_normal((5, 5)) * np.array([1e4, 1, 1e-4, 1, 1])
        turned = Pair(
            (one.up @ g).astype(np.float32), np.linalg.solve(g, one.down.astype(np.float64)).astype(np.float32), 1.0
        )
        spans = Span.of([one, other]), Span.of([turned, other])
        first, second = (span.lifted(0.7 * span.cores[0] - 0.2 * span.cores[1]) for span in spans)
        # Not closer than float32 can hold the turned factors.
        bound = np.linalg.norm(dense(turned) - dense(one)) / np.linalg.norm(dense(one)) * 10
        assert np.allclose(first.values, second.values, rtol=bound)

    def test_columns_that_depend_on_each_other_are_no_trouble(self):
        one = pair(np.random.default_rng(2), 50, 4, 40)
        span = Span.of([one, one, Pair(one.up * 1e-6, one.down, 1.0)])
        assert np.allclose(whole(span.lifted(sum(span.cores))), dense(one) * (2 + 1e-6), atol=1e-10)

    def test_the_difference_of_nearly_identical_deltas_is_right_to_a_percent(self):
        rng = np.random.default_rng(3)
        one = pair(rng, 200, 8, 150)
        noise = one.up * np.float32(1e-6) * rng.standard_normal(one.up.shape).astype(np.float32)
        other = Pair(one.up + noise, one.down, 1.0)
        assert distance(one, other) == pytest.approx(np.linalg.norm(dense(one) - dense(other)), rel=0.01)


class TestBasis:
    @pytest.mark.parametrize("scales", [(1, 1, 1), (1e6, 1, 1e-6), (1, 0, 1)])
    def test_it_is_orthonormal_and_spans_the_columns(self, scales):
        tall = np.random.default_rng(4).standard_normal((30, 3)) * np.array(scales)
        found = basis(tall)
        q = found.raised(np.eye(found.lift.shape[1]))
        assert np.allclose(q.T @ q, np.eye(q.shape[1]), atol=1e-9)
        assert np.allclose(q @ found.root, tall, rtol=1e-9, atol=1e-12)

    def test_more_columns_than_rows(self):
        wide = np.random.default_rng(5).standard_normal((4, 9))
        found = basis(wide)
        assert np.allclose(found.raised(found.root), wide)


class TestTruncation:
    @settings(max_examples=40, deadline=None)
    @given(several(), st.integers(1, 8))
    def test_it_is_the_best_of_that_rank_and_its_error_is_known_in_advance(self, pairs, rank):
        span = Span.of(pairs)
        exact, factored = sum(map(dense, pairs)), span.lifted(sum(span.cores))
        up, down = factored.truncated(rank)
        best = np.linalg.svd(exact, compute_uv=False)[rank:]
        measured = np.linalg.norm(exact - up @ down)
        assert measured == pytest.approx(np.linalg.norm(best), rel=1e-6, abs=1e-7)
        assert factored.error(rank) * factored.norm == pytest.approx(measured, rel=1e-6, abs=1e-7)

    def test_factors_are_balanced(self):
        factored = Span.of([pair(np.random.default_rng(6), 20, 3, 25)])
        up, down = factored.lifted(factored.cores[0]).truncated(3)
        assert np.allclose(up.T @ up, down @ down.T)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(0, 10), min_size=1, max_size=9), st.floats(0.001, 0.999))
    def test_the_smallest_rank_within_a_tolerance(self, values, tolerance):
        ordered = np.sort(np.array(values))[::-1]
        rank = rank_within(ordered, tolerance)
        assert tail(ordered, rank) <= tolerance * (1 + 1e-9)
        assert rank == 1 or tail(ordered, rank - 1) > tolerance * (1 - 1e-9)


class TestSubspaceIteration:
    def test_its_residual_is_the_optimal_one_within_what_is_said(self):
        rng = np.random.default_rng(7)
        matrix = rng.standard_normal((300, 200)).astype(np.float32)
        u, values, v = subspace_svd(matrix, 16, key=0)
        best = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
        residual = np.linalg.norm(matrix - (u * values) @ v.T)
        assert residual <= np.linalg.norm(best[16:]) * (1 + 2e-4)

    def test_a_matrix_of_that_rank_comes_back(self):
        exact = dense(pair(np.random.default_rng(8), 80, 5, 60)).astype(np.float32)
        u, values, v = subspace_svd(exact, 5, key=0)
        assert np.linalg.norm(exact - (u * values) @ v.T) < 1e-5 * np.linalg.norm(exact)

    def test_a_rank_of_the_smaller_side_is_the_whole(self):
        exact = np.random.default_rng(9).standard_normal((12, 7)).astype(np.float32)
        u, values, v = subspace_svd(exact, 12, key=0)
        assert np.allclose((u * values) @ v.T, exact, atol=1e-5)
