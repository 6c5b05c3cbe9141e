"""Rows of scores and of the suites they are measured by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.score import Invalidation, RecordedScore
from adapter_registry.domain.suite import Suite
from adapter_registry.storage.rows import from_text, insert_missing, to_text
from adapter_registry.storage.tables import blobs, scores, suites


class ScoreTable:
    """See ports.ScoreRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, recorded: Iterable[RecordedScore]) -> None:
        """Append scores."""
        rows = [_row(each) for each in recorded]
        if rows:
            self._connection.execute(insert(scores), rows)

    def keep_outcomes(self, kept: dict[Digest, int]) -> None:
        """See ports.ScoreRows.keep_outcomes."""
        insert_missing(self._connection, blobs, [{"digest": digest, "size": size} for digest, size in kept.items()])

    def of(self, subject: Digest) -> tuple[RecordedScore, ...]:
        """See ports.ScoreRows.of."""
        query = select(scores).where(scores.c.subject == subject).order_by(scores.c.id)
        return tuple(_recorded(row) for row in self._connection.execute(query))

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

    def suites(self) -> tuple[Suite, ...]:
        """See ports.ScoreRows.suites."""
        query = select(suites.c.document).order_by(suites.c.name, suites.c.version)
        return tuple(from_text(text, Suite) for text in self._connection.execute(query).scalars())

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
