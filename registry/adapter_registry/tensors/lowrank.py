"""Sums of low-rank deltas worked out in the small space that their factors span, never as rows x columns.

With `left` and `right` orthonormal bases of everything that the factors write and read, each delta is
`left · core · right'` with a core of at most R x R, R the sum of the ranks. What commutes with changes of basis on both
sides (sums, norms, inner products, singular values) is exact on the cores. All arithmetic here is float64.

Source: the same bases as Core Space merging, arXiv:2509.17786 §3, made independent of how a delta is written as a
product (see `Span.of`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapter_registry.tensors.devices import Array, beside, host, library, narrow, wide
from adapter_registry.tensors.layers import Pair

Float64 = NDArray[np.float64]

WORST_CONDITION = 1e-7
"""Smallest relative eigenvalue of a Gram matrix that is trusted: below it Householder's QR is used."""
NOTHING = 1e-12
"""Singular values below this share of the largest are rounding, not signal."""


@dataclass(frozen=True, slots=True)
class Basis:
    """An orthonormal basis of the columns of a tall matrix X: the columns of `tall @ lift`; X = basis · root.

    Attributes:
        tall: (rows, n).
        lift: (n, n); with it the basis is never formed unless it is asked for.
        root: (n, columns of X).
    """

    tall: Float64
    lift: Float64
    root: Float64

    def raised(self, inner: Float64) -> Float64:
        """Basis · inner, (rows, columns of inner)."""
        return self.tall @ (self.lift @ inner)


def basis(tall: Float64) -> Basis:
    """An orthonormal basis of the columns of a (rows, n) matrix.

    The Gram matrix of its unit columns is a fifth of the work of a QR and loses half of the digits; where it is too
    badly conditioned for that (rounding of the basis above about 1e-9), or n exceeds the rows, the QR is taken.
    """
    rows, n = tall.shape
    lengths = np.sqrt(np.einsum("ij,ij->j", tall, tall))
    scale = np.where(lengths > 0, lengths, 1.0)
    if n and n <= rows and lengths.all():
        gram = (tall.T @ tall) / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(gram)
        if values[0] > WORST_CONDITION * values[-1]:
            half = np.sqrt(values)
            return Basis(tall, vectors / half / scale[:, None], (vectors * half).T * scale)
    q, r = np.linalg.qr(tall / scale)
    return Basis(q, np.eye(q.shape[1]), r * scale)


@dataclass(frozen=True, slots=True)
class Span:
    """What several deltas of one shape write and read, and each delta in it.

    Attributes:
        left: basis of what they write.
        right: basis of what they read.
        cores: D_i = left · cores[i] · right', in order.
    """

    left: Basis
    right: Basis
    cores: tuple[Float64, ...]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Span:
        """The span of `pairs`. Cores depend on the basis; what is made of them has to undo that, as `lifted` does."""
        ups = np.concatenate([pair.up for pair in pairs], axis=1, dtype=np.float64)
        downs = np.concatenate([pair.down for pair in pairs], axis=0, dtype=np.float64)
        left, right = basis(ups), basis(downs.T)
        ends = np.cumsum([pair.rank for pair in pairs])
        cores = tuple(
            pair.scale * (left.root[:, end - pair.rank : end] @ right.root[:, end - pair.rank : end].T)
            for pair, end in zip(pairs, ends, strict=True)
        )
        return cls(left, right, cores)

    def lifted(self, core: Float64) -> Factored:
        """Left · core · right' by its singular values."""
        u, values, v = np.linalg.svd(core, full_matrices=False)
        keep = significant(values)
        return Factored(self.left, self.right, u[:, :keep], values[:keep], v[:keep])

    def inner(self) -> Float64:
        """(n, n): the inner products of the deltas."""
        flat = np.stack([core.ravel() for core in self.cores])
        return np.asarray(flat @ flat.T)


def significant(values: Float64) -> int:
    """How many of descending singular values are more than rounding."""
    return int(np.count_nonzero(values > NOTHING * values[0])) if values.size and values[0] > 0 else 0


@dataclass(frozen=True, slots=True)
class Factored:
    """A delta by its singular values: `left · u · diag(values) · v · right'`."""

    left: Basis
    right: Basis
    u: Float64
    values: Float64
    v: Float64

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        return float(np.sqrt(np.sum(self.values**2)))

    def error(self, rank: int) -> float:
        """Relative Frobenius error of the best approximation of this rank (Eckart-Young); 0 of nothing."""
        return tail(self.values, rank)

    def rank_within(self, tolerance: float) -> int:
        """The smallest rank, at least 1, whose error is at most `tolerance`."""
        return rank_within(self.values, tolerance)

    def truncated(self, rank: int) -> tuple[Float64, Float64]:
        """(up, down) of the best approximation, balanced: U·√S (rows, rank) and √S·V' (rank, columns)."""
        root = np.sqrt(self.values[:rank])
        up = self.left.raised(self.u[:, :rank] * root)
        down = self.right.raised(self.v[:rank].T * root).T
        return up, down


def tail(values: Float64, rank: int) -> float:
    """√(sum of squares beyond `rank` / sum of all squares) of descending singular values."""
    total = float(np.sum(values**2))
    return math.sqrt(float(np.sum(values[rank:] ** 2)) / total) if total else 0.0


def rank_within(values: Float64, tolerance: float) -> int:
    """The smallest rank, at least 1, that leaves at most `tolerance` of descending singular values' norm."""
    squares = values**2
    beyond = np.concatenate([np.cumsum(squares[::-1])[::-1], [0.0]])
    return max(1, int(np.argmax(beyond <= tolerance**2 * beyond[0])))


def distance(pair: Pair, other: Pair) -> float:
    """Frobenius norm of the difference of two deltas, from their factors."""
    opposite = Pair(other.up, other.down, -other.scale)
    one, two = Span.of([pair, opposite]).cores
    return float(np.linalg.norm(one + two))


def subspace_svd(matrix: Array, rank: int, *, key: int, iterations: int = 8) -> tuple[Float64, Float64, Float64]:
    """(u, values, v) of the leading `rank` singular directions: matrix ~ u · diag(values) · v'. By subspace iteration.

    Iterates on twice as many columns with a QR between, in float32; with 8 iterations the residual is within 1e-4 of
    the optimal one where the spectrum is flat, and closer where it falls.

    Args:
        matrix: (rows, columns) float32; on a device, the work is done there.
        rank: how many; cut to the smaller side.
        key: seed of the first columns.
        iterations: passes over the matrix and its transpose.

    Source: Halko, Martinsson, Tropp, arXiv:0909.4061, algorithm 4.4.
    """
    rows, columns = matrix.shape
    width, linalg = 2 * rank + 8, library(matrix).linalg
    if width >= min(rows, columns):
        left, values, right = whole_svd(matrix)
        return left[:, :rank], values[:rank], right[:, :rank]
    found = beside(matrix, np.random.default_rng(key).standard_normal((columns, width), dtype=np.float32))
    for _ in range(iterations):
        found, _ = linalg.qr(matrix.T @ linalg.qr(matrix @ found)[0])
    left, _ = linalg.qr(wide(matrix @ found))
    v, values, u = linalg.svd(wide(matrix.T @ narrow(left)), full_matrices=False)
    return host(left @ u[:rank].T), host(values[:rank]), host(v[:, :rank])


def whole_svd(matrix: Array) -> tuple[Float64, Float64, Float64]:
    """(u, values, v) of all singular directions, in float64; on a device where the matrix is there."""
    u, values, v = library(matrix).linalg.svd(wide(matrix), full_matrices=False)
    return host(u), host(values), host(v).T
