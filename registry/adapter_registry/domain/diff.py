"""What is known of the difference of two adapters: modules, tensors, files, config, scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt

from adapter_registry.domain.figures import shown

LORA_FACTORS = ("lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B")
FACTORS = (
    *LORA_FACTORS,
    *("lora_A", "lora_B", "lora_E"),
    *("vera_A", "vera_B", "vera_lambda_b", "vera_lambda_d"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
)
"""Ends of the names of tensors that mean nothing alone: their product is measured, per module, where there are any."""


class State(StrEnum):
    """How one thing of the second side compares with that of the first."""

    SAME = "same"
    SAME_DELTA = "same-delta"
    CHANGED = "changed"
    ADDED = "added"
    REMOVED = "removed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of a delta, and what they say.

    Attributes:
        values: descending; as many as the factors can have.
        norm: Frobenius norm, √Σσ².
        spectral: the largest σ.
        rank: how many σ exceed 1e-7 of the largest.
        stable_rank: Σσ² / σ₁²; 0 of a zero delta.
        effective_rank: exp of the entropy of σ / Σσ; Roy and Vetterli, EUSIPCO 2007.
        entropy_rank: exp of the entropy of σ² / Σσ², the shares of energy.
    """

    values: tuple[float, ...]
    norm: float
    spectral: float
    rank: int
    stable_rank: float
    effective_rank: float
    entropy_rank: float


@dataclass(frozen=True, slots=True)
class Alignment:
    """How two deltas' spaces lie to each other, on one side: rows (what they write) or columns (what they read).

    Attributes:
        degrees: principal angles, ascending; below 1e-6 degrees they are 0 but for rounding.
        overlap: mean of cos² over them: 1 when the smaller space lies in the larger.
        first_in_second: share of the first delta's energy that lies in the second's space.
        second_in_first: the reverse.
    """

    degrees: tuple[float, ...]
    overlap: float
    first_in_second: float
    second_in_first: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share and its standard error; 0 where it was counted over every element."""

    value: float
    stderr: float = 0.0


@dataclass(frozen=True, slots=True)
class Elements:
    """What holds of single elements, which factors do not tell.

    Attributes:
        sign_conflict: share of the elements whose signs in the two deltas are opposed.
        top_overlap: of the `top_share` largest elements by magnitude of each delta, the share that both have.
        top_share: which share counts as largest.
        largest: largest magnitude of an element of the difference, among the rows that were looked at.
        rows: how many rows were looked at; all of them when `exact`.
        exact: whether every element was looked at.
    """

    sign_conflict: Estimate
    top_overlap: Estimate
    top_share: float
    largest: float
    rows: int
    exact: bool


@dataclass(frozen=True, slots=True)
class AgainstBase:
    """A delta D beside the weight W that it is added to.

    Attributes:
        relative: |D| / |W|, Frobenius.
        intruders: how many of the `top` strongest left singular vectors of W + D resemble none of W's `compared`
            strongest (|cosine| below `threshold`); None when it was not asked for. Source: arXiv:2410.21228.
        similarities: for each of the `top`, the largest |cosine|.
        top: how many vectors of W + D.
        compared: how many of W.
        threshold: unitless.
    """

    relative: float
    intruders: int | None = None
    similarities: tuple[float, ...] = ()
    top: int = 0
    compared: int = 0
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class ModuleDiff:
    """One adapted matrix.

    Attributes:
        name: live path of the module or parameter, with `[e]` for one matrix of a stack of experts.
        layer: number of the layer; None outside of any.
        kind: last part of the name, `q_proj`.
        shape: of the weight as the base stores it.
        state: of the delta.
        rank: of the factors, first and second side; 0 where it is absent.
        scale: what multiplies the product of the factors, likewise.
        first, second, difference: spectra; None where absent, or where the delta is no product of factors.
        norms: Frobenius norms of first, second and difference; 0 where absent.
        relative: |second - first| / |first|; None when first is absent or 0.
        cosine: of the two deltas; None when one is absent or 0.
        left, right: of the spaces that the deltas write and read; None as `cosine`.
        interference: how much of the deltas meets in each other's spaces, √(|P₁D₂Q₁|² + |P₂D₁Q₂|²) / √(|D₁|² + |D₂|²)
            with projections P, Q on left and right spaces: 0 when a sum keeps them apart, 1 when they share
            everything.
        sum_ratio: |D₁ + D₂| / √(|D₁|² + |D₂|²): 1 when orthogonal, √2 when equal, 0 when opposed.
        elements: None unless it was looked at.
        first_base, second_base: beside the base's weight, where its bytes were at hand.
        note: what could not be told, and why.
    """

    name: str
    layer: int | None
    kind: str
    shape: tuple[int, ...]
    state: State
    rank: tuple[int, int]
    scale: tuple[float, float]
    first: Spectrum | None = None
    second: Spectrum | None = None
    difference: Spectrum | None = None
    norms: tuple[float, float, float] = (0.0, 0.0, 0.0)
    relative: float | None = None
    cosine: float | None = None
    left: Alignment | None = None
    right: Alignment | None = None
    interference: float | None = None
    sum_ratio: float | None = None
    elements: Elements | None = None
    first_base: AgainstBase | None = None
    second_base: AgainstBase | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """One tensor of the weight files.

    Attributes:
        name: as in the file.
        state: `changed` also when only shape or type differ.
        shapes, dtypes: first and second side; None where absent.
        relative: |second - first| / |first| where shapes agree and values were read; else None.
    """

    name: str
    state: State
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    dtypes: tuple[str | None, str | None]
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class FileDiff:
    """One file; sizes in bytes, None where absent."""

    path: str
    state: State
    sizes: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class FieldDiff:
    """One field of the config that differs after both were brought into one form.

    Attributes:
        field: PEFT's name.
        first, second: as JSON text.
        matters: `weights` when it changes what the weights do, `training` when it only says how they were trained,
            `record` when it only records something.
        note: more about it, or empty.
    """

    field: str
    first: str
    second: str
    matters: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ScoreDiff:
    """One metric as measured on both sides.

    Attributes:
        metric: as gates name it.
        first, second: the newest values; None where never measured.
        comparable: whether both were measured in the same setting.
        gain: second against first, positive is better; None when not comparable or without direction.
        low, high: bounds of `gain`, each one-sided at 95 %; None without standard errors.
    """

    metric: str
    first: float | None
    second: float | None
    comparable: bool
    gain: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Modules of one kind, or of one layer, together.

    Attributes:
        name: `q_proj`, or the number of a layer.
        modules, changed: how many there are, and how many differ.
        norms: of first, second and difference: √ of the sums of squares.
        energy: share of the difference's squared norm over all modules.
        relative: |difference| / |first|; None when first is 0.
    """

    name: str
    modules: int
    changed: int
    norms: tuple[float, float, float]
    energy: float
    relative: float | None


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: what it was called, its digest when it is a Version, its method, and what it is locked to."""

    name: str
    digest: str | None
    method: str
    base: str
    base_digest: str


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """The measured difference of two adapters.

    Attributes:
        format: `adapters.diff/1`.
        first, second: the sides.
        verdict: `identical`, `same-delta` (other bytes, the same function of the base), `changed` or `unknown`.
        summary: the verdict in a sentence.
        relative: |second - first| / |first| over all modules; None when that is not defined.
        norms: of first, second, difference over all modules.
        cosine: over all modules; None when a side is 0.
        config, files, tensors, modules, kinds, layers, scores: the parts; files, tensors and modules hold all, also
            the equal ones.
        notes: what was not compared, or is to be known first.
    """

    format: str
    first: Side
    second: Side
    verdict: str
    summary: str
    relative: float | None
    norms: tuple[float, float, float]
    cosine: float | None
    config: tuple[FieldDiff, ...]
    files: tuple[FileDiff, ...]
    tensors: tuple[TensorDiff, ...]
    modules: tuple[ModuleDiff, ...]
    kinds: tuple[Group, ...]
    layers: tuple[Group, ...]
    scores: tuple[ScoreDiff, ...]
    notes: tuple[str, ...]


def groups(modules: Sequence[ModuleDiff], names: Sequence[str]) -> tuple[Group, ...]:
    """The modules together by their names in `names`, in the order in which those appear first."""
    total = sum(module.norms[2] ** 2 for module in modules)
    gathered: dict[str, list[ModuleDiff]] = {}
    for module, name in zip(modules, names, strict=True):
        gathered.setdefault(name, []).append(module)
    return tuple(_group(name, members, total) for name, members in gathered.items())


def _group(name: str, members: Sequence[ModuleDiff], total: float) -> Group:
    norms = norms_of(members)
    energy = norms[2] ** 2 / total if total else 0.0
    changed = sum(module.state not in (State.SAME, State.SAME_DELTA) for module in members)
    return Group(name, len(members), changed, norms, energy, norms[2] / norms[0] if norms[0] else None)


def norms_of(modules: Iterable[ModuleDiff]) -> tuple[float, float, float]:
    """Norms of first, second and difference over several modules together."""
    sums = [0.0, 0.0, 0.0]
    for module in modules:
        for i, norm in enumerate(module.norms):
            sums[i] += norm**2
    return sqrt(sums[0]), sqrt(sums[1]), sqrt(sums[2])


def cosine_of(modules: Sequence[ModuleDiff]) -> float | None:
    """Cosine of the two adapters' deltas over all modules as one vector; an absent module is zero."""
    first, second, _ = norms_of(modules)
    if not first or not second:
        return None
    inner = sum((module.cosine or 0.0) * module.norms[0] * module.norms[1] for module in modules)
    return inner / (first * second)


def percent(share: float | None) -> str:
    """`12 %`, `0.0001 %`; `-` for None."""
    return "-" if share is None else f"{shown(100 * share, digits=3)} %"
