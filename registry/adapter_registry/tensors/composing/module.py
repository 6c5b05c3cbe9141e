"""One module of several adapters composed: its deltas, the rank it gets, its factors, and the error that they cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adapter_registry.domain.errors import InvalidInput, Unsupported
from adapter_registry.tensors.arrays import Float32, as_float32, as_stored
from adapter_registry.tensors.composing.methods import Method
from adapter_registry.tensors.composing.options import How
from adapter_registry.tensors.composing.rows import Moved, PairRows, Rows, blocks, norm_of
from adapter_registry.tensors.devices import CPU, Array, Device, beside, wide
from adapter_registry.tensors.layers import Pair
from adapter_registry.tensors.lowrank import (
    Factored,
    Float64,
    Span,
    distance,
    rank_within,
    subspace_svd,
    tail,
    whole_svd,
)

CALLED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
FULL = 512
"""Up to this smaller side, a dense result is decomposed whole: that is quicker than iterating."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rank and type the factors get.

    Attributes:
        rank: for every module; None is the largest that the module has in any of the adapters.
        tolerance: take the smallest rank whose relative error is at most this, instead; None to take `rank`.
        one_rank: with a tolerance, give every module the largest rank that any of them needs.
        dtype: `F32`, `F16` or `BF16`.
    """

    rank: int | None = None
    tolerance: float | None = None
    one_rank: bool = False
    dtype: str = "F32"


@dataclass(frozen=True, slots=True)
class Fitted:
    """One matrix as factors of the rank that was wanted.

    Attributes:
        up: (rows, rank), as stored.
        down: (rank, columns), as stored.
        norm: of the exact composed delta.
        error: Frobenius norm of what the stored factors differ from it.
    """

    up: Float32
    down: Float32
    norm: float
    error: float

    @property
    def rank(self) -> int:
        """Columns of `up`."""
        return int(self.up.shape[1])

    @property
    def finite(self) -> bool:
        """Whether everything in it is a number, and so is the delta in float32, in which PEFT makes it."""
        small = self.norm < float(np.finfo(np.float32).max) and self.error < np.inf
        return bool(small and np.isfinite(self.up).all() and np.isfinite(self.down).all())

    def padded(self, rank: int) -> Fitted:
        """The same delta with zeros up to `rank`."""
        more = rank - self.rank
        if more <= 0:
            return self
        return replace(self, up=np.pad(self.up, ((0, 0), (0, more))), down=np.pad(self.down, ((0, more), (0, 0))))


def key_of(seed: int, *names: str) -> int:
    """A seed for one tensor: the same whatever else is composed, on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()[:8], "big")


def stacked(pairs: Sequence[Pair], how: How) -> Fitted:
    """λ · Σ w_i · D_i by stacking ranks, each pair balanced in norm: nothing is left out."""
    ups, downs = [], []
    for pair, weight in zip(pairs, how.weights, strict=True):
        factor = how.scale * weight * pair.scale
        wide, long = float(np.linalg.norm(pair.up)), float(np.linalg.norm(pair.down))
        if factor and wide and long:
            share = np.sqrt(abs(factor) * long / wide)
            ups.append(pair.up * np.float32(share * np.sign(factor)))
            downs.append(pair.down * np.float32(abs(factor) / share))
    if not ups:
        return _nothing(pairs[0].shape)
    up, down = np.concatenate(ups, axis=1), np.concatenate(downs, axis=0)
    pair = Pair(up, down, 1.0)
    return Fitted(up, down, float(np.linalg.norm(Span.of([pair]).cores[0])), 0.0)


def composed(pairs: Sequence[Pair], method: Method, how: How, wanted: Wanted, *, device: Device = CPU) -> Fitted:
    """The composed delta of several pairs of factors, refit; what looks at entries does so on the device."""
    if method.whole and wanted.rank is None and wanted.tolerance is None:
        return rounded(stacked(pairs, how), wanted.dtype)
    if method.core is not None:
        return fit_core(method.core(Span.of(pairs), how), wanted)
    assert method.dense is not None  # noqa: S101  every method is one or the other

    return fit_dense(method.dense([PairRows(pair, device) for pair in pairs], how), wanted, key=how.keys[0])


def composed_rows(
    deltas: Sequence[Rows], method: Method, how: How, wanted: Wanted, *, name: str, device: Device = CPU
) -> Fitted:
    """The composed delta of matrices of full rank, refit; what looks at entries does so on the device.

    Raises:
        Unsupported: the method needs factors.
    """
    if method.dense is None:
        raise Unsupported(
            f"{name}: a DoRA's delta has full rank, and this method works on the factors of deltas. Take linear, svd "
            "or a method that works on entries (ties, dare_linear, ...). Nothing was written."
        )
    there = deltas if device == CPU else [Moved(each, device) for each in deltas]
    return fit_dense(method.dense(there, how), wanted, key=how.keys[0])


def sound(name: str, dtype: str, fit: Callable[[], list[Fitted]]) -> list[Fitted]:
    """What `fit` makes, if it is numbers.

    Raises:
        InvalidInput: it is too large for the type.
    """
    made: list[Fitted] = []
    with suppress(np.linalg.LinAlgError), np.errstate(over="ignore", invalid="ignore"):
        made = fit()
    if not made or not all(each.finite for each in made):
        raise InvalidInput(
            f"{name}: this delta has numbers too large for {CALLED[dtype]}; nothing was written. Lower the weights or "
            "--lambda, or take a type of a larger range."
        )
    return made


def fit_core(exact: Factored, wanted: Wanted) -> Fitted:
    """The best factors of a delta whose singular values are known, balanced; the error follows from those values."""
    if wanted.tolerance is None:
        return _core_of(exact, wanted.rank or len(exact.values), wanted)
    return _within(exact.values, wanted, lambda rank: _core_of(exact, rank, wanted))


def _core_of(exact: Factored, rank: int, wanted: Wanted) -> Fitted:
    up, down = exact.truncated(rank)
    fitted = _padded_fit(up, down, norm=exact.norm, error=exact.error(rank) * exact.norm, wanted=wanted)
    if wanted.dtype == "F32" or not exact.norm:
        return fitted
    whole_up, whole_down = exact.truncated(len(exact.values))
    whole = Pair(whole_up.astype(np.float32), whole_down.astype(np.float32), 1.0)
    # Rounding to half precision is an error of its own, which the singular values do not know.
    return replace(fitted, error=distance(Pair(fitted.up, fitted.down, 1.0), whole))


def fit_dense(exact: Array, wanted: Wanted, *, key: int) -> Fitted:
    """Factors of a matrix that is there whole, by subspace iteration; the error is measured on what is stored."""
    norm = norm_of(exact)
    if not norm:
        return _nothing((exact.shape[0], exact.shape[1])).padded(wanted.rank or 1)
    u, values, v = _decomposed(exact, wanted, norm, key)
    root = np.sqrt(values)

    def of(rank: int) -> Fitted:
        up, down = u[:, :rank] * root[:rank], (v[:, :rank] * root[:rank]).T
        fitted = _padded_fit(up, down, norm=norm, error=0.0, wanted=wanted)
        return replace(fitted, error=_measured(exact, fitted))

    if wanted.tolerance is None:
        return of(len(values))
    rest = np.sqrt(max(norm**2 - float(np.sum(values**2)), 0.0))
    return _within(np.append(values, rest), wanted, of, most=len(values))


def _within(values: Float64, wanted: Wanted, of: Callable[[int], Fitted], *, most: int | None = None) -> Fitted:
    """The smallest rank whose factors keep the tolerance as they are stored: rounding them is an error of its own.

    Raises:
        InvalidInput: no rank keeps it in that type.
    """
    tolerance, most = wanted.tolerance or 0.0, len(values) if most is None else most
    rank = min(rank_within(values, tolerance), most)
    while True:
        fitted = of(rank)
        if fitted.error <= tolerance * fitted.norm:
            return fitted
        if rank >= most:
            raise InvalidInput(
                f"factors in {CALLED[wanted.dtype]} keep no error below {fitted.error / fitted.norm:.2g}, whatever "
                f"their rank, and --tolerance is {tolerance:g}; nothing was written. Allow more, or take float32."
            )
        rounding = (fitted.error / fitted.norm) ** 2 - tail(values, rank) ** 2
        left = np.sqrt(max(tolerance**2 - max(rounding, 0.0), 0.0))
        rank = min(max(rank + 1, rank_within(values, left)), most)


def _decomposed(exact: Array, wanted: Wanted, norm: float, key: int) -> tuple[Float64, Float64, Float64]:
    side = min(exact.shape)
    rank = wanted.rank or side
    if wanted.tolerance is None and (side > FULL or rank < side):
        return subspace_svd(exact, rank, key=key)
    rank = 32
    while side > FULL and rank < side // 4:
        u, values, v = subspace_svd(exact, rank, key=key)
        if _left(values, norm) <= (wanted.tolerance or 0.0):
            return u, values, v
        rank *= 2
    return whole_svd(exact)


def _left(values: Float64, norm: float) -> float:
    return float(np.sqrt(max(1 - float(np.sum(values**2)) / norm**2, 0.0)))


def _measured(exact: Array, fitted: Fitted) -> float:
    squares, up, down = 0.0, beside(exact, fitted.up), wide(beside(exact, fitted.down))
    for start, stop in blocks(exact):
        rest = wide(exact[start:stop]) - wide(up[start:stop]) @ down
        squares += float((rest**2).sum())
    return float(np.sqrt(squares))


def _padded_fit(up: Float64, down: Float64, *, norm: float, error: float, wanted: Wanted) -> Fitted:
    least = wanted.rank or 1 if wanted.tolerance is None else 1
    fitted = Fitted(up.astype(np.float32), np.ascontiguousarray(down, dtype=np.float32), norm, error)
    return _stored_as(fitted, wanted.dtype).padded(least)


def rounded(fitted: Fitted, dtype: str) -> Fitted:
    """The factors in a stored type, with the error that this makes."""
    if dtype == "F32":
        return fitted
    stored = _stored_as(fitted, dtype)
    error = distance(Pair(fitted.up, fitted.down, 1.0), Pair(stored.up, stored.down, 1.0))
    return replace(stored, error=error)


def _stored_as(fitted: Fitted, dtype: str) -> Fitted:
    up, down = (as_float32(as_stored(each, dtype), dtype) for each in (fitted.up, fitted.down))
    return replace(fitted, up=up, down=down)


def _nothing(shape: tuple[int, int]) -> Fitted:
    zeros: NDArray[np.float32] = np.zeros((shape[0], 1), dtype=np.float32)
    return Fitted(zeros, np.zeros((1, shape[1]), dtype=np.float32), 0.0, 0.0)
