"""Rules about a Version's own scores: whether there are any, and whether they keep their bounds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from adapter_registry.domain.figures import apart, count, shown
from adapter_registry.domain.finding import Finding, Outcome, Subject
from adapter_registry.domain.policy import Bound
from adapter_registry.domain.score import Direction, Score


def latest(scores: Iterable[Score], metric: str) -> Score | None:
    """The score of `metric` that counts: the one recorded last."""
    return next((score for score in reversed(tuple(scores)) if score.metric == metric), None)


def measured_at_all(subject: Subject) -> Finding:
    """Whether there is at least one score that is a number."""
    rule = "any score"
    if not subject.scores:
        return Finding(rule, Outcome.PENDING, "never measured", score_it(subject))
    metrics = sorted({score.metric for score in subject.scores if math.isfinite(score.value)})
    if not metrics:
        return Finding(rule, Outcome.FAIL, "no score it has is a number", NOT_A_NUMBER)
    listed = ", ".join(metrics[:3]) + (f" and {len(metrics) - 3:,} more" if len(metrics) > 3 else "")
    return Finding(rule, Outcome.PASS, f"{count(len(metrics), 'metric')} measured: {listed}")


def within(bound: Bound, subject: Subject) -> Finding:
    """Whether the latest score of the bound's metric keeps it."""
    rule, score = _rule_of(bound), latest(subject.scores, bound.metric)
    blank = Finding(rule, Outcome.PENDING, "", metric=bound.metric, bound=_only_limit(bound))
    if score is None:
        return replace(blank, reason="never measured", fix=measure(subject, bound.metric))
    if contradiction := _wrong_way(bound, score):
        return replace(blank, outcome=Outcome.ERROR, reason=contradiction, fix="correct the rule in the stage's policy")
    if not math.isfinite(score.value):
        return not_a_number(blank, score)
    return _held_against(bound, score, replace(blank, value=score.value, n=score.n))


def _held_against(bound: Bound, score: Score, judged: Finding) -> Finding:
    for limit, sign, broken in _limits(bound, score.value):
        if broken:
            value, text = apart(score.value, limit)
            fix = "promote a version that keeps the bound, or set another in the stage's policy"
            reason = f"{value}, must be {sign} {text}{samples(score)}"
            return replace(judged, outcome=Outcome.FAIL, reason=reason, fix=fix, bound=limit)
    return replace(judged, outcome=Outcome.PASS, reason=f"{_kept(bound, score.value)}{samples(score)}")


def _limits(bound: Bound, value: float) -> Iterator[tuple[float, str, bool]]:
    """(limit, sign, whether `value` breaks it) of each limit given."""
    if bound.min is not None:
        yield bound.min, "≥", value < bound.min
    if bound.max is not None:
        yield bound.max, "≤", value > bound.max


def _kept(bound: Bound, value: float) -> str:
    texts = [(sign, *apart(value, limit)) for limit, sign, _ in _limits(bound, value)]
    longest = max((mine for _, mine, _ in texts), key=len, default=shown(value))
    return f"{longest} " + " and ".join(f"{sign} {limit}" for sign, _, limit in texts)


def _rule_of(bound: Bound) -> str:
    return f"{bound.metric} " + " and ".join(f"{sign} {limit:.12g}" for limit, sign, _ in _limits(bound, 0.0))


def _only_limit(bound: Bound) -> float | None:
    limits = [limit for limit in (bound.min, bound.max) if limit is not None]
    return limits[0] if len(limits) == 1 else None


def _wrong_way(bound: Bound, score: Score) -> str:
    """Why a lone floor or ceiling is on the wrong side of a metric whose direction is known; else empty."""
    if bound.min is not None and bound.max is None and score.direction is Direction.LOWER:
        return f"lower is better for {bound.metric}, but the policy only sets a floor of {bound.min:.12g}"
    if bound.max is not None and bound.min is None and score.direction is Direction.HIGHER:
        return f"higher is better for {bound.metric}, but the policy only sets a ceiling of {bound.max:.12g}"
    return ""


# Words that every rule about scores uses.

NOT_A_NUMBER = "find out why it is not a number, and score it again"


def not_a_number(blank: Finding, score: Score) -> Finding:
    """The finding for a score that was measured as NaN or as infinite."""
    reason = f"measured as {unusable(score)}{samples(score)}"
    return replace(blank, outcome=Outcome.FAIL, reason=reason, fix=NOT_A_NUMBER, n=score.n)


def unusable(score: Score) -> str:
    """`NaN` or `infinite`, whichever the value is."""
    return "NaN" if math.isnan(score.value) else "infinite"


def samples(score: Score) -> str:
    """` (n=1,319)`; empty when unknown."""
    return f" (n={score.n:,})" if score.n is not None else ""


def score_it(subject: Subject) -> str:
    """The command that gives the Version scores."""
    return f"adapters score import {subject.reference} FILE"


def measure(subject: Subject, metric: str) -> str:
    """The command that gives the Version a score of `metric`, and what it has under a similar name."""
    near = difflib.get_close_matches(metric, sorted({score.metric for score in subject.scores}), n=3)
    return score_it(subject) + (f" (measured so far: {', '.join(near)})" if near else "")
