"""Several versions beside each other, of one adapter or of several; two of them sample by sample."""

from __future__ import annotations

from typing import Any

from adapter_registry.checkpoints.json_strict import JsonRefused
from adapter_registry.checkpoints.json_strict import parse as parse_json
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.score import RecordedScore
from adapter_registry.domain.peft import changes as peft_changes
from adapter_registry.domain.peft.fields import CONFIG
from adapter_registry.domain.ports import Backend, Transaction
from adapter_registry.domain.reference import parse
from adapter_registry.domain.views import beside as side_by_side
from adapter_registry.domain.views.beside import Beside, Row, Samples
from adapter_registry.services.references import version_of
from adapter_registry.services.subject import outcomes_of

FEWEST, MOST = 2, 6
MOST_CONFIG = 1_000_000


def compare(backend: Backend, *, references: tuple[str, ...]) -> Beside:
    """Two to six versions beside each other; scores are held to those of the first.

    Raises:
        InvalidInput: fewer or more, or one twice.
        NotFound: one that is not there, or not for whoever asks to read.
    """
    if not FEWEST <= len(references) <= MOST:
        raise InvalidInput(f"{FEWEST} to {MOST} versions are compared at once, not {len(references)}.")
    with backend.catalog.reading() as tx:
        versions = [_readable(backend, tx, each) for each in references]
        if len({each.reference for each in versions}) < len(versions):
            raise InvalidInput("a version stands beside others, not beside itself; leave one of the two out.")
        scores = [tx.scores.of(each.digest) for each in versions]
    rows = peft_changes.side_by_side([config(backend, version) for version in versions])
    return Beside(
        versions=tuple(versions),
        facts=side_by_side.facts(versions),
        config=tuple(Row(row.field, tuple(_plain(value) for value in row.values), row.matters) for row in rows),
        labels=side_by_side.labels(versions),
        tags=side_by_side.tags(versions),
        files=side_by_side.files(versions),
        scores=side_by_side.measured(scores),
    )


def samples(backend: Backend, *, references: tuple[str, ...], metric: str) -> Samples:
    """Two versions sample by sample, by the newest scores of a metric that keep what each sample scored.

    Raises:
        InvalidInput: not two versions.
        NotFound: see `compare`.
    """
    if len(references) != FEWEST:
        raise InvalidInput(f"two versions are compared sample by sample, not {len(references)}.")
    with backend.catalog.reading() as tx:
        found = [_with_samples(tx.scores.of(_readable(backend, tx, each).digest), metric) for each in references]
    first, second = found
    pairs = ((one, other) for other in second for one in first if one.comparability == other.comparability)
    pair = next(pairs, None)
    if pair is None:
        return Samples(metric, why_not="there are no samples of both that were measured in one setting")
    kept = [outcomes_of(backend, score.outcomes) if score.outcomes else None for score in pair]
    if kept[0] is None or kept[1] is None:
        return Samples(metric, why_not="the store lost what the samples scored; `adapters admin check` tells more")
    return side_by_side.flips(metric, (pair[0], kept[0]), (pair[1], kept[1]))


def _with_samples(scores: tuple[RecordedScore, ...], metric: str) -> list[Any]:
    """Newest first."""
    valid = (each for each in reversed(scores) if each.score.metric == metric and each.invalid is None)
    return [each.score for each in valid if each.score.outcomes]


def _readable(backend: Backend, tx: Transaction, text: str) -> Version:
    parsed = parse(text, namespace=backend.namespace)
    if not backend.asks.sees(parsed.adapter):
        raise NotFound(f"there is no adapter {parsed.adapter}. `adapters ls` lists what there is.")
    return version_of(tx, parsed)


def config(backend: Backend, version: Version) -> dict[str, Any]:
    """The adapter_config.json of a Version; empty where there is none, or the store lost it."""
    file = next((each for each in version.files if each.path == CONFIG), None)
    if file is None:
        return {}
    try:
        with backend.blobs.open(file.digest) as stream:
            found = parse_json(stream.read(MOST_CONFIG + 1), max_bytes=MOST_CONFIG, max_depth=16)
    except (NotFound, JsonRefused):
        return {}
    return found if isinstance(found, dict) else {}


def _plain(text: str) -> str:
    """JSON text for people: a text without its quotes."""
    return text[1:-1] if text.startswith('"') else text
