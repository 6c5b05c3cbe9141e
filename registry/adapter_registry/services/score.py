"""Bind scores to what they were measured on: a digest, never a name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.digest import Digest, of_bytes
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.outcomes import Outcomes, to_json, unfit
from adapter_registry.domain.evidence.score import Invalidation, RecordedScore, Score
from adapter_registry.domain.evidence.suite import Suite, missing
from adapter_registry.domain.evidence.suite import parse as parse_suite
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.services.references import base_of, version_of

LONGEST_METRIC = 256
LONGEST_REASON = 500
MOST_SAMPLES = 10**12


def add(
    backend: Backend,
    *,
    reference: str,
    scores: Sequence[Score],
    claimed: str = "",
    outcomes: Sequence[Outcomes] = (),
    suite: str = "",
) -> tuple[RecordedScore, ...]:
    """Record scores of a Version.

    Args:
        backend: the registry.
        reference: which Version; the binding is to its digest.
        scores: at least one.
        claimed: what the imported file says it measured; kept and shown, never trusted.
        outcomes: of those of the scores whose value on each sample is known.
        suite: the suite they were measured by, `core` or `core@3`; refused unless they hold all that it asks.
    """
    wanted = parse(reference, namespace=backend.namespace)
    with backend.catalog.reading() as tx:
        version_of(tx, wanted)  # before anything that was sent is looked at or kept
    prepared = _prepared(backend, scores, outcomes)
    with backend.catalog.writing() as tx:
        version = version_of(tx, wanted)
        return _record(backend, tx, (version.digest, version.reference), prepared, claimed, suite)


def add_to_base(
    backend: Backend,
    *,
    base: str,
    scores: Sequence[Score],
    claimed: str = "",
    outcomes: Sequence[Outcomes] = (),
    suite: str = "",
) -> tuple[RecordedScore, ...]:
    """Record scores of a Base; gates fall back on them while a stage has no incumbent. Arguments as of `add`."""
    prepared = _prepared(backend, scores, outcomes)
    with backend.catalog.writing() as tx:
        known = base_of(tx, base)
        return _record(backend, tx, (known.base.digest, known.reference), prepared, claimed, suite)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Scores that may be recorded, and the stored blobs of their outcomes with their sizes."""

    scores: tuple[Score, ...]
    kept: dict[Digest, int]


def _prepared(backend: Backend, scores: Sequence[Score], outcomes: Sequence[Outcomes]) -> _Prepared:
    """What there is to record, with all bytes in the store: those are written before anybody waits for us."""
    if not scores:
        raise InvalidInput("there are no scores to record.")
    found = {each.metric: each for each in outcomes}
    wrong = [reason for score in scores if (reason := _wrong(score))]
    wrong += [
        f"{name}: outcomes of a metric that is not among the scores"
        for name in found.keys() - {s.metric for s in scores}
    ]
    wrong += [f"{s.metric}: {why}" for s in scores if s.metric in found and (why := unfit(found[s.metric], s))]
    if wrong:
        raise InvalidInput(f"nothing was recorded: {'; '.join(wrong[:5])}.")
    kept: dict[Digest, int] = {}
    stored = []
    for score in scores:
        data = to_json(found[score.metric]) if score.metric in found else None
        digest = of_bytes(data) if data else None
        if data and digest:
            kept[digest] = backend.blobs.put(digest, BytesIO(data), name=score.metric)
        n = len(found[score.metric].values) if digest else score.n
        stored.append(replace(score, outcomes=digest, suite="", n=n))
    return _Prepared(tuple(stored), kept)


def _record(
    backend: Backend, tx: Transaction, subject: tuple[Digest, str], prepared: _Prepared, claimed: str, suite: str
) -> tuple[RecordedScore, ...]:
    (digest, name), scores = subject, prepared.scores
    measured_by = _measured_by(tx, suite, scores) if suite else None
    if measured_by is not None:
        part_of = {each.metric for each in measured_by.metrics}
        scores = tuple(replace(s, suite=measured_by.reference) if s.metric in part_of else s for s in scores)
    at = backend.clock()
    recorded = tuple(RecordedScore(digest, name, score, backend.actor, at, claimed, backend.job) for score in scores)
    tx.scores.keep_blobs(prepared.kept)
    tx.scores.add(recorded)
    values = [
        {"metric": s.metric, "value": repr(s.value), "evidence": s.evidence, "outcomes": s.outcomes}
        for s in scores[:100]
    ]
    detail: dict[str, object] = {"digest": digest, "scores": values, "count": len(scores), "claimed": claimed}
    if measured_by is not None:
        detail["suite"] = measured_by.reference
    if backend.job is not None:
        detail["job"] = backend.job
    tx.events.append(Entry("score.add", name, Outcome.DONE, backend.actor, at, detail))
    return recorded


def _measured_by(tx: Transaction, suite: str, scores: Sequence[Score]) -> Suite:
    found = tx.scores.suite(*parse_suite(suite))
    if found is None:
        raise NotFound(
            f"there is no suite {suite}; nothing was recorded. `adapters score suite ls` lists what there is."
        )
    lacking = missing(found, scores)
    if lacking:
        raise InvalidInput(f"nothing was recorded: {found.reference} also asks for {'; '.join(lacking[:5])}.")
    return found


def invalidate(
    backend: Backend,
    *,
    reference: str,
    because: str,
    ids: Sequence[int] = (),
    metric: str = "",
    source: str = "",
) -> tuple[RecordedScore, ...]:
    """Declare that scores of a Version count no more; they are kept, marked, and gates ignore them.

    Args:
        backend: the registry.
        reference: which Version.
        because: why, in one line.
        ids: the numbers of scores.
        metric: all scores of this metric.
        source: all scores from the imported file of this name or digest.

    Raises:
        InvalidInput: no reason, or nothing says which scores.
        NotFound: no valid score of the Version is meant.
    """
    chosen = _Chosen(frozenset(ids), metric, source)
    with backend.catalog.writing() as tx:
        version = version_of(tx, parse(reference, namespace=backend.namespace))
        return _invalidated(backend, tx, (version.digest, version.reference), chosen, because)


def invalidate_of_base(
    backend: Backend, *, base: str, because: str, ids: Sequence[int] = (), metric: str = "", source: str = ""
) -> tuple[RecordedScore, ...]:
    """Declare that scores of a Base count no more; arguments as of `invalidate`."""
    chosen = _Chosen(frozenset(ids), metric, source)
    with backend.catalog.writing() as tx:
        known = base_of(tx, base)
        return _invalidated(backend, tx, (known.base.digest, known.reference), chosen, because)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which scores are meant: those that every given field names."""

    ids: frozenset[int]
    metric: str
    source: str

    def means(self, each: RecordedScore) -> bool:
        score = each.score
        return (
            (not self.ids or each.id in self.ids)
            and (not self.metric or score.metric == self.metric)
            and (not self.source or self.source in (score.source, score.evidence))
        )


def _invalidated(
    backend: Backend, tx: Transaction, subject: tuple[Digest, str], chosen: _Chosen, because: str
) -> tuple[RecordedScore, ...]:
    digest, name = subject
    if not (chosen.ids or chosen.metric or chosen.source):
        raise InvalidInput("which scores? Name them by number, by metric or by the file they came from.")
    if not because.strip() or len(because) > LONGEST_REASON or not because.isprintable():
        raise InvalidInput(f"an invalidation needs a reason: one line of 1 to {LONGEST_REASON} characters.")
    meant = tuple(each for each in tx.scores.of(digest) if each.invalid is None and chosen.means(each))
    if not meant:
        raise NotFound(f"{name} has no valid score of that kind; `adapters score ls` lists them. Nothing was changed.")
    at = backend.clock()
    invalidation = Invalidation(because, backend.actor, at)
    tx.scores.invalidate([each.id for each in meant], invalidation)
    listed = [{"id": each.id, "metric": each.score.metric, "value": repr(each.score.value)} for each in meant[:100]]
    detail = {"digest": digest, "scores": listed, "count": len(meant), "because": because}
    tx.events.append(Entry("score.invalidate", name, Outcome.DONE, backend.actor, at, detail))
    return tuple(replace(each, invalid=invalidation) for each in meant)


def _wrong(score: Score) -> str | None:
    name = score.metric
    if not name or len(name) > LONGEST_METRIC or not name.isprintable():
        return f"a metric's name is 1 to {LONGEST_METRIC} printable characters, not {name[:40]!r}"
    if math.isinf(score.value):
        return f"{name} is infinite, which no measurement is"
    if score.stderr is not None and not (math.isfinite(score.stderr) and score.stderr >= 0):
        return f"the standard error of {name} is {score.stderr}, it must be a number of at least 0"
    if score.n is not None and not 1 <= score.n <= MOST_SAMPLES:
        return f"{name} was measured on {score.n:,} samples, it must be 1 to {MOST_SAMPLES:,}"
    return None
