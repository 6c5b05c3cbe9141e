"""Overviews: an adapter at a glance, and the table of its versions beside the incumbent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapter_registry.domain import lock
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.digest import Digest
from adapter_registry.domain.errors import NotFound
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.lock import Level
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.views.listing import AdapterLine
from adapter_registry.domain.views.overview import (
    Overview,
    Standing,
    Trend,
    VersionLine,
    VersionTable,
    against,
    attempts_of,
    trend_of,
)
from adapter_registry.services.judgement import frozen
from adapter_registry.services.promote import doubted
from adapter_registry.services.references import newest_of

LONGEST_CARD = 256 * 1024
MOST_LINES = 200
MOST_EVENTS = 1_000
"""About the versions of a page, in which attempts to promote them are looked for."""
_CARD = "README.md"


def trends(tx: Transaction, lines: Sequence[AdapterLine]) -> dict[str, Trend]:
    """Adapter -> how its newest versions did, of those that anything was measured of."""
    found = tx.scores.leading({line.adapter: line.latest for line in lines})
    return {adapter: trend for adapter, scored in found.items() if (trend := trend_of(scored))}


def overview(backend: Backend, *, adapter: str) -> Overview:
    """An adapter at a glance: its card, where its stages stand and since when, how its versions did.

    Raises:
        NotFound: there is no such adapter.
    """
    with backend.catalog.reading() as tx:
        latest = newest_of(tx, adapter)
        ladder = tx.stages.ladder()
        top = ladder.top(adapter)
        held = tx.versions.staged(adapter, top)
        shown = held or latest
        standings = tuple(_standing(backend, tx, adapter, place) for place in ladder.of(adapter))
        trend = trend_of(tx.scores.leading({adapter: latest.number}).get(adapter, ()))
    return Overview(adapter, latest, shown, _card(backend, shown), standings, trend, top if held else None)


def stages(backend: Backend, *, adapter: str) -> tuple[Standing, ...]:
    """Where the stages of an adapter stand, lowest first."""
    with backend.catalog.reading() as tx:
        newest_of(tx, adapter)
        return tuple(_standing(backend, tx, adapter, place) for place in tx.stages.ladder().of(adapter))


def versions(backend: Backend, *, adapter: str, before: int | None = None, limit: int = 50) -> VersionTable:
    """Versions of an adapter, newest first, a page at a time, with their leading metric beside the incumbent's.

    The incumbent is what holds the highest stage that points anywhere.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        before: the page after this number: `next` of the page before.
        limit: at most this many, and at most 200.

    Raises:
        NotFound: there is no such adapter.
    """
    most = min(max(limit, 1), MOST_LINES)
    with backend.catalog.reading() as tx:
        latest = newest_of(tx, adapter)
        found = tx.versions.all_of(adapter, before=before, limit=most + 1)
        trend = trend_of(tx.scores.leading({adapter: latest.number}).get(adapter, ()))
        metric = trend.metric if trend else ""
        ladder = tx.stages.ladder()
        downwards = (ladder.top(adapter), *reversed(ladder.of(adapter)))
        incumbent = next((held for place in downwards if (held := tx.versions.staged(adapter, place))), None)
        asked = [version.digest for version in (*found, *([incumbent] if incumbent else []))]
        scores = tx.scores.last(asked, metric=metric) if metric else {}
        verdicts = {base: _verdict(tx, base) for base in {version.base for version in found}}
        events = tx.events.attempts([version.reference for version in found], limit=MOST_EVENTS)
    attempts = attempts_of([event.entry for event in events])
    lines = (_line(version, verdicts[version.base], scores, incumbent) for version in found[:most])
    items = tuple(replace(line, attempts=attempts.get(line.version.reference, ())) for line in lines)
    return VersionTable(items, metric, items[-1].version.number if len(found) > most else None)


def _line(
    version: Version, verdict: Level | None, scores: dict[Digest, RecordedScore], incumbent: Version | None
) -> VersionLine:
    score = scores.get(version.digest)
    if score is None or incumbent is None or incumbent.number == version.number:
        return VersionLine(version, verdict, score)
    other = scores.get(incumbent.digest)
    return VersionLine(
        version, verdict, score, against(score.score, other.score if other else None, number=incumbent.number)
    )


def _verdict(tx: Transaction, base: Digest) -> Level | None:
    """A registered base is what its versions are locked to; one that was taken away is nothing to compare with."""
    known = tx.bases.get(base)
    return lock.compare(known, known).level if known else None


def _standing(backend: Backend, tx: Transaction, adapter: str, stage: str) -> Standing:
    held = tx.versions.staged(adapter, stage)
    move = tx.stages.current(adapter, stage) if held else None
    return Standing(
        stage=stage,
        move=move,
        semver=held.semver if held else "",
        request=tx.requests.open_for(adapter, stage),
        hold=tx.requests.hold(adapter, stage),
        freezes=frozen(tx, adapter, stage, at=backend.clock()),
        doubts=next(iter(doubted(tx, [move]).values()), ()) if move else (),
    )


def _card(backend: Backend, version: Version) -> str:
    file = next((each for each in version.files if each.path == _CARD), None)
    if file is None:
        return ""
    try:
        with backend.blobs.open(file.digest) as stream:
            text = stream.read(LONGEST_CARD).decode("utf-8", "replace")
    except NotFound:
        return ""
    if text.startswith("---"):
        text = text[3:].partition("\n---")[2]
    return text.strip()
