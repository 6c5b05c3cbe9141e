"""Bind scores to what they were measured on: a digest, never a name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.event import Entry, Outcome
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.domain.score import RecordedScore, Score
from adapter_registry.services.references import base_of, version_of

LONGEST_METRIC = 256


def add(backend: Backend, *, reference: str, scores: Sequence[Score], claimed: str = "") -> tuple[RecordedScore, ...]:
    """Record scores of a Version.

    Args:
        backend: the registry.
        reference: which Version; the binding is to its digest.
        scores: at least one.
        claimed: what the imported file says it measured; kept and shown, never trusted.
    """
    with backend.catalog.writing() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
        return _record(backend, tx, version.digest, version.reference, scores, claimed)


def add_to_base(
    backend: Backend, *, base: str, scores: Sequence[Score], claimed: str = ""
) -> tuple[RecordedScore, ...]:
    """Record scores of a Base; gates fall back on them while a stage has no incumbent."""
    with backend.catalog.writing() as tx:
        known = base_of(tx, base)
        return _record(backend, tx, known.base.digest, known.reference, scores, claimed)


def _record(
    backend: Backend, tx: Transaction, subject: Digest, name: str, scores: Sequence[Score], claimed: str
) -> tuple[RecordedScore, ...]:
    if not scores:
        raise InvalidInput("there are no scores to record.")
    wrong = [reason for score in scores if (reason := _wrong(score))]
    if wrong:
        raise InvalidInput(f"nothing was recorded: {'; '.join(wrong[:5])}.")
    at = backend.clock()
    recorded = tuple(RecordedScore(subject, name, score, backend.actor, at, claimed, backend.job) for score in scores)
    tx.scores.add(recorded)
    values = [{"metric": s.metric, "value": repr(s.value), "evidence": s.evidence} for s in scores[:100]]
    detail = {"digest": subject, "scores": values, "count": len(scores), "claimed": claimed}
    if backend.job is not None:
        detail["job"] = backend.job
    tx.events.append(Entry("score.add", name, Outcome.DONE, backend.actor, at, detail))
    return recorded


def _wrong(score: Score) -> str | None:
    name = score.metric
    if not name or len(name) > LONGEST_METRIC or not name.isprintable():
        return f"a metric's name is 1 to {LONGEST_METRIC} printable characters, not {name[:40]!r}"
    if math.isinf(score.value):
        return f"{name} is infinite, which no measurement is"
    if score.stderr is not None and not (math.isfinite(score.stderr) and score.stderr >= 0):
        return f"the standard error of {name} is {score.stderr}, it must be a number of at least 0"
    if score.n is not None and score.n < 1:
        return f"{name} was measured on {score.n} samples, it must be at least 1"
    return None
