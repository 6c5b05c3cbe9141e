"""Each method and dialect against its own formula in float64, written from its source, and against PEFT's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors.composing import dense
from adapter_registry.tensors.composing.methods import METHODS, find_method
from adapter_registry.tensors.composing.module import Wanted, composed, sound
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.rows import ArrayRows
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.lowrank import Span

SHAPE = (60, 44)
EVERY = [(name, dialect) for name, dialects in METHODS.items() for dialect in dialects]
WEIGHTLESS = [
    "ties:paper",
    "della:paper",
    "sce:paper",
    "sce:mergekit",
    "model_stock:paper",
    "model_stock:mergekit",
    "core-ties:paper",
    "knots-ties:paper",
]


def pairs_of(seed=0, count=3, shape=SHAPE, ranks=(4, 6, 3)):
    rng = np.random.default_rng(seed)
    return [
        Pair(
            rng.standard_normal((shape[0], ranks[i])).astype(np.float32),
            rng.standard_normal((ranks[i], shape[1])).astype(np.float32),
            0.1 * (i + 1),
        )
        for i in range(count)
    ]


def deltas_of(pairs):
    """In float64, of values that float32 holds: which entry is larger is then no matter of rounding."""
    exact = [p.scale * (p.up.astype(np.float64) @ p.down.astype(np.float64)) for p in pairs]
    return [delta.astype(np.float32).astype(np.float64) for delta in exact]


def how_of(pairs, weights=None, **options):
    return How(tuple(weights or [1.0] * len(pairs)), keys=tuple(range(len(pairs))), **options)


def whole(text, pairs, how):
    """The composed delta, nothing cut off."""
    method = find_method(text)[2]
    if method.core is not None:
        factored = method.core(Span.of(pairs), how)
        up, down = factored.truncated(len(factored.values))
        return up @ down
    rows = [ArrayRows(delta.astype(np.float32)) for delta in deltas_of(pairs)]
    return method.dense(rows, how).astype(np.float64)


def trimmed(delta, density):
    count = int(density * delta.size)
    order = np.argsort(-np.abs(delta).ravel(), kind="stable")[:count]
    out = np.zeros(delta.size)
    out[order] = delta.ravel()[order]
    return out.reshape(delta.shape)


def near(found, expected):
    assert np.linalg.norm(expected) > 0
    assert np.linalg.norm(found - expected) < 2e-5 * np.linalg.norm(expected)


class TestTiesAndItsKin:
    @pytest.mark.parametrize("density", [0.2, 0.7, 1.0])
    def test_ties_of_the_paper(self, density):
        pairs = pairs_of()
        cut = np.stack([trimmed(delta, density) for delta in deltas_of(pairs)])
        sign = np.sign(cut.sum(axis=0))
        agree = (np.sign(cut) == sign) & (cut != 0)
        mean = (cut * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)
        near(whole("ties:paper", pairs, how_of(pairs, density=density, scale=0.4)), 0.4 * mean)

    @pytest.mark.filterwarnings("ignore:The density 1.0")
    @pytest.mark.parametrize("election", ["total", "frequency"])
    @pytest.mark.parametrize("density", [0.2, 1.0])
    def test_ties_of_peft(self, density, election):
        import torch
        from peft.utils.merge_utils import ties

        pairs, weights = pairs_of(), [0.7, -0.3, 1.1]
        tensors = [torch.from_numpy(delta) for delta in deltas_of(pairs)]
        theirs = ties(tensors, torch.tensor(weights), density, majority_sign_method=election).numpy()
        near(whole("ties:peft", pairs, how_of(pairs, weights, density=density, election=election)), theirs)

    @pytest.mark.parametrize("normalise", [None, False])
    def test_ties_of_mergekit(self, normalise):
        pairs, weights = pairs_of(), np.array([0.7, -0.3, 1.1])[:, None, None]
        cut = np.stack([trimmed(delta, 0.3) for delta in deltas_of(pairs)]) * weights
        agree = np.sign(cut) == np.where(cut.sum(axis=0) >= 0, 1, -1)
        mixed, shares = (cut * agree).sum(axis=0), (weights * agree).sum(axis=0)
        expected = mixed if normalise is False else mixed / np.where(shares == 0, 1, shares)
        how = how_of(pairs, [0.7, -0.3, 1.1], density=0.3, normalise=normalise)
        near(whole("ties:mergekit", pairs, how), expected)

    def test_the_three_are_three_functions(self):
        pairs = pairs_of()
        paper = whole("ties:paper", pairs, how_of(pairs, density=0.3))
        weights = [2.0, -0.5, 0.1]
        peft = whole("ties:peft", pairs, how_of(pairs, weights, density=0.3))
        mergekit = whole("ties:mergekit", pairs, how_of(pairs, weights, density=0.3))
        assert np.linalg.norm(peft - mergekit) > 0.1 * np.linalg.norm(paper)

    def test_magnitude_prune_of_peft(self):
        import torch
        from peft.utils.merge_utils import magnitude_prune

        pairs, weights = pairs_of(), [0.7, -0.3, 1.1]
        theirs = magnitude_prune([torch.from_numpy(d) for d in deltas_of(pairs)], torch.tensor(weights), 0.3).numpy()
        near(whole("magnitude_prune", pairs, how_of(pairs, weights, density=0.3)), theirs)

    def test_breadcrumbs(self):
        pairs = pairs_of()
        expected = 0
        for delta, weight in zip(deltas_of(pairs), [0.7, -0.3, 1.1], strict=True):
            top = int(0.05 * delta.size)
            kept = trimmed(delta, (top + int(0.4 * delta.size)) / delta.size + 1e-12) - trimmed(delta, 0.05)
            expected = expected + weight * kept
        found = whole("breadcrumbs", pairs, how_of(pairs, [0.7, -0.3, 1.1], density=0.4, outliers=0.05))
        near(found, expected)

    def test_sce(self):
        pairs = pairs_of()
        stack = np.stack(deltas_of(pairs))
        variance = stack.var(axis=0)
        chosen = trimmed(variance, 0.3) > 0
        left = stack * chosen
        squares = (left**2).mean(axis=(1, 2))
        agree = np.sign(left) == np.where(left.sum(axis=0) >= 0, 1, -1)
        shares = (squares / squares.sum())[:, None, None] * agree
        near(
            whole("sce", pairs, how_of(pairs, density=0.3)),
            (left * shares).sum(axis=0) / np.maximum(shares.sum(axis=0), 1e-6),
        )


RANDOM = ["dare_linear:paper", "dare_linear:mergekit", "della_linear:paper", "della_linear:mergekit"]


class TestRandomMasks:
    @pytest.mark.parametrize("text", RANDOM)
    def test_entries_are_kept_with_the_density_and_the_sum_is_right_on_average(self, text):
        [pair] = pairs_of(count=1, shape=(300, 300))
        [delta] = deltas_of([pair])
        found = whole(text, [pair], How((1.0,), keys=(5,), density=0.4, spread=0.1))
        assert np.count_nonzero(found) / found.size == pytest.approx(0.4, abs=0.01)
        assert np.sum(found * delta) / np.sum(delta**2) == pytest.approx(1, abs=0.15)

    @pytest.mark.parametrize("text", ["dare_linear:mergekit", "della_linear:mergekit"])
    def test_mergekit_keeps_the_l1_norm(self, text):
        pairs = pairs_of(count=1)
        found = whole(text, pairs, How((1.0,), keys=(5,), density=0.4, spread=0.1))
        assert np.abs(found).sum() == pytest.approx(np.abs(deltas_of(pairs)[0]).sum(), rel=1e-5)

    def test_dare_divides_by_the_density(self):
        pairs = pairs_of(count=1)
        found, [delta] = whole("dare_linear", pairs, How((1.0,), keys=(5,), density=0.4)), deltas_of(pairs)
        kept = found != 0
        assert np.allclose(found[kept], delta[kept] / 0.4, rtol=1e-5)

    def test_della_keeps_large_entries_of_a_row_more_often(self):
        pairs = pairs_of(count=1, shape=(400, 200))
        found, [delta] = whole("della_linear", pairs, How((1.0,), keys=(5,), density=0.5, spread=0.4)), deltas_of(pairs)
        order = np.argsort(np.argsort(np.abs(delta), axis=1), axis=1)
        share = lambda where: np.count_nonzero(found[where]) / np.count_nonzero(where)  # noqa: E731
        assert share(order >= 180) == pytest.approx(0.68, abs=0.03)
        assert share(order < 20) == pytest.approx(0.32, abs=0.03)

    @pytest.mark.parametrize("text", [*RANDOM, "dare_ties:peft"])
    def test_the_seed_decides_whatever_the_blocks_are(self, text, monkeypatch):
        pairs = pairs_of()
        how = how_of(pairs, density=0.5)
        first = whole(text, pairs, how)
        monkeypatch.setattr("adapter_registry.tensors.composing.rows.BLOCK", 7 * SHAPE[1])
        assert np.allclose(first, whole(text, pairs, how), rtol=1e-5, atol=1e-7)
        other = How(how.weights, keys=(7, 8, 9), density=0.5)
        assert not np.allclose(first, whole(text, pairs, other), rtol=1e-2)

    def test_at_density_zero_nothing_is_left(self):
        pairs = pairs_of()
        for text in ("dare_linear", "dare_ties:peft", "dare_linear:mergekit", "magnitude_prune", "ties:mergekit"):
            assert not whole(text, pairs, how_of(pairs, density=0.0)).any()


class TestCoreMethods:
    def test_slerp_keeps_the_length_of_equally_long_deltas(self):
        one, other = pairs_of(count=2)
        other = Pair(
            other.up,
            other.down,
            other.scale * np.linalg.norm(deltas_of([one])[0]) / np.linalg.norm(deltas_of([other])[0]),
        )
        found = whole("slerp", [one, other], How((0.3, 0.7)))
        d1, d2 = deltas_of([one, other])
        angle = np.arccos(np.sum(d1 * d2) / np.linalg.norm(d1) / np.linalg.norm(d2))
        near(found, (np.sin(0.3 * angle) * d1 + np.sin(0.7 * angle) * d2) / np.sin(angle))
        assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(d1), rel=1e-6)

    def test_karcher_of_two_equal_weights_is_the_middle_of_the_arc(self):
        pairs = pairs_of(count=2)
        d1, d2 = deltas_of(pairs)
        middle = d1 / np.linalg.norm(d1) + d2 / np.linalg.norm(d2)
        length = (np.linalg.norm(d1) + np.linalg.norm(d2)) / 2
        near(whole("karcher", pairs, How((1.0, 1.0))), length * middle / np.linalg.norm(middle))

    def test_the_tangents_of_a_weighted_karcher_mean_sum_to_zero(self):
        pairs, weights = pairs_of(), np.array([0.2, 0.5, 0.3])
        found = whole("karcher", pairs, How(tuple(weights))).ravel()
        mean = found / np.linalg.norm(found)
        total = np.zeros_like(mean)
        for weight, delta in zip(weights, deltas_of(pairs), strict=True):
            unit = delta.ravel() / np.linalg.norm(delta)
            angle = np.arccos(unit @ mean)
            total += weight * angle / np.sin(angle) * (unit - (unit @ mean) * mean)
        assert np.linalg.norm(total) < 1e-6

    def test_model_stock(self):
        pairs = pairs_of()
        flat = np.stack([delta.ravel() / np.linalg.norm(delta) for delta in deltas_of(pairs)])
        cosine = ((flat @ flat.T).sum() - 3) / 6
        t = 3 * cosine / (1 + 2 * cosine)
        near(whole("model_stock", pairs, how_of(pairs)), t * sum(deltas_of(pairs)) / 3)

    def test_task_singular_vectors(self):
        pairs, weights = pairs_of(), [0.7, -0.3, 1.1]
        parts = [np.linalg.svd(w * d, full_matrices=False) for w, d in zip(weights, deltas_of(pairs), strict=True)]
        ranks = [p.rank for p in pairs]
        u = np.concatenate([part[0][:, :r] for part, r in zip(parts, ranks, strict=True)], axis=1)
        s = np.concatenate([part[1][:r] for part, r in zip(parts, ranks, strict=True)])
        v = np.concatenate([part[2][:r] for part, r in zip(parts, ranks, strict=True)])

        def polar(matrix):
            a, _, b = np.linalg.svd(matrix, full_matrices=False)
            return a @ b

        near(whole("tsv-m", pairs, how_of(pairs, weights)), polar(u) * s @ polar(v.T).T)

    def test_robustmerge_trims_directions_and_lifts_the_weak_ones(self):
        pairs, weights = pairs_of(), [0.7, -0.3, 1.1]
        parts = []
        for delta, pair in zip(deltas_of(pairs), pairs, strict=True):
            u, s, v = (each for each in np.linalg.svd(delta, full_matrices=False))
            root = np.sqrt(s[: pair.rank])
            up, down = u[:, : pair.rank] * root, root[:, None] * v[: pair.rank]
            cut = trimmed(down, 0.3)
            lift = np.abs(down).sum(axis=1) / np.abs(cut).sum(axis=1)
            parts.append((trimmed(up, 0.3), np.maximum(lift, np.sort(lift)[int(0.8 * pair.rank)]), cut))
        expected = 0
        for weight, (up, lift, down) in zip(weights, parts, strict=True):
            means = np.array([np.mean([p[1][k] for p in parts if len(p[1]) > k]) for k in range(len(lift))])
            expected = expected + weight * (up * (lift / means)) @ down
        near(whole("robustmerge", pairs, how_of(pairs, weights, density=0.3)), expected)

    def test_iso_c_flattens_the_spectrum_of_the_sum(self):
        pairs = pairs_of()
        u, s, v = np.linalg.svd(sum(deltas_of(pairs)), full_matrices=False)
        rank = sum(p.rank for p in pairs)
        near(whole("iso-c", pairs, how_of(pairs)), s[:rank].mean() * u[:, :rank] @ v[:rank])

    def test_iso_cts_has_a_flat_spectrum_and_the_tasks_own_directions(self):
        pairs = pairs_of()
        found = np.linalg.svd(whole("iso-cts", pairs, how_of(pairs)), compute_uv=False)
        assert np.allclose(found[:13], found[0])
        assert found[13] < 1e-8 * found[0]

    def test_knots_is_the_method_on_what_its_paper_aligns(self):
        pairs = pairs_of(seed=1)
        u, s, v = np.linalg.svd(np.concatenate(deltas_of(pairs), axis=1), full_matrices=False)
        rank, columns = sum(p.rank for p in pairs), SHAPE[1]
        aligned = [ArrayRows(v[:rank, i * columns : (i + 1) * columns].astype(np.float32)) for i in range(3)]
        how = how_of(pairs, [0.7, -0.3, 1.1], density=0.4)
        found, expected = whole("knots-ties:peft", pairs, how), u[:, :rank] * s[:rank] @ dense.ties_peft(aligned, how)
        apart = np.linalg.norm(found - expected, axis=0) > 2e-5 * np.linalg.norm(expected, axis=0)
        # An aligned entry on the edge of a trim hangs on its last bit, and moves one of the 44 columns.
        assert np.count_nonzero(apart) <= 3


def options_of(text):
    return {"density": 1.0} if find_method(text)[2].masks else {}


WITHOUT_IDENTITY = ("iso-c", "iso-cts", "slerp")


class TestLaws:
    @pytest.mark.parametrize("text", [":".join(each) for each in EVERY if each[0] not in WITHOUT_IDENTITY])
    def test_one_adapter_at_weight_one_is_its_delta(self, text):
        pairs = pairs_of(count=1)
        near(whole(text, pairs, how_of(pairs, **options_of(text))), deltas_of(pairs)[0])

    @pytest.mark.parametrize("text", [":".join(each) for each in EVERY if each[0] != "slerp"])
    def test_the_order_of_adapters_does_not_matter_at_density_one(self, text):
        pairs = pairs_of()
        weights = None if text in WEIGHTLESS else [0.7, 0.2, 1.1]
        forth = whole(text, pairs, how_of(pairs, weights, **options_of(text)))
        back = whole(text, pairs[::-1], how_of(pairs, weights and weights[::-1], **options_of(text)))
        near(back, forth)

    @pytest.mark.parametrize("text", [":".join(each) for each in EVERY if each[0] not in ("slerp", "karcher")])
    def test_negating_all_deltas_negates_the_result(self, text):
        pairs = pairs_of()
        opposite = [Pair(p.up, p.down, -p.scale) for p in pairs]
        near(
            whole(text, opposite, how_of(pairs, **options_of(text))),
            -whole(text, pairs, how_of(pairs, **options_of(text))),
        )

    @pytest.mark.parametrize("text", [":".join(each) for each in EVERY if each[0] != "slerp"])
    def test_lambda_scales_the_result(self, text):
        pairs = pairs_of()
        once = whole(text, pairs, how_of(pairs, **options_of(text)))
        near(whole(text, pairs, how_of(pairs, scale=-2.5, **options_of(text))), -2.5 * once)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 2**32), st.sampled_from([":".join(e) for e in EVERY if e[0] != "slerp"]))
    def test_it_does_not_matter_how_a_delta_is_written_as_a_product(self, seed, text):
        """B -> B G, A -> G^-1 A leaves each delta as it is, and so the result: at density 1, as a mask may tip over."""
        rng = np.random.default_rng(seed)
        pairs = pairs_of(seed)
        turned = []
        for p in pairs:
            g = np.linalg.qr(rng.standard_normal((p.rank, p.rank)))[0] * rng.uniform(0.1, 10, p.rank)
            down = np.linalg.solve(g, p.down.astype(np.float64))
            turned.append(Pair((p.up @ g).astype(np.float32), down.astype(np.float32), p.scale))
        how = how_of(pairs, **options_of(text))
        found, expected = whole(text, turned, how), whole(text, pairs, how)
        # Elections tip over where a sum of several deltas is 0 to float32's precision: a handful of entries.
        assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)

    def test_multiplying_b_by_ten_and_dividing_a_by_ten_changes_no_core_variant(self):
        pairs = pairs_of()
        turned = [Pair(pairs[0].up * 10, pairs[0].down / 10, pairs[0].scale), *pairs[1:]]
        for text in ("core-ties:peft", "core-magnitude_prune", "knots-ties:mergekit", "robustmerge"):
            how = how_of(pairs, density=0.3)
            near(whole(text, turned, how), whole(text, pairs, how))

    @pytest.mark.parametrize("text", [":".join(each) for each in EVERY if METHODS[each[0]][each[1]].masks])
    def test_inputs_are_left_unchanged(self, text):
        pairs = pairs_of()
        before = [(p.up.copy(), p.down.copy()) for p in pairs]
        composed(pairs, find_method(text)[2], how_of(pairs, density=0.5), Wanted(rank=4))
        assert all(
            np.array_equal(p.up, up) and np.array_equal(p.down, down)
            for p, (up, down) in zip(pairs, before, strict=True)
        )


class TestFit:
    @pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
    @pytest.mark.parametrize("text", ["linear", "cat", "ties:peft", "tsv-m", "core-ties:peft"])
    def test_the_error_that_is_told_is_the_error_in_float64(self, text, dtype):
        pairs = pairs_of()
        how = how_of(pairs, [0.7, -0.3, 1.1], **({"density": 0.5} if find_method(text)[2].masks else {}))
        fitted = composed(pairs, find_method(text)[2], how, Wanted(rank=None if text == "cat" else 6, dtype=dtype))
        exact = whole(text, pairs, how)
        found = fitted.up.astype(np.float64) @ fitted.down.astype(np.float64)
        assert fitted.norm == pytest.approx(np.linalg.norm(exact), rel=1e-5)
        assert fitted.error == pytest.approx(np.linalg.norm(found - exact), rel=1e-2, abs=2e-6 * fitted.norm)

    @pytest.mark.parametrize("text", ["linear", "ties:peft"])
    def test_auto_takes_the_smallest_rank_within_the_tolerance(self, text):
        pairs = pairs_of()
        how = how_of(pairs, **options_of(text))
        method = find_method(text)[2]
        fitted = composed(pairs, method, how, Wanted(tolerance=0.3))
        assert fitted.error <= 0.3001 * fitted.norm
        less = composed(pairs, method, how, Wanted(rank=fitted.rank - 1))
        assert less.error > 0.3 * less.norm

    def test_a_sum_that_is_zero_is_rank_one_of_zeros(self):
        [pair] = pairs_of(count=1)
        fitted = composed([pair, pair], find_method("linear")[2], How((1.0, -1.0), keys=(0, 1)), Wanted(tolerance=0.1))
        assert fitted.rank == 1
        assert np.linalg.norm(fitted.up @ fitted.down) < 1e-6
        assert fitted.norm < 1e-6


class TestRefusals:
    @pytest.mark.parametrize("text", WEIGHTLESS)
    def test_a_method_without_weights_refuses_different_ones(self, text):
        pairs = pairs_of()
        with pytest.raises(InvalidInput, match="Give equal weights"):
            whole(text, pairs, how_of(pairs, [1.0, 2.0, 1.0], **options_of(text)))

    def test_normalising_by_a_sum_of_zero(self):
        pairs = pairs_of(count=2)
        with pytest.raises(InvalidInput, match="sum to 0"):
            whole("linear:mergekit", pairs, How((1.0, -1.0), normalise=True))

    @pytest.mark.parametrize(("text", "told"), [("tise", "there is no method"), ("ties:theirs", "has no dialect")])
    def test_an_unknown_name(self, text, told):
        with pytest.raises(InvalidInput, match=told):
            find_method(text)

    def test_probabilities_that_are_none(self):
        pairs = pairs_of(count=1)
        with pytest.raises(InvalidInput, match="--spread"):
            whole("della:mergekit", pairs, How((1.0,), keys=(1,), density=0.95, spread=0.1))

    @pytest.mark.parametrize("text", ["linear", "ties:peft"])
    @pytest.mark.parametrize("dtype", ["F16", "BF16"])
    def test_auto_counts_what_rounding_to_half_precision_costs(self, text, dtype):
        pairs, method = pairs_of(), find_method(text)[2]
        how = how_of(pairs, **options_of(text))
        exact = composed(pairs, method, how, Wanted(tolerance=0.3))
        fitted = composed(pairs, method, how, Wanted(tolerance=exact.error / exact.norm * 1.001, dtype=dtype))
        assert fitted.error <= exact.error * 1.001
        with pytest.raises(InvalidInput, match="keep no error below"):
            composed(pairs, method, how, Wanted(tolerance=1e-4, dtype=dtype))

    @pytest.mark.parametrize("text", [":".join(each) for each in EVERY if each[0] != "slerp"])
    def test_of_nothing_but_zeros_comes_nothing(self, text):
        pairs = [Pair(np.zeros_like(p.up), p.down, p.scale) for p in pairs_of()]
        fitted = composed(pairs, find_method(text)[2], how_of(pairs, **options_of(text)), Wanted(rank=2))
        assert not fitted.up.any()
        assert (fitted.rank, fitted.norm, fitted.error) == (2, 0.0, 0.0)


def opposed():
    [pair] = pairs_of(count=1)
    return [pair, Pair(pair.up, pair.down, -pair.scale)]


class TestOpposed:
    @pytest.mark.parametrize("text", ["karcher", "multislerp"])
    def test_deltas_that_cancel_out_have_no_mean_on_the_sphere(self, text):
        with pytest.raises(InvalidInput, match="cancel out on the sphere"):
            whole(text, opposed(), How((0.5, 0.5)))

    @pytest.mark.parametrize("text", ["model_stock:paper", "model_stock:mergekit"])
    def test_model_stock_of_them_is_nothing(self, text):
        assert not whole(text, opposed(), How((1.0, 1.0))).any()


class TestSound:
    @pytest.mark.parametrize(("dtype", "size"), [("F32", 1e35), ("F16", 1e6)])
    def test_numbers_too_large_for_the_type_are_refused_by_name(self, dtype, size):
        pairs = [Pair(p.up, p.down, p.scale * size * size) for p in pairs_of()]

        def fit():
            return [composed(pairs, find_method("linear")[2], how_of(pairs), Wanted(rank=2, dtype=dtype))]

        with pytest.raises(InvalidInput, match=r"q_proj: this delta has numbers too large for float"):
            sound("q_proj", dtype, fit)
