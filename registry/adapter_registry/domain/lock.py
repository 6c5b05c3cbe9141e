"""The Lock: which exact Base a Version was made against, and how another checkpoint compares with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from adapter_registry.domain.base import Base, Tensor, files_root
from adapter_registry.domain.digest import Digest, short

LISTED_DIFFERENCES = 20
"""How many differing tensors a verdict names one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The pins of a Version.

    Attributes:
        base: digest of the Base it was trained on.
    """

    base: Digest


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Somebody's declaration that `other` may stand in for `base`, e.g. a quantised copy of it.

    Attributes:
        base: digest of the Base that adapters are locked to.
        other: digest of the stand-in.
        because: the reason given.
        declared_by: who declared it.
        declared_at: when, ISO 8601 in UTC.
    """

    base: Digest
    other: Digest
    because: str
    declared_by: str
    declared_at: str


class Level(StrEnum):
    """How well a checkpoint fits a Lock, best first."""

    EXACT = "exact"
    EQUIVALENT = "equivalent"
    STRUCTURAL = "structural"
    INCOMPATIBLE = "incompatible"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a checkpoint differs from the locked Base."""

    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checking a Lock against a checkpoint says.

    Attributes:
        level: `exact` (same files), `equivalent` (same tensors in other files, or a declared stand-in),
            `structural` (same names and shapes, other or unknown bytes), `incompatible`.
        differences: every difference found, the telling ones first.
        notes: what was not compared, or who declared an equivalence.
    """

    level: Level
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether an adapter with this lock may be loaded onto that checkpoint."""
        return self.level in (Level.EXACT, Level.EQUIVALENT)

    def __str__(self) -> str:
        if self.level is Level.STRUCTURAL:
            return "structural: the same names and shapes, but not the same weights"
        return str(self.level)


def compare(locked: Base, found: Base, equivalences: tuple[Equivalence, ...] = ()) -> Verdict:
    """How `found` fits an adapter that is locked to `locked`."""
    for declared in equivalences:
        if declared.base == locked.digest and declared.other == found.digest:
            note = f"declared equivalent by {declared.declared_by} on {declared.declared_at[:10]}: {declared.because}"
            return Verdict(Level.EQUIVALENT, notes=(note,))
    tokenizer = tuple(_tokenizer_differences(locked, found))
    notes = tuple(_notes(locked, found))
    weights = _same_weights(locked, found)
    if weights is not None and not tokenizer:
        return Verdict(weights, notes=notes)
    if weights is not None:
        return Verdict(Level.STRUCTURAL, tokenizer, notes)
    tables = tuple(_table_differences(locked.tensors, found.tensors))
    if tables:
        return Verdict(Level.INCOMPATIBLE, _facts(locked, found) + tables + tokenizer, notes)
    return Verdict(Level.STRUCTURAL, tuple(_byte_differences(locked, found)) + tokenizer, notes)


def _same_weights(locked: Base, found: Base) -> Level | None:
    if files_root(locked.files) == files_root(found.files):
        return Level.EXACT
    if locked.root is not None and locked.root == found.root:
        return Level.EQUIVALENT
    return None


def _tokenizer_differences(locked: Base, found: Base) -> Iterator[Difference]:
    if locked.tokenizer and found.tokenizer and locked.tokenizer != found.tokenizer:
        yield Difference("tokenizer vocabulary", short(locked.tokenizer), short(found.tokenizer))


def _notes(locked: Base, found: Base) -> Iterator[str]:
    if bool(locked.tokenizer) != bool(found.tokenizer):
        yield "the tokenizer was not compared: only one side has one"
    if locked.config and found.config and locked.config != found.config:
        yield "config.json differs in a field that changes what the model computes (e.g. rope scaling, norm epsilon)"


def _facts(locked: Base, found: Base) -> tuple[Difference, ...]:
    facts = (
        ("architecture", locked.architecture, found.architecture),
        ("vocabulary size", locked.vocab_size, found.vocab_size),
        ("tensors", len(locked.tensors), len(found.tensors)),
        ("parameters", f"{locked.parameters:,}", f"{found.parameters:,}"),
    )
    return tuple(Difference(what, str(mine), str(other)) for what, mine, other in facts if mine != other)


def _table_differences(locked: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> Iterator[Difference]:
    mine = {tensor.name: tensor for tensor in locked}
    other = {tensor.name: tensor for tensor in found}
    rows = [
        Difference(name, _shown(mine.get(name)), _shown(other.get(name)))
        for name in sorted(mine.keys() | other.keys())
        if _shown(mine.get(name)) != _shown(other.get(name))
    ]
    yield from _listed(rows, "tensors")


def _byte_differences(locked: Base, found: Base) -> Iterator[Difference]:
    other = {tensor.name: tensor for tensor in found.tensors}
    rows = [
        Difference(tensor.name, f"bytes {str(tensor.digest)[:12]}", f"bytes {str(other[tensor.name].digest)[:12]}")
        for tensor in locked.tensors
        if tensor.digest and other[tensor.name].digest and tensor.digest != other[tensor.name].digest
    ]
    if not rows:
        yield Difference("weight files", short(files_root(locked.files)), short(files_root(found.files)))
        return
    yield Difference("tensors with equal bytes", str(len(locked.tensors)), str(len(locked.tensors) - len(rows)))
    yield from _listed(rows, "tensors")


def _listed(rows: list[Difference], noun: str) -> Iterator[Difference]:
    yield from rows[:LISTED_DIFFERENCES]
    if len(rows) > LISTED_DIFFERENCES:
        yield Difference(f"{len(rows) - LISTED_DIFFERENCES:,} more {noun}", "equal", "different")


def _shown(tensor: Tensor | None) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}" if tensor else "absent"
