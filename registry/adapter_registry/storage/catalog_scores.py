"""Rows of scores and of the suites they are measured by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, tuple_, update

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.evidence.score import Invalidation, RecordedScore
from adapter_registry.domain.evidence.suite import Suite
from adapter_registry.domain.views.overview import RECENT
from adapter_registry.storage.rows import batches, from_text, insert_missing, to_text
from adapter_registry.storage.tables import adapters, blobs, scores, suites, versions
from adapter_registry.storage.version_rows import row_of_adapter


class ScoreTable:
    """See ports.ScoreRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, recorded: Iterable[RecordedScore]) -> None:
        """Append scores."""
        rows = [_row(each) for each in recorded]
        if rows:
            self._connection.execute(insert(scores), rows)

    def keep_blobs(self, kept: dict[Digest, int]) -> None:
        """See ports.ScoreRows.keep_blobs."""
        insert_missing(self._connection, blobs, [{"digest": digest, "size": size} for digest, size in kept.items()])

    def of(self, subject: Digest) -> tuple[RecordedScore, ...]:
        """See ports.ScoreRows.of."""
        query = select(scores).where(scores.c.subject == subject).order_by(scores.c.id)
        return tuple(_recorded(row) for row in self._connection.execute(query))

    def values(self, subjects: Sequence[Digest]) -> dict[Digest, dict[str, float]]:
        """See ports.ScoreRows.values."""
        found: dict[Digest, dict[str, float]] = {}
        for some in batches(list(subjects)):
            query = select(scores.c.subject, scores.c.metric, scores.c.value).order_by(scores.c.id)
            for row in self._connection.execute(query.where(scores.c.subject.in_(some), scores.c.invalid.is_(None))):
                found.setdefault(row.subject, {})[row.metric] = math.nan if row.value is None else row.value
        return found

    def leading(self, latest: Mapping[str, int]) -> dict[str, list[tuple[int, RecordedScore]]]:
        """See ports.ScoreRows.leading."""
        if not latest:
            return {}
        floors = {name: number - RECENT for name, number in latest.items()}
        # A bound for each adapter, not OR: its recent versions are read from the index, and no others.
        recent = versions.c.number > case(floors, value=adapters.c.name)
        counts = (adapters.c.name.in_(floors), recent, versions.c.removed_at.is_(None), scores.c.invalid.is_(None))
        joined = adapters.join(versions, versions.c.adapter_id == adapters.c.id).join(
            scores, scores.c.subject == versions.c.digest
        )
        newest = (
            select(adapters.c.id.label("adapter_id"), func.max(scores.c.id).label("score"))
            .select_from(joined)
            .where(*counts)
            .group_by(adapters.c.id)
            .subquery()
        )
        lead = scores.alias()
        query = (
            select(adapters.c.name.label("adapter"), versions.c.number, scores)
            .select_from(
                joined.join(newest, newest.c.adapter_id == adapters.c.id).join(lead, lead.c.id == newest.c.score)
            )
            .where(*counts, scores.c.metric == lead.c.metric)
            .order_by(scores.c.id)
        )
        found: dict[str, list[tuple[int, RecordedScore]]] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.adapter, []).append((row.number, _recorded(row)))
        return found

    def last(self, subjects: Sequence[Digest], *, metric: str) -> dict[Digest, RecordedScore]:
        """See ports.ScoreRows.last."""
        query = (
            select(scores)
            .where(scores.c.subject.in_(subjects), scores.c.metric == metric, scores.c.invalid.is_(None))
            .order_by(scores.c.id)
        )
        return {row.subject: _recorded(row) for row in self._connection.execute(query)}

    def metrics(self, adapter: str, *, newest: int) -> tuple[str, ...]:
        """See ports.ScoreRows.metrics."""
        recent = (
            select(versions.c.digest)
            .where(versions.c.adapter_id == row_of_adapter(adapter), versions.c.removed_at.is_(None))
            .order_by(versions.c.number.desc())
            .limit(newest)
        )
        query = (
            select(scores.c.metric, func.max(scores.c.id))
            .where(scores.c.subject.in_(recent), scores.c.invalid.is_(None))
            .group_by(scores.c.metric)
            .order_by(func.max(scores.c.id).desc())
        )
        return tuple(self._connection.execute(query).scalars())

    def course(self, adapter: str, *, metric: str, newest: int) -> tuple[tuple[int, str, RecordedScore], ...]:
        """See ports.ScoreRows.course."""
        recent = (
            select(versions.c.number, versions.c.created_at, versions.c.digest)
            .where(versions.c.adapter_id == row_of_adapter(adapter), versions.c.removed_at.is_(None))
            .order_by(versions.c.number.desc())
            .limit(newest)
            .subquery()
        )
        query = (
            select(recent.c.number, recent.c.created_at, scores)
            .select_from(recent.join(scores, scores.c.subject == recent.c.digest))
            .where(scores.c.metric == metric, scores.c.invalid.is_(None))
            .order_by(recent.c.number, scores.c.id)
        )
        return tuple((row.number, row.created_at, _recorded(row)) for row in self._connection.execute(query))

    def invalidate(self, ids: Iterable[int], invalidation: Invalidation) -> None:
        """See ports.ScoreRows.invalidate."""
        chosen = scores.c.id.in_(list(ids))
        self._connection.execute(update(scores).where(chosen).values(invalid=to_text(invalidation)))

    def suite(self, name: str, version: int | None = None) -> Suite | None:
        """See ports.ScoreRows.suite."""
        query = select(suites.c.document).where(suites.c.name == name).order_by(suites.c.version.desc()).limit(1)
        if version is not None:
            query = query.where(suites.c.version == version)
        text = self._connection.execute(query).scalar()
        return from_text(text, Suite) if text else None

    def suites(self, *, after: tuple[str, int] | None = None, limit: int | None = None) -> tuple[Suite, ...]:
        """See ports.ScoreRows.suites."""
        order = (suites.c.name, suites.c.version)
        query = select(suites.c.document).order_by(*order).limit(limit)
        if after is not None:
            query = query.where(tuple_(*order) > tuple_(*after))
        return tuple(from_text(text, Suite) for text in self._connection.execute(query).scalars())

    def suite_files(self) -> frozenset[Digest]:
        """See ports.ScoreRows.suite_files."""
        return frozenset(digest for each in self.suites() for digest in each.files.values())

    def add_suite(self, suite: Suite) -> Suite:
        """See ports.ScoreRows.add_suite."""
        newest = select(func.max(suites.c.version)).where(suites.c.name == suite.name)
        numbered = replace(suite, version=(self._connection.execute(newest).scalar() or 0) + 1)
        row = {"name": suite.name, "version": numbered.version, "digest": suite.digest}
        self._connection.execute(insert(suites), [{**row, "document": to_text(numbered)}])
        return numbered


def _row(each: RecordedScore) -> dict[str, Any]:
    """JSON has no NaN: the document holds 0 for it, and the value column NULL."""
    value = None if math.isnan(each.score.value) else each.score.value
    stored = _with_value(each, 0.0) if value is None else each
    return {
        "subject": each.subject,
        "metric": each.score.metric,
        "value": value,
        "document": to_text(stored),
        "outcomes": each.score.outcomes,
    }


def _recorded(row: Row[Any]) -> RecordedScore:
    invalid = from_text(row.invalid, Invalidation) if row.invalid else None
    stored = from_text(row.document, RecordedScore)
    return replace(_with_value(stored, row.value), id=row.id, invalid=invalid)


def _with_value(recorded: RecordedScore, value: float | None) -> RecordedScore:
    return replace(recorded, score=replace(recorded.score, value=math.nan if value is None else value))
