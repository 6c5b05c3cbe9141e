"""Overview: how the versions of an adapter did by its leading metric, and where its stages stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.lock import Level
from adapter_registry.domain.promotions.passage import Hold, Window
from adapter_registry.domain.promotions.promotion import Promotion
from adapter_registry.domain.promotions.request import Request, State

RECENT = 20
"""How many of the newest versions a trend looks at."""
_TWO_SIDED_95 = 1.959964
_STATES = frozenset(map(str, State))
_WAITING, _OVER = str(State.WAITING), "over"


@dataclass(frozen=True, slots=True)
class Point:
    """What a version scored; the number of the version."""

    number: int
    value: float


@dataclass(frozen=True, slots=True)
class Trend:
    """The leading metric of an adapter: the one that was recorded last.

    Attributes:
        metric: `gsm8k/exact_match`.
        direction: which way is better; None when nobody said.
        points: oldest version first; only values that may be compared with the newest one.
    """

    metric: str
    direction: Direction | None
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """A stage of an adapter as it is now.

    Attributes:
        stage: which one.
        move: how it came to point where it points; None while it points nowhere.
        semver: of the version it points to.
        request: the open request into it.
        hold: what keeps machines waiting after a rollback.
        freezes: windows that keep it still now.
        doubts: what the move rested on and was declared invalid since, with the reason.
    """

    stage: str
    move: Promotion | None
    semver: str
    request: Request | None
    hold: Hold | None
    freezes: tuple[Window, ...]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overview:
    """An adapter at a glance.

    Attributes:
        adapter: `namespace/name`.
        latest: its newest version.
        shown: the version that the card belongs to: what is in the highest stage, else the newest.
        card: its README without the front matter; empty where it has none.
        standings: of every stage and lane, lowest first.
        trend: see Trend; None before anything was scored.
        top: its highest stage, `prod`; None while that points nowhere.
    """

    adapter: str
    latest: Version
    shown: Version
    card: str
    standings: tuple[Standing, ...]
    trend: Trend | None
    top: str | None = None


@dataclass(frozen=True, slots=True)
class Against:
    """A version's value beside the incumbent's.

    Attributes:
        number: of the incumbent.
        difference: turned so that positive is better; None where the two may not be compared.
        half_width: of its 95 % interval, from both standard errors; None when one is unknown.
    """

    number: int
    difference: float | None
    half_width: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of the last attempt to promote a version into a stage, where it did not get there.

    Attributes:
        stage: where to.
        state: `waiting`, `refused`, `undecided`, `declined`, `expired` or `failed`.
        request: the name of its request; empty for none.
        at: when that came to be.
    """

    stage: str
    state: str
    request: str
    at: str


@dataclass(frozen=True, slots=True)
class VersionLine:
    """One line of the table of versions.

    Attributes:
        version: which.
        verdict: what checking its lock against the registered base says; None when that base is not registered.
        score: of the leading metric, the last that counts; None when it was not measured.
        against: beside the incumbent; None without one, or without values.
        attempts: to promote it, that have not ended in a stage.
    """

    version: Version
    verdict: Level | None
    score: RecordedScore | None = None
    against: Against | None = None
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True)
class VersionTable:
    """A page of the table of versions, newest first; `next` as in AdapterPage."""

    items: tuple[VersionLine, ...]
    metric: str
    next: int | None


def attempts_of(entries: Sequence[Entry]) -> dict[str, tuple[Attempt, ...]]:
    """Subject -> what became of the last attempt for each stage, of entries about promoting, newest first.

    An attempt that nobody judged, because whoever made it had no right to, says nothing of the version.
    """
    newest: dict[tuple[str, str], Attempt] = {}
    for entry in entries:
        stage, state = str(entry.detail.get("stage", "")), _state(entry)
        if stage and state:
            request = str(entry.detail.get("request", ""))
            newest.setdefault((entry.subject, stage), Attempt(stage, state, request, entry.at))
    found: dict[str, tuple[Attempt, ...]] = {}
    for (subject, _), attempt in newest.items():
        if attempt.state != _OVER:
            found[subject] = (*found.get(subject, ()), attempt)
    return found


def _state(entry: Entry) -> str:
    """What an entry says of the version's way into the stage; empty for nothing."""
    scope, _, step = entry.action.partition(".")
    if scope == "request" and step in _STATES:
        state = State(step)
        return _WAITING if state.is_open else str(state) if entry.outcome is Outcome.REFUSED else _OVER
    if entry.action != "promote":
        return ""
    return _OVER if entry.outcome is Outcome.DONE else str(entry.detail.get("result", ""))


def trend_of(scored: Sequence[tuple[int, RecordedScore]]) -> Trend | None:
    """The Trend of one metric's scores, each with its version's number, in the order they were recorded."""
    if not scored:
        return None
    newest = scored[-1][1].score
    alike = [(number, each.score) for number, each in scored if each.score.comparability == newest.comparability]
    last = dict(sorted((number, score.value) for number, score in alike))
    points = tuple(Point(number, value) for number, value in last.items() if math.isfinite(value))
    return Trend(newest.metric, newest.direction, points)


def against(score: Score, incumbent: Score | None, *, number: int) -> Against | None:
    """A value beside the incumbent's; None when that was not measured."""
    if incumbent is None:
        return None
    direction = score.direction or incumbent.direction
    if score.comparability != incumbent.comparability or direction is None:
        return Against(number, None)
    sign = 1 if direction is Direction.HIGHER else -1
    difference = sign * (score.value - incumbent.value)
    if not math.isfinite(difference):
        return Against(number, None)
    if score.stderr is None or incumbent.stderr is None:
        return Against(number, difference)
    return Against(number, difference, _TWO_SIDED_95 * math.hypot(score.stderr, incumbent.stderr))
