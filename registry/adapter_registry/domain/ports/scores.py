"""ScoreRows: what services need of a catalog to keep scores and suites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from adapter_registry.domain.digest import Digest
from adapter_registry.domain.evidence.score import Invalidation, RecordedScore
from adapter_registry.domain.evidence.suite import Suite


class ScoreRows(Protocol):
    """Scores of Versions and of Bases, whose subjects are digests; suites."""

    def add(self, scores: Iterable[RecordedScore]) -> None:
        """Append scores; the blobs of their outcomes were kept before."""

    def keep_blobs(self, kept: dict[Digest, int]) -> None:
        """Know these blobs, digest -> size, so that scores and suites can refer to them."""

    def of(self, subject: Digest) -> tuple[RecordedScore, ...]:
        """In the order they were recorded, invalid ones included."""

    def values(self, subjects: Sequence[Digest]) -> dict[Digest, dict[str, float]]:
        """Subject -> metric -> the value that was recorded last, of those that count; NaN for what is no number."""

    def leading(self, latest: Mapping[str, int]) -> dict[str, list[tuple[int, RecordedScore]]]:
        """Adapter -> (version number, score) of the metric that was recorded last among its newest versions.

        In the order they were recorded, without invalid ones; `latest` is each adapter's newest number.
        """

    def last(self, subjects: Sequence[Digest], *, metric: str) -> dict[Digest, RecordedScore]:
        """Subject -> its last valid score of a metric, of those that have one."""

    def metrics(self, adapter: str, *, newest: int) -> tuple[str, ...]:
        """What the newest versions of an adapter were measured by, the metric recorded last first; invalid left out."""

    def course(self, adapter: str, *, metric: str, newest: int) -> tuple[tuple[int, str, RecordedScore], ...]:
        """(version number, when it was pushed, score) of a metric over the newest versions, oldest version first.

        Of one version in the order they were recorded; invalid ones are left out.
        """

    def invalidate(self, ids: Iterable[int], invalidation: Invalidation) -> None:
        """Mark scores; they are kept."""

    def suite(self, name: str, version: int | None = None) -> Suite | None:
        """A version of a suite; the newest when none is named."""

    def suites(self, *, after: tuple[str, int] | None = None, limit: int | None = None) -> tuple[Suite, ...]:
        """Every version of every suite, by name and version; `after` those of the one before."""

    def suite_files(self) -> frozenset[Digest]:
        """Every file that a version of a suite is measured with."""

    def add_suite(self, suite: Suite) -> Suite:
        """Store the next version of a suite; the suite with its number."""
