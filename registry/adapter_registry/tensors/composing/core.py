"""Methods worked out on cores: those that commute with changes of basis, exactly, and core variants of the others.

`left · core · right'` is the composed delta; see `lowrank`. D_i is a delta, M_i its core, w_i its weight, λ
`how.scale`. A core variant of an element-wise method is another function than the dense one and has a name of its
own; its basis is chosen from the deltas alone, so that it does not depend on how a delta is written as a product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors.composing.dense import (
    Dense,
    dare_linear,
    dare_ties_peft,
    equal,
    magnitude_prune,
    ties_mergekit,
    ties_paper,
    ties_peft,
    total,
)
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.rows import ArrayRows
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.lowrank import NOTHING, Factored, Float64, Span, significant

Core = Callable[[Span, How], Factored]
"""(deltas in their span, how) -> the composed delta by its singular values."""

KARCHER_STEPS = 200
CANCELLED = "these deltas cancel out on the sphere: they have no mean direction. linear takes them."


def weighted_sum(span: Span, how: How) -> Factored:
    """λ · Σ w_i · D_i: task arithmetic, arXiv:2212.04089; with `normalise` over Σ w_i, mergekit's `linear`."""
    return span.lifted(_sum(span, how))


def slerp(span: Span, how: How) -> Factored:
    """λ · (sin((1-t)θ)/sin θ · D_1 + sin(tθ)/sin θ · D_2), t = w_2 / (w_1 + w_2), θ the angle of the two deltas.

    Source: mergekit's `nuslerp` with a base. Its `slerp` of two checkpoints of one base is a straight line.
    """
    if len(how.weights) != 2:
        raise InvalidInput(
            f"slerp goes from one adapter to another; it was given {len(how.weights)}. karcher takes more."
        )
    gram, t = span.inner(), how.weights[1] / total(how.weights)
    lengths = float(np.sqrt(gram[0, 0] * gram[1, 1]))
    angle = float(np.arccos(np.clip(gram[0, 1] / lengths, -1, 1))) if lengths else 0.0
    sine = np.sin(angle)
    shares = (1 - t, t) if sine < 1e-8 else (np.sin((1 - t) * angle) / sine, np.sin(t * angle) / sine)
    return span.lifted(how.scale * (shares[0] * span.cores[0] + shares[1] * span.cores[1]))


def multislerp(span: Span, how: How) -> Factored:
    """λ · (Σ α_i ‖D_i‖) · the direction of Σ α_i · D_i / ‖D_i‖; α_i = w_i / Σ w_i, or w_i where not normalised.

    mergekit's `multislerp` goes on to the tangent space at that direction, where the same weights sum to 0.
    """
    gram = span.inner()
    lengths = np.sqrt(np.diag(gram))
    alphas = np.asarray(how.weights) / (total(how.weights) if how.normalise else 1.0)
    mean = alphas * np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    length = float(np.sqrt(max(float(mean @ gram @ mean), 0.0)))
    if lengths.any() and length < 1e-8:
        raise InvalidInput(CANCELLED)
    mean = how.scale * float(alphas @ lengths) * mean / (length or 1.0)
    return span.lifted(np.tensordot(mean, np.stack(span.cores), axes=1))


def karcher(span: Span, how: How) -> Factored:
    """λ · (Σ α_i ‖D_i‖) · the weighted Riemannian mean of D_i / ‖D_i‖ on the sphere, α_i = w_i / Σ w_i.

    Worked out on coefficients of the D_i: only their inner products are needed.

    Source: H. Karcher, Comm. Pure Appl. Math. 30 (1977); mergekit's `karcher` with equal weights.
    """
    if any(weight < 0 for weight in how.weights):
        raise InvalidInput("karcher is a mean: a negative weight has no meaning in it. linear takes one.")
    gram, alphas = span.inner(), np.asarray(how.weights) / total(how.weights)
    lengths = np.sqrt(np.diag(gram))
    there = lengths > 0
    units = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=there)
    mean = alphas * units  # coefficients of the D_i
    for _ in range(KARCHER_STEPS):
        length = np.sqrt(max(float(mean @ gram @ mean), 0.0))
        if there.any() and length < 1e-8:
            raise InvalidInput(CANCELLED)
        mean = mean / (length or 1.0)
        cosines = np.clip((gram @ mean) * units, -1, 1)
        angles = np.arccos(cosines)
        sines = np.sqrt(np.maximum(1 - cosines**2, 0))
        stretch = np.divide(angles, sines, out=np.ones_like(angles), where=sines > 1e-9) * alphas * there
        step = stretch * units - np.sum(stretch * cosines) * mean
        length = np.sqrt(max(float(step @ gram @ step), 0.0))
        if length < 1e-12:
            break
        mean = np.cos(length) * mean + np.sin(length) / length * step
    mean = how.scale * float(alphas @ lengths) * mean
    return span.lifted(np.tensordot(mean, np.stack(span.cores), axes=1))


def model_stock(span: Span, how: How) -> Factored:
    """λ · t · mean of D_i, t = N cos θ / (1 + (N - 1) cos θ), cos θ the mean cosine of two deltas. Equal weights only.

    Where that divides by 0 (deltas that oppose each other), nothing is left.

    Source: Model Stock, arXiv:2403.19522 §4.
    """
    return _model_stock(span, how, "model_stock:paper", 0.0)


def model_stock_mergekit(span: Span, how: How) -> Factored:
    """Mergekit's `model_stock`: a product of two norms counts as at least 1e-6, which small modules do not reach."""
    return _model_stock(span, how, "model_stock:mergekit", 1e-6)


def _model_stock(span: Span, how: How, method: str, least: float) -> Factored:
    n, weight = len(how.weights), equal(how.weights, method)
    gram = span.inner()
    lengths = np.sqrt(np.diag(gram))
    products = np.outer(lengths, lengths).clip(least)
    cosines = np.divide(gram, products, out=np.zeros_like(gram), where=products > 0).clip(-1, 1)
    cosine = (float(cosines.sum()) - float(np.trace(cosines))) / (n * (n - 1)) if n > 1 else 1.0
    divisor = 1 + (n - 1) * cosine
    t = n * cosine / divisor if abs(divisor) >= 1e-6 else 0.0
    return span.lifted(how.scale * weight * t / n * np.sum(np.stack(span.cores), axis=0))


def tsv_merge(span: Span, how: How) -> Factored:
    """λ · polar(U) · S · polar(V)', U and V the singular vectors of all w_i · D_i side by side, S their values.

    All r_i singular vectors of each delta are taken: the paper's k = min(d) / n of a full fine-tune would add vectors
    of the null space of a LoRA, which are arbitrary.

    Source: Task Singular Vectors, arXiv:2412.00081 §4.
    """
    parts = [_singular(weight * core) for weight, core in zip(how.weights, span.cores, strict=True)]
    u = np.concatenate([part[0] for part in parts], axis=1)
    values = np.concatenate([part[1] for part in parts])
    v = np.concatenate([part[2] for part in parts], axis=0)
    return span.lifted(how.scale * (_polar(u) * values) @ _polar(v.T).T)


def iso_c(span: Span, how: How) -> Factored:
    """λ · mean(S) · U · V' of Σ w_i · D_i = U · S · V', over the singular values that are not 0.

    Source: Iso-C, arXiv:2502.04959 §4, which averages over all min(d) values of a full fine-tune.
    """
    u, values, v = _singular(_sum(span, how))
    return span.lifted((float(values.mean()) if values.size else 0.0) * u @ v)


def iso_cts(span: Span, how: How) -> Factored:
    """Iso-C whose last fifth of directions are the tasks' own: what each D_i has outside of the first ones.

    Of R directions, s = R - n·⌊R / 5n⌋ are the leading ones of Σ w_i · D_i; each delta adds ⌊R / 5n⌋ leading ones of
    what it has outside of those; both sides are made orthonormal by the polar factor and get the mean singular value.

    Source: Iso-CTS, arXiv:2502.04959 §4.2, with its 0.8 of common directions.
    """
    u, values, v = _singular(_sum(span, how))
    n, rank = len(span.cores), len(values)
    own = rank // (5 * n)
    lead = rank - n * own
    lefts, rights, sizes = [u[:, :lead]], [v[:lead]], [values[:lead]]
    for weight, core in zip(how.weights, span.cores, strict=True):
        outside = how.scale * weight * core
        outside = outside - lefts[0] @ (lefts[0].T @ outside)
        outside = outside - (outside @ rights[0].T) @ rights[0]
        left, size, right = _singular(outside)
        lefts.append(left[:, :own])
        rights.append(right[:own])
        sizes.append(size[:own])
    mean = float(np.concatenate(sizes).mean()) if rank else 0.0
    both = _polar(np.concatenate(lefts, axis=1)) @ _polar(np.concatenate(rights).T).T
    return span.lifted(mean * both)


def robust_merge(span: Span, how: How) -> Factored:
    """λ · Σ w_i · trim(U_i·√S_i) · diag(c_i) · trim(√S_i·V_i'), D_i = U_i·S_i·V_i' and trim as TIES has it.

    c_i lifts directions that the trim of √S·V' weakened: the k-th of D_i by s_ik = ‖row k‖₁ before / after, raised to
    at least the 0.8 quantile of D_i's, over the mean of s_jk of all D_j that have k directions.

    The paper's RobustMerge does this to lora_A and lora_B as they are stored and sums each over the tasks, so that each
    B_i meets each A_j; here it is done to the singular directions of each delta, and deltas are summed.

    Source: RobustMerge, arXiv:2502.17159 §4, with the fifth of its code.
    """
    prunings = [_pruned(span, core, how.share) for core in span.cores]
    most = max(len(each[1]) for each in prunings)
    lifts = np.full((len(prunings), most), np.nan)
    for row, (_, lift, _) in zip(lifts, prunings, strict=True):
        row[: len(lift)] = lift
    there = ~np.isnan(lifts)
    means = np.where(there, lifts, 0).sum(axis=0) / there.sum(axis=0).clip(1)
    ups = [up * (w * lift / means[: len(lift)]) for w, (up, lift, _) in zip(how.weights, prunings, strict=True)]
    up, down = np.concatenate(ups, axis=1), np.concatenate([each[2] for each in prunings])
    pair = Pair((how.scale * up).astype(np.float32), down.astype(np.float32), 1.0)
    whole = Span.of([pair])
    return whole.lifted(whole.cores[0])


def _pruned(span: Span, core: Float64, density: float) -> tuple[Float64, Float64, Float64]:
    """(trimmed U·√S, how much each direction is lifted, trimmed √S·V')."""
    u, values, v = _singular(core)
    root = np.sqrt(values)
    up, down = span.left.raised(u * root), span.right.raised(v.T * root).T
    kept_up, kept_down = (_trimmed(each, density) for each in (up, down))
    before, after = np.abs(down).sum(axis=1), np.abs(kept_down).sum(axis=1)
    lift = np.divide(before, after, out=np.ones_like(before), where=after > 0)
    if lift.size:
        lift = np.maximum(lift, np.sort(lift)[int(0.8 * lift.size)])
    return kept_up, lift, kept_down


def _trimmed(factor: Float64, density: float) -> Float64:
    count = int(density * factor.size)
    if count >= factor.size:
        return factor
    kept = np.zeros(factor.size)
    chosen = np.argsort(-np.abs(factor).ravel(), kind="stable")[:count]
    kept[chosen] = factor.ravel()[chosen]
    return kept.reshape(factor.shape)


def in_core(method: Dense) -> Core:
    """An element-wise method on cores in the bases of the eigenvectors of Σ D_i·D_i' and Σ D_i'·D_i.

    Source: Core Space merging, arXiv:2509.17786, with bases that depend on the deltas alone: the paper's, from stacked
    factors, change with how each delta is written as a product.
    """

    def core(span: Span, how: How) -> Factored:
        left = _singular(np.concatenate(span.cores, axis=1))[0]
        right = _singular(np.concatenate(span.cores, axis=0))[2]
        seen = [ArrayRows((left.T @ each @ right.T).astype(np.float32)) for each in span.cores]
        return span.lifted(left @ method(seen, how).astype(np.float64) @ right)

    return core


def in_knots(method: Dense) -> Core:
    """KnOTS: [D_1 ... D_n] = U · S · [V_1' ... V_n'], the method on the V_i', and U · S · f(V) is the result.

    Source: KnOTS, arXiv:2410.19735 §4. U and S come from the cores; V_i' is (R, columns).
    """

    def knots(span: Span, how: How) -> Factored:
        left, values, _ = _singular(np.concatenate(span.cores, axis=1))
        aligned = [ArrayRows(span.right.raised(each.T @ (left / values)).T.astype(np.float32)) for each in span.cores]
        merged = method(aligned, how)
        pair = Pair(span.left.raised(left * values).astype(np.float32), merged, 1.0)
        whole = Span.of([pair])
        return whole.lifted(whole.cores[0])

    return knots


core_ties_paper, core_ties_peft, core_ties_mergekit = map(in_core, (ties_paper, ties_peft, ties_mergekit))
core_dare_linear, core_dare_ties, core_magnitude = map(in_core, (dare_linear, dare_ties_peft, magnitude_prune))
knots_ties_paper, knots_ties_peft, knots_ties_mergekit = map(in_knots, (ties_paper, ties_peft, ties_mergekit))
knots_dare_ties = in_knots(dare_ties_peft)


def _sum(span: Span, how: How) -> Float64:
    scale = how.scale / (total(how.weights) if how.normalise else 1.0)
    weighted = np.asarray(how.weights)[:, None, None] * np.stack(span.cores)
    core = weighted.sum(axis=0)
    # What is left of deltas that cancel out is rounding: it has directions, and no meaning.
    lost = np.linalg.norm(core) <= NOTHING * sum(np.linalg.norm(each) for each in weighted)
    return np.zeros_like(core) if lost else np.asarray(scale * core)


def _singular(core: Float64) -> tuple[Float64, Float64, Float64]:
    """(u, values, v) without the directions that are rounding."""
    u, values, v = np.linalg.svd(core, full_matrices=False)
    keep = significant(values)
    return u[:, :keep], values[:keep], v[:keep]


def _polar(matrix: Float64) -> Float64:
    """The nearest matrix with orthonormal columns (orthogonal Procrustes)."""
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(u @ v)
