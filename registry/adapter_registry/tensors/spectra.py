"""Two low-rank deltas measured against each other, from their factors alone.

Everything here is a function of singular values and inner products, so it is the same in any orthonormal basis. With
thin factorisations [U₁ U₂] = Q·L and [V₁ V₂] = P·R of the stacked factors, every delta is Q·core·Pᵀ with a small core,
and no matrix of the weight's size is ever made. Q and P are not needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.diff import Alignment, ModuleDiff, Spectrum, State
from adapter_registry.tensors.layers import Pair

Float64 = NDArray[np.float64]

NOTHING = 1e-7
"""A singular value below this share of the largest is no direction of a delta: float32 factors hold no smaller one."""
TRUSTED = 1e-5
"""Relative error of a difference up to which the quick factorisation is used."""
TELLING = 1e-9
"""The same of a delta, so that its rank can be told."""
BLOCK = 1024
"""Rows of float64 that are made at a time: they stay in the processor's cache."""
EPSILON = float(np.finfo(np.float64).eps)
ROUNDING = float(np.finfo(np.float32).eps)
"""Twice the relative error of a float32."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Both deltas, and their difference, in one pair of orthonormal bases.

    Attributes:
        left: factors that write, first and second, in the left basis: (k, r₁) and (k, r₂).
        right: factors that read, scaled, in the right basis, likewise.
        difference: second - first, (k, k').
        error: bound of the Frobenius norm of what rounding did to any of the three.
    """

    left: tuple[Float64, Float64]
    right: tuple[Float64, Float64]
    difference: Float64
    error: float

    def delta(self, side: int) -> Float64:
        """The core of one delta."""
        return np.asarray(self.left[side] @ self.right[side].T)

    @property
    def trusted(self) -> bool:
        """Whether rounding is small beside each of the three, as far as they are not 0."""
        deltas = TELLING * min(norm(self.delta(0)), norm(self.delta(1)))
        return self.error <= min(deltas, TRUSTED * norm(self.difference))


def measured(first: Pair, second: Pair, named: ModuleDiff) -> ModuleDiff:
    """`named` with all that the factors tell of both deltas; equal factors are told apart from equal deltas."""
    zeros = [side for side, pair in enumerate((first, second)) if is_zero(pair)]
    if len(zeros) == 1:
        there = 1 - zeros[0]
        return replace(alone((first, second)[there], named, there), state=State.CHANGED)
    if _equal(first, second):
        one = spectrum_of(_spread(_own(first)))
        return replace(named, state=State.SAME, first=one, second=one, difference=_nothing(one), **_of_equal(one))
    cores = _trusted(first, second)
    return replace(named, **_measures(cores, same=_rounding_explains(cores)))


def _trusted(first: Pair, second: Pair) -> Cores:
    """The quickest cores that can be trusted; failing that, those with the smallest error."""
    ways = (
        [(True, True), (False, True), (False, False)] if first.rank == second.rank else [(True, False), (False, False)]
    )
    tried = []
    for quick, change in ways:
        tried.append(cores_of(first, second, quick=quick, change=change))
        if tried[-1].trusted:
            break
    return min(
        (cores for cores in tried if math.isfinite(cores.error)), key=lambda cores: cores.error, default=tried[-1]
    )


def alone(pair: Pair, named: ModuleDiff, side: int) -> ModuleDiff:
    """`named` for a delta that the other side lacks; the difference is all of it."""
    one = spectrum_of(_spread(_own(pair)))
    norms = (one.norm, 0.0, one.norm) if side == 0 else (0.0, one.norm, one.norm)
    state, sides = (State.REMOVED, (one, None)) if side == 0 else (State.ADDED, (None, one))
    relative = 1.0 if side == 0 and one.norm else None
    return replace(named, state=state, first=sides[0], second=sides[1], difference=one, norms=norms, relative=relative)


def cores_of(first: Pair, second: Pair, *, quick: bool, change: bool) -> Cores:
    """Both deltas in common bases.

    Args:
        first: any.
        second: of the same weight.
        change: take the second, of the same rank, as first and change, U₂ = U₁ + E and V₂ = V₁ + F. Their difference
            E·V₂ + U₁·F loses no digits however small it is; but where factors differ by more than their deltas do
            (U·G and G⁻¹·V), the two terms cancel.
        quick: by Cholesky of the Gram matrix, whose error grows with the condition; else by Householder, 8 times
            slower and as exact as float64 is.
    """
    left, left_error = _factored(first.up, second.up, change, quick)
    right, right_error = _factored(first.down.T, second.down.T, change, quick)
    u, e = left[:, : first.rank], left[:, first.rank :]
    v, f = right[:, : first.rank], right[:, first.rank :]
    p, q = first.scale, second.scale
    error = left_error + right_error
    if math.isinf(error):
        return Cores((u, e), (v, f), u @ v.T, math.inf)
    if not change:
        difference = q * (e @ f.T) - p * (u @ v.T)
        size = abs(q) * norm(e) * norm(f) + abs(p) * norm(u) * norm(v)
        return Cores((u, e), (p * v, q * f), difference, error * size)
    after = v + f
    difference = q * (e @ after.T + u @ f.T) + (q - p) * (u @ v.T)
    size = abs(q) * (norm(e) * (norm(v) + norm(f)) + norm(u) * norm(f)) + abs(q - p) * norm(u) * norm(v)
    return Cores((u, u + e), (p * v, q * after), difference, error * size)


def _factored(first: NDArray[Any], second: NDArray[Any], change: bool, quick: bool) -> tuple[Float64, float]:
    """R of [first second], or of [first second-first], and the relative error of its columns."""
    rank = first.shape[1]
    pieces = _pieces(first, second, change, BLOCK if quick else len(first))
    if not quick:
        return root(next(pieces))
    gram = np.zeros((rank + second.shape[1],) * 2)
    for piece in pieces:
        gram += piece.T @ piece
    return root_of_gram(gram)


def _pieces(first: NDArray[Any], second: NDArray[Any], change: bool, rows: int) -> Iterator[Float64]:
    """The stack in float64 by blocks of rows; a block is overwritten by the next."""
    rank, columns = first.shape[1], first.shape[1] + second.shape[1]
    # Laid out as the factors are: `up` by rows, `down`, which comes transposed, by columns.
    stack = np.empty((rows, columns), order="C" if first.flags.c_contiguous else "F")
    for start in range(0, len(first), rows):
        one, other = first[start : start + rows], second[start : start + rows]
        piece = stack[: len(one)]
        piece[:, :rank] = one
        if change:
            np.subtract(other, one, out=piece[:, rank:], dtype=np.float64)
        else:
            piece[:, rank:] = other
        yield piece


def root(stack: Float64) -> tuple[Float64, float]:
    """R with RᵀR = XᵀX, upper triangular, and the relative error of its columns."""
    return np.asarray(np.linalg.qr(stack, mode="r")), 8 * math.sqrt(stack.shape[1]) * EPSILON


def root_of_gram(gram: Float64) -> tuple[Float64, float]:
    """The same from XᵀX; upper triangular but for columns of zeros. Its error is infinite where it cannot be made."""
    sizes = np.sqrt(np.diagonal(gram))
    there = sizes > 0
    found, size = np.zeros_like(gram), sizes[there]
    if not np.isfinite(sizes).all():
        return found, math.inf
    try:
        # Columns of unit length: how factors share the size of their product is nobody's choice.
        lower = np.linalg.cholesky(gram[np.ix_(there, there)] / np.outer(size, size))
        grown = norm(np.linalg.inv(lower))
    except np.linalg.LinAlgError:
        return found, math.inf
    found[np.ix_(there, there)] = lower.T * size
    return found, 8 * len(gram) * EPSILON * grown


def spectrum_of(core: Float64) -> Spectrum:
    """The singular values of a core, and what they say."""
    return _spectrum(np.asarray(np.linalg.svd(core, compute_uv=False)))


def _spectrum(values: Float64) -> Spectrum:
    largest, total = (float(values[0]) if len(values) else 0.0), norm(values)
    if not largest:
        return Spectrum(tuple(values.tolist()), 0.0, 0.0, 0, 0.0, 0.0, 0.0)
    return Spectrum(
        values=tuple(values.tolist()),
        norm=total,
        spectral=largest,
        rank=int(np.count_nonzero(values > NOTHING * largest)),
        stable_rank=(total / largest) ** 2,
        effective_rank=_exp_entropy(values / values.sum()),
        entropy_rank=_exp_entropy((values / total) ** 2),
    )


def _exp_entropy(shares: Float64) -> float:
    there = shares[shares > 0]
    return float(np.exp(-np.sum(there * np.log(there))))


def _measures(cores: Cores, *, same: bool) -> dict[str, Any]:
    sides = [_directions(cores, side) for side in (0, 1)]
    first, second = (side.spectrum for side in sides)
    difference = spectrum_of(cores.difference)
    found: dict[str, Any] = {
        "state": State.SAME_DELTA if same else State.CHANGED,
        "first": first,
        "second": second,
        "difference": difference,
        "norms": (first.norm, second.norm, difference.norm),
        "relative": difference.norm / first.norm if first.norm else None,
    }
    if not first.norm or not second.norm:
        return found
    one, other = cores.delta(0), cores.delta(1)
    parts = math.hypot(first.norm, second.norm)
    met = math.hypot(norm(sides[0].left.T @ other @ sides[0].right), norm(sides[1].left.T @ one @ sides[1].right))
    return {
        **found,
        "cosine": _cosine(first.norm, second.norm, difference.norm),
        "left": _alignment(sides[0].left, sides[1].left, one, other),
        "right": _alignment(sides[0].right, sides[1].right, one.T, other.T),
        "interference": met / parts,
        "sum_ratio": norm(one + other) / parts,
    }


def _cosine(first: float, second: float, difference: float) -> float:
    """From the norms: exact near 1, where an inner product would tell nothing."""
    return max(-1.0, 1 - (difference - abs(second - first)) * (difference + abs(second - first)) / (2 * first * second))


@dataclass(frozen=True, slots=True)
class _Directions:
    """A delta's spectrum and the spaces it writes and reads, as orthonormal columns in the common bases."""

    spectrum: Spectrum
    left: Float64
    right: Float64


def _directions(cores: Cores, side: int) -> _Directions:
    left, small_left = np.linalg.qr(cores.left[side])
    right, small_right = np.linalg.qr(cores.right[side])
    u, values, v = np.linalg.svd(small_left @ small_right.T, full_matrices=False)
    spectrum = _spectrum(values)
    return _Directions(spectrum, left @ u[:, : spectrum.rank], right @ v[: spectrum.rank].T)


def _alignment(first: Float64, second: Float64, one: Float64, other: Float64) -> Alignment:
    cosines = np.clip(np.linalg.svd(first.T @ second, compute_uv=False), 0, 1)
    return Alignment(
        degrees=tuple(np.degrees(np.arccos(cosines)).tolist()),
        overlap=float(np.mean(cosines**2)),
        first_in_second=min(1.0, (norm(second.T @ one) / norm(one)) ** 2),
        second_in_first=min(1.0, (norm(first.T @ other) / norm(other)) ** 2),
    )


def _of_equal(one: Spectrum) -> dict[str, Any]:
    """What the measures of a delta against itself are."""
    norms = (one.norm, one.norm, 0.0)
    if not one.norm:
        return {"norms": norms}
    itself = Alignment((0.0,) * one.rank, 1.0, 1.0, 1.0)
    return {
        "norms": norms,
        "relative": 0.0,
        "cosine": 1.0,
        "left": itself,
        "right": itself,
        "interference": 1.0,
        "sum_ratio": math.sqrt(2),
    }


def is_zero(pair: Pair) -> bool:
    """Whether it adds nothing, as a freshly made adapter does."""
    # A row tells nearly always, and quickly.
    return not (pair.scale and all(side[:1].any() or side.any() for side in (pair.up, pair.down)))


def _equal(first: Pair, second: Pair) -> bool:
    same_form = first.rank == second.rank and first.shape == second.shape and first.scale == second.scale
    return same_form and np.array_equal(first.up, second.up) and np.array_equal(first.down, second.down)


def _nothing(like: Spectrum) -> Spectrum:
    return _spectrum(np.zeros(len(like.values)))


def _own(pair: Pair) -> tuple[Float64, Float64]:
    """Both factors of one delta in bases of their own, the scale in the right one."""
    sides = []
    for factor in (pair.up, pair.down.T):
        none = factor[:, :0]
        found, error = _factored(factor, none, False, True)
        sides.append(found if error < TELLING else _factored(factor, none, False, False)[0])
    return sides[0], pair.scale * sides[1]


def _spread(sides: tuple[Float64, Float64]) -> Float64:
    return np.asarray(sides[0] @ sides[1].T)


def _rounding_explains(cores: Cores) -> bool:
    """Whether storing the factors in float32 makes as large a difference as was found."""
    sizes = [np.linalg.norm(cores.left[side], axis=0) * np.linalg.norm(cores.right[side], axis=0) for side in (0, 1)]
    return norm(cores.difference) <= ROUNDING * math.hypot(norm(sizes[0]), norm(sizes[1]))


def norm(values: NDArray[Any]) -> float:
    """Frobenius."""
    return float(np.linalg.norm(values))
