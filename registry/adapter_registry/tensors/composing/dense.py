"""Methods that look at entries one by one, on deltas as they are: TIES, DARE, DELLA, breadcrumbs, SCE, prune.

They are no functions of the core space (an entry is not what it is after a change of basis), so each delta is made
again from its factors, block by block; only the result is held. D_i is a delta, w_i its weight, λ `how.scale`.
PEFT's, mergekit's and the papers' functions of one name differ and are named by dialect. Where the deltas are on a
device, so is the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.tensors.composing.options import How, check_spread
from adapter_registry.tensors.composing.rows import Kept, Rows, blocks, by_rows
from adapter_registry.tensors.composing.sparsify import (
    at_random,
    at_random_same_sum,
    between,
    by_magnitude,
    by_rank,
    by_rank_same_sum,
    largest,
)
from adapter_registry.tensors.devices import Array, beside, library, narrow, wide

Dense = Callable[[Sequence[Rows], How], Array]
"""(deltas, how) -> the composed delta."""


def weighted_sum(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i · D_i: task arithmetic, arXiv:2212.04089. For deltas that have no two factors."""
    return by_rows(deltas, [_as_is] * len(deltas), _sum(how))


def magnitude_prune(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i · trim(D_i): PEFT's `magnitude_prune`, on deltas."""
    return by_rows(deltas, _trimmed(deltas, how), _sum(how))


def ties_paper(deltas: Sequence[Rows], how: How) -> Array:
    """λ · mean of those trim(D_i) that have the sign of Σ trim(D_i), entry by entry; 0 where that sum is 0.

    The paper knows no weights; equal ones multiply λ.

    Source: TIES-Merging, arXiv:2306.01708 algorithm 1.
    """
    scale = how.scale * equal(how.weights, "ties:paper")

    def elect(stack: Array) -> Array:
        sign = library(stack).sign
        return scale * _mean(stack, sign(stack) * sign(stack.sum(axis=0)) > 0)

    return by_rows(deltas, _trimmed(deltas, how), elect)


def ties_peft(deltas: Sequence[Rows], how: How) -> Array:
    """λ · mean of those w_i · trim(D_i) whose D_i has the sign elected without the weights; a sum of 0 counts as +.

    Source: `peft.utils.merge_utils.ties`, which PEFT applies to factors; here to deltas.
    """
    return by_rows(deltas, _trimmed(deltas, how), _peft(how))


def ties_mergekit(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i trim(D_i) over those that have the sign of Σ w_i trim(D_i), over the sum of their w_i.

    Source: mergekit's `ties`; `normalise` is true there. A density above 0 keeps at least one entry.
    """
    return by_rows(deltas, [by_magnitude(each, how.share, least=1) for each in deltas], _mergekit(how, normalise=True))


def dare_linear(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i · drop(D_i) / p: DARE with task arithmetic, arXiv:2311.03099 §3.2; PEFT's formula, on deltas."""
    return by_rows(deltas, [at_random(key, how.share) for key in how.keys], _sum(how))


def dare_linear_mergekit(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i · drop(D_i), each scaled back to its L1 norm; over Σ w_i with `normalise`. Source: mergekit."""
    kept = [at_random_same_sum(d, key, how.share) for d, key in zip(deltas, how.keys, strict=True)]
    return by_rows(deltas, kept, _sum(how))


def dare_ties_peft(deltas: Sequence[Rows], how: How) -> Array:
    """TIES' election and mean as PEFT has them, of drop(D_i) / p instead of trimmed deltas."""
    return by_rows(deltas, [at_random(key, how.share) for key in how.keys], _peft(how))


def dare_ties_mergekit(deltas: Sequence[Rows], how: How) -> Array:
    """TIES' election as mergekit has it, of drop(D_i) scaled back to its L1 norm; not normalised unless asked."""
    kept = [at_random_same_sum(d, key, how.share) for d, key in zip(deltas, how.keys, strict=True)]
    return by_rows(deltas, kept, _mergekit(how, normalise=False))


def della_paper(deltas: Sequence[Rows], how: How) -> Array:
    """λ · mean of those MAGPRUNE(D_i) that have the sign of their sum: DELLA, arXiv:2406.11617 §3. Equal weights."""
    kept = _by_rank(how)
    scale = how.scale * equal(how.weights, "della:paper")

    def elect(stack: Array) -> Array:
        sign = library(stack).sign
        return scale * _mean(stack, sign(stack) * sign(stack.sum(axis=0)) > 0)

    return by_rows(deltas, kept, elect)


def della_mergekit(deltas: Sequence[Rows], how: How) -> Array:
    """Mergekit's `della`: probability by rank, same L1 norm, election on weighted deltas; `normalise` is true there."""
    return by_rows(deltas, _by_rank_same_sum(deltas, how), _mergekit(how, normalise=True))


def della_linear_paper(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i · MAGPRUNE(D_i), without an election."""
    return by_rows(deltas, _by_rank(how), _sum(how))


def della_linear_mergekit(deltas: Sequence[Rows], how: How) -> Array:
    """Mergekit's `della_linear`: as its `della`, without an election."""
    return by_rows(deltas, _by_rank_same_sum(deltas, how), _sum(how))


def breadcrumbs(deltas: Sequence[Rows], how: How) -> Array:
    """λ · Σ w_i · D_i without its largest and its smallest magnitudes; over Σ w_i with `normalise`, mergekit's.

    Source: Model Breadcrumbs, arXiv:2312.06795 §3.2.
    """
    return by_rows(deltas, [between(d, how.share, how.outliers) for d in deltas], _sum(how))


def breadcrumbs_ties(deltas: Sequence[Rows], how: How) -> Array:
    """Mergekit's `breadcrumbs_ties`: as breadcrumbs, with TIES' election on weighted deltas."""
    kept = [between(d, how.share, how.outliers) for d in deltas]
    return by_rows(deltas, kept, _mergekit(how, normalise=False))


def sce(deltas: Sequence[Rows], how: How) -> Array:
    """Select the entries of the highest variance, Calculate a weight for each delta from those, Erase minorities.

    On the ⌊density · (entries that vary)⌋ entries of the highest variance over the deltas: with v_i = mean(D_i²) / Σ
    mean(D_j²), λ · Σ v_i · D_i over those with the sign of Σ D_i, over the sum of their v_i. It finds its weights
    itself: the given ones have to be equal and multiply λ.

    Source: FuseChat 2.0's SCE, arXiv:2408.07990 §3.2.
    """
    return _select_calculate_erase(deltas, how, "sce:paper", lambda shares, total: shares / (total or 1.0), 0.0)


def sce_mergekit(deltas: Sequence[Rows], how: How) -> Array:
    """Mergekit's `sce`: all v_i are equal where Σ mean(D_i²) is below 1e-6, and sums of v_i count as at least 1e-6.

    A LoRA changes a weight by some 1e-4: for most modules this is SCE without its weights. `sce:paper` keeps them.
    """

    def shares(squares: NDArray[np.float64], total: float) -> NDArray[np.float64]:
        return squares / total if total >= 1e-6 else np.full_like(squares, 1 / len(squares))

    return _select_calculate_erase(deltas, how, "sce:mergekit", shares, 1e-6)


def _select_calculate_erase(
    deltas: Sequence[Rows],
    how: How,
    method: str,
    shares_of: Callable[[NDArray[np.float64], float], NDArray[np.float64]],
    least: float,
) -> Array:
    scale = how.scale * equal(how.weights, method)
    spread = _Spread(deltas)
    chosen = (lambda: None) if how.share >= 1 else spread.most(how.share)
    first = chosen()
    squares = np.zeros(len(deltas))
    for start, stop in blocks(spread):
        stack = spread.stack(start, stop)
        left = stack if first is None else stack * first(_variance(stack))
        squares += [float((wide(each) ** 2).sum()) for each in left]
    squares /= spread.shape[0] * spread.shape[1]
    shares = shares_of(squares, float(squares.sum())).astype(np.float32)
    second = chosen()

    def elect(stack: Array) -> Array:
        left = stack if second is None else stack * second(_variance(stack))
        share = beside(stack, shares[:, None, None]) * (library(stack).sign(left) == _elected(left))
        divisor = share.sum(axis=0).clip(least)
        return scale * (left * share).sum(axis=0) / (divisor + (divisor == 0))

    return by_rows(deltas, [_as_is] * len(deltas), elect)


class _Spread:
    """Rows of the variance over several deltas."""

    def __init__(self, deltas: Sequence[Rows]) -> None:
        self._deltas, self.shape = deltas, deltas[0].shape

    def stack(self, start: int, stop: int) -> Array:
        rows = [each.block(start, stop) for each in self._deltas]
        return library(rows[0]).stack(rows)

    def block(self, start: int, stop: int) -> Array:
        return _variance(self.stack(start, stop))

    def most(self, density: float) -> Callable[[], Callable[[Array], Array] | None]:
        varying = sum(int((self.block(a, b) != 0).sum()) for a, b in blocks(self))
        return lambda: largest(self, [int(varying * density)])[0]


def _variance(stack: Array) -> Array:
    mean = stack.sum(axis=0) / len(stack)
    return ((stack - mean) ** 2).sum(axis=0) / len(stack)


def equal(weights: Sequence[float], method: str) -> float:
    """The one weight of a method that knows no weights.

    Raises:
        InvalidInput: they differ.
    """
    if any(weight != weights[0] for weight in weights):
        told = ", ".join(f"{weight:g}" for weight in weights)
        raise InvalidInput(
            f"{method} treats all adapters alike, and the weights are {told}. Give equal weights, or take a dialect or "
            "method that has weights: ties:mergekit, ties:peft, della:mergekit, linear."
        )
    return weights[0]


def _as_is(block: Array) -> Array:
    return block


def _trimmed(deltas: Sequence[Rows], how: How) -> list[Kept]:
    return [by_magnitude(each, how.share) for each in deltas]


def _by_rank(how: How) -> list[Kept]:
    spread = 0.1 if how.spread is None else how.spread
    check_spread(how.share, spread / 2)
    return [by_rank(key, how.share, spread) for key in how.keys]


def _by_rank_same_sum(deltas: Sequence[Rows], how: How) -> list[Kept]:
    """As mergekit does it, where nothing is left at density 0 and the spread is 0.15."""
    spread = 0.15 if how.spread is None else how.spread
    if not how.share:
        return [by_magnitude(each, 0.0) for each in deltas]
    check_spread(how.share, spread)
    return [by_rank_same_sum(d, key, how.share, spread) for d, key in zip(deltas, how.keys, strict=True)]


def _column(weights: Sequence[float]) -> Array:
    return np.asarray(weights, dtype=np.float32)[:, None, None]


def _sum(how: How) -> Callable[[Array], Array]:
    scale = how.scale / (total(how.weights) if how.normalise else 1.0)
    factors = np.asarray([weight * scale for weight in how.weights], dtype=np.float32)
    return lambda stack: (beside(stack, factors[None]) @ stack.reshape(len(stack), -1)).reshape(stack.shape[1:])


def total(weights: Sequence[float]) -> float:
    """Σ w_i, to divide by.

    Raises:
        InvalidInput: it is 0.
    """
    found = sum(weights)
    if abs(found) < 1e-8:
        raise InvalidInput("these weights sum to 0, and normalising divides by their sum; compose without it.")
    return found


def _mean(stack: Array, agree: Array) -> Array:
    return narrow((stack * agree).sum(axis=0) / agree.sum(axis=0).clip(1))


def _elected(stack: Array) -> Array:
    """The sign of the sum, entry by entry; a sum of 0 counts as +."""
    return library(stack).where(stack.sum(axis=0) >= 0, 1, -1)


def _peft(how: How) -> Callable[[Array], Array]:
    column, frequency = _column(how.weights), how.election == "frequency"

    def combine(stack: Array) -> Array:
        signs = library(stack).sign(stack)
        return how.scale * _mean(stack * beside(stack, column), signs == _elected(signs if frequency else stack))

    return combine


def _mergekit(how: How, *, normalise: bool) -> Callable[[Array], Array]:
    column = _column(how.weights)
    divide = normalise if how.normalise is None else how.normalise

    def combine(stack: Array) -> Array:
        shares = beside(stack, column)
        weighted = stack * shares
        agree = library(stack).sign(weighted) == _elected(weighted)
        mixed = (weighted * agree).sum(axis=0)
        if divide:
            divisor = (shares * agree).sum(axis=0)
            mixed /= divisor + (divisor == 0)
        return how.scale * mixed

    return combine
