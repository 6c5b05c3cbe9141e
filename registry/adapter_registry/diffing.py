"""Two adapters as people name them, brought to this machine and compared: weights, config, files, scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from adapter_registry.client import Registry
from adapter_registry.domain.adapter import Version
from adapter_registry.domain.diff import ScoreDiff, VersionDiff
from adapter_registry.domain.errors import InvalidInput, NotFound
from adapter_registry.domain.evidence.comparison import bounded, estimate
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.local.folders import is_folder
from adapter_registry.local.pulled import LOCK_FILE
from adapter_registry.tensors.devices import device_of
from adapter_registry.tensors.diff import Input, diff

CONFIDENCE = 0.95


def compared(  # noqa: PLR0913  every option of a comparison
    registry: Registry,
    first: str,
    second: str,
    *,
    base: str | None = None,
    base_path: Path | None = None,
    cache: Path | None = None,
    intruders: bool = False,
    exact: bool = False,
    device: str = "cpu",
    report: Callable[[float], None] = lambda _: None,
) -> VersionDiff:
    """What changed from `first` to `second`, each a reference or an adapter's folder.

    Args:
        registry: where versions are.
        first: the earlier.
        second: the later.
        base: what a folder that does not say it is locked to; default: what the other one is locked to.
        base_path: a folder with the bytes of the base of both; what takes the base's weights is measured too.
        cache: where what was found of a base's weights is remembered; None: nowhere.
        intruders: look for intruder dimensions; takes the base's bytes, from where it was registered by default.
        exact: look at every element.
        device: of `devices.DEVICES`: what looks for intruder dimensions.
        report: told which share is done.

    Raises:
        NotFound, InvalidReference: there is no such version.
        InvalidInput: a folder that holds no adapter, or that no base is known for.
        IncompatibleBase: `base_path` is not the base.
        Unsupported: the device is not here.
    """
    there = device_of(device)
    one, other = sides(registry, first, second, base=base)
    folder = None
    if base_path is not None or intruders:
        if one.base.digest != other.base.digest:
            raise InvalidInput(
                f"{one.name} and {other.name} are locked to different bases; compare them without the base's bytes."
            )
        folder = registry.checkpoint(one.base.digest, base_path)
    with ExitStack() as stack:
        finish = None
        if folder is not None:
            from adapter_registry.tensors.against_base import against  # noqa: PLC0415  with the option that needs it

            kept = cache / "spectra" / one.base.digest.replace(":", "-") if cache else None
            finish = stack.enter_context(against(folder, cache=kept, intruders=intruders, device=there))
        found = diff(one, other, exact=exact, finish=finish, report=report)
    return replace(found, scores=scores_of(registry, one, other))


def sides(registry: Registry, first: str, second: str, *, base: str | None = None) -> tuple[Input, Input]:
    """Both, on this machine: versions in the cache, verified; folders where they are."""
    texts = (first, second)
    versions = [None if is_folder(text) else registry.resolve(text) for text in texts]
    bases = [_locked_to(text, version) for text, version in zip(texts, versions, strict=True)]
    known = base or bases[0] or bases[1]
    if known is None:
        raise InvalidInput(f"neither {first} nor {second} says which base it was trained on. Name it with --base NAME.")
    made = (
        _input(registry, text, version, own or known) for text, version, own in zip(texts, versions, bases, strict=True)
    )
    one, other = made
    return one, other


def _input(registry: Registry, text: str, version: Version | None, base: str) -> Input:
    known = registry.base(base)
    if version is None:
        folder = Path(text).expanduser()
        return Input(text, None, folder, known.base, known.registered.reference)
    pulled = registry.pull(f"{version.adapter}@{version.digest}")
    return Input(version.reference, version.digest, pulled.folder, known.base, known.registered.reference)


def _locked_to(text: str, version: Version | None) -> str | None:
    """What a version, or a folder that was pulled, is locked to."""
    if version is not None:
        return version.base
    try:
        found = json.loads((Path(text).expanduser() / LOCK_FILE).read_text())["base"]["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def scores_of(registry: Registry, first: Input, second: Input) -> tuple[ScoreDiff, ...]:
    """The newest score of each metric on both sides; folders have none."""
    mine, other = (_scores(registry, side) for side in (first, second))
    metrics = sorted({each.score.metric for each in (*mine, *other)})
    return tuple(_score(metric, _newest(mine, metric), _newest(other, metric)) for metric in metrics)


def _scores(registry: Registry, side: Input) -> tuple[RecordedScore, ...]:
    if side.digest is None:
        return ()
    try:
        return registry.scores(side.name)
    except NotFound:
        return ()


def _newest(scores: Sequence[RecordedScore], metric: str) -> list[Score]:
    """Of one metric, newest first; those that were declared invalid left out."""
    valid = [each for each in scores if each.score.metric == metric and each.invalid is None]
    return [each.score for each in sorted(valid, key=lambda s: s.recorded_at, reverse=True)]


def _score(metric: str, first: list[Score], second: list[Score]) -> ScoreDiff:
    """The newest pair that was measured in one setting; else the newest of each."""
    for one, other in _pairs(first, second):
        direction = one.direction or other.direction
        if direction is None:
            return ScoreDiff(metric, one.value, other.value, comparable=True)
        gain = other.value - one.value if direction is Direction.HIGHER else one.value - other.value
        difference = estimate(other, one, direction=direction)
        found = bounded(difference, confidence=CONFIDENCE) if difference else None
        low, high = (found.low, found.high) if found else (None, None)
        return ScoreDiff(metric, one.value, other.value, comparable=True, gain=gain, low=low, high=high)
    values = (first[0].value if first else None, second[0].value if second else None)
    return ScoreDiff(metric, *values, comparable=False)


def _pairs(first: list[Score], second: list[Score]) -> Iterator[tuple[Score, Score]]:
    return ((one, other) for other in second for one in first if one.comparability == other.comparability)
