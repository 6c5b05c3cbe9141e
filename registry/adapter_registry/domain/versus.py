"""Rules that compare a Version's scores with those of the stage's incumbent, or of its base while there is none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adapter_registry.domain import comparison
from adapter_registry.domain.comparison import Difference
from adapter_registry.domain.evidence import latest, measure, not_a_number, unusable
from adapter_registry.domain.figures import apart, shown, signed
from adapter_registry.domain.finding import Finding, Outcome, Subject
from adapter_registry.domain.metric import is_rate
from adapter_registry.domain.policy import Comparison, Test, WaiveIf
from adapter_registry.domain.score import Direction, Score

LISTED_SETTINGS = 6
"""How many differing settings a finding names one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class _Rival:
    """The other side: what to call it, its scores, how to score it, and whether it is the base."""

    name: str
    scores: tuple[Score, ...]
    score_it: str
    is_base: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two scores of one metric, measured in one setting."""

    mine: Score
    other: Score

    @property
    def direction(self) -> Direction | None:
        return _direction(self.mine, self.other)


def compared(rules: Sequence[Comparison], subject: Subject) -> Iterator[Finding]:
    """The findings of all comparisons of a policy, in order."""
    named = {rule.metric for rule in rules if not rule.is_pattern}
    for rule in rules:
        rival = _rival(rule, subject)
        if rival is None:
            yield Finding(_label(rule), Outcome.WAIVED, "no incumbent to compare with", metric=_exact(rule))
        elif rule.is_pattern:
            yield from _every(rule, subject, rival, named)
        else:
            yield _one(rule, subject, rival)


def _label(rule: Comparison) -> str:
    return f"{rule.metric} {rule.test}"


def _exact(rule: Comparison) -> str:
    return "" if rule.is_pattern else rule.metric


def _rival(rule: Comparison, subject: Subject) -> _Rival | None:
    incumbent = subject.incumbent
    if incumbent is not None:
        name = incumbent.reference.rpartition("@")[2]
        return _Rival(name, incumbent.scores, f"adapters score import {incumbent.reference} FILE", is_base=False)
    if rule.waive_if is WaiveIf.NO_INCUMBENT:
        return None
    name = f"the base {subject.base_reference}"
    command = f"adapters score import --base {subject.base_reference} FILE"
    return _Rival(name, subject.base_scores, command, is_base=True)


def _every(rule: Comparison, subject: Subject, rival: _Rival, named: set[str]) -> Iterator[Finding]:
    """One finding per metric that the pattern covers; one that says so when it covers none."""
    covered = _covered(rule, subject, rival, named)
    directed = [metric for metric in covered if _direction_of(metric, subject, rival) is not None]
    for metric in directed:
        yield _one(replace(rule, metric=metric), subject, rival)
    undirected = [metric for metric in covered if metric not in directed]
    if undirected:
        reason = f"not compared, because it is not clear which way is better: {', '.join(undirected)}"
        # Something must have been compared: directions left out everywhere would otherwise switch the rule off.
        outcome, fix = (Outcome.WAIVED, "") if directed else (Outcome.PENDING, _say_direction(subject, undirected[0]))
        yield Finding(_label(rule), outcome, reason, fix)
    elif not covered and rival.is_base:
        yield _nothing_to_compare(rule, rival)
    elif not covered and not named:
        yield Finding(_label(rule), Outcome.PENDING, f"{rival.name} has no score of such a metric", rival.score_it)


def _covered(rule: Comparison, subject: Subject, rival: _Rival, named: set[str]) -> list[str]:
    """The rival's metrics that the pattern means.

    A base may have been scored on many tasks for many adapters: of those, only what this Version was scored on too.
    """
    pattern = re.compile(".*".join(re.escape(part) for part in rule.metric.split("*")), re.DOTALL)
    metrics = {score.metric for score in rival.scores} - named
    if rival.is_base:
        metrics &= {score.metric for score in subject.scores}
    return sorted(metric for metric in metrics if pattern.fullmatch(metric))


def _nothing_to_compare(rule: Comparison, rival: _Rival) -> Finding:
    reason = f"no incumbent to compare with, and {rival.name} has no such score"
    return Finding(_label(rule), Outcome.WAIVED, reason, metric=_exact(rule))


def _one(rule: Comparison, subject: Subject, rival: _Rival) -> Finding:
    mine = [score for score in subject.scores if score.metric == rule.metric]
    others = [score for score in rival.scores if score.metric == rule.metric]
    blank = Finding(_label(rule), Outcome.PENDING, "", metric=rule.metric)
    if rival.is_base and not others:
        return _nothing_to_compare(rule, rival)
    if not mine:
        reason = f"never measured, but {rival.name} has {shown(others[-1].value)}" if others else "never measured"
        return replace(blank, reason=reason, fix=measure(subject, rule.metric))
    if not others:
        return replace(blank, reason=f"{rival.name} was never measured on it", fix=rival.score_it)
    pair = _comparable(mine, others)
    if pair is None:
        reason = f"measured differently from {rival.name}: {_differing(mine[-1], others[-1])}"
        return replace(blank, outcome=Outcome.INCOMPARABLE, reason=reason, fix="score both with the same settings")
    return _weighed(rule, pair, rival=rival, subject=subject, blank=blank)


def _comparable(mine: Sequence[Score], others: Sequence[Score]) -> _Pair | None:
    """The latest scores of both sides measured in one setting; the other side's settings are tried newest first."""
    for other in reversed(others):
        for score in reversed(mine):
            if score.setting == other.setting:
                return _Pair(score, other)
    return None


def _differing(mine: Score, other: Score) -> str:
    keys = sorted(mine.setting.keys() | other.setting.keys())
    pairs = [(key, mine.setting.get(key, "unknown"), other.setting.get(key, "unknown")) for key in keys]
    texts = [f"{key} {value}, there {theirs}" for key, value, theirs in pairs if value != theirs]
    more = len(texts) - LISTED_SETTINGS
    return "; ".join(texts[:LISTED_SETTINGS]) + (f"; and {more} more" if more > 0 else "")


def _weighed(rule: Comparison, pair: _Pair, *, rival: _Rival, subject: Subject, blank: Finding) -> Finding:
    if pair.direction is None:
        fix = _say_direction(subject, rule.metric)
        return replace(blank, outcome=Outcome.ERROR, reason=_unclear(pair, rival), fix=fix)
    if not math.isfinite(pair.mine.value):
        return not_a_number(blank, pair.mine)
    known = replace(blank, value=pair.mine.value, n=pair.mine.n)
    if not math.isfinite(pair.other.value):
        reason = f"{shown(pair.mine.value)}, but {rival.name} was measured as {unusable(pair.other)}"
        return replace(known, outcome=Outcome.INCONCLUSIVE, reason=reason, fix=rival.score_it)
    known = replace(known, baseline=pair.other.value, margin=rule.margin.of(pair.other.value))
    found = comparison.difference(pair.mine, pair.other, direction=pair.direction, confidence=rule.confidence)
    if found is None:
        return _without_spread(known, pair, rival=rival, subject=subject)
    return _tested(rule, found, pair, rival=rival, known=known)


def _tested(rule: Comparison, found: Difference, pair: _Pair, *, rival: _Rival, known: Finding) -> Finding:
    answer = comparison.shows(found, rule.test, margin=rule.margin.of(pair.other.value))
    outcome = {True: Outcome.PASS, False: Outcome.FAIL, None: Outcome.INCONCLUSIVE}[answer]
    return replace(
        known,
        outcome=outcome,
        reason=_told(rule, found, pair, rival),
        fix=_next_step(rule, found, pair, outcome),
        difference=found.mean,
        interval=(found.low, found.high),
        confidence=found.confidence,
        method=found.method,
    )


def _told(rule: Comparison, found: Difference, pair: _Pair, rival: _Rival) -> str:
    value, baseline = apart(pair.mine.value, pair.other.value)
    side = "better" if found.mean > 0 else "worse"
    change = f"{side} by {shown(abs(found.mean), digits=3)}" if found.mean else "equal"
    bounds = f"{found.confidence * 100:.4g}% bounds [{signed(found.low)}, {signed(found.high)}]"
    sizes = " and ".join(f"{score.n:,}" if score.n is not None else "unknown" for score in (pair.mine, pair.other))
    against = f"{value} against {baseline} of {rival.name}"
    return f"{against}: {change}, {bounds}, {_asked(rule, pair)}; {found.method}, n={sizes}"


def _asked(rule: Comparison, pair: _Pair) -> str:
    margin = shown(rule.margin.of(pair.other.value), digits=3) + (f" ({rule.margin})" if rule.margin.relative else "")
    if rule.test is Test.SUPERIOR:
        return f"must be better by more than {margin}"
    return f"must not be worse by more than {margin}"


def _next_step(rule: Comparison, found: Difference, pair: _Pair, outcome: Outcome) -> str:
    if outcome is Outcome.PASS:
        return ""
    if outcome is Outcome.FAIL:
        return "promote another version, or set another margin in the stage's policy"
    margin = rule.margin.of(pair.other.value)
    needed = comparison.samples_to_decide(found, rule.test, margin=margin, candidate=pair.mine, baseline=pair.other)
    if needed is None:
        return "score both on more samples"
    return f"score both on more samples: about {needed:,} each would decide if the difference stays"


def _without_spread(known: Finding, pair: _Pair, *, rival: _Rival, subject: Subject) -> Finding:
    """Two bare numbers: without a standard error nobody can tell a difference from noise, so it decides nothing."""
    sides = ((subject.reference, pair.mine), (rival.name, pair.other))
    lacking = [name for name, score in sides if comparison.spread(score, confidence=0.95) is None]
    rate = is_rate(pair.mine.metric)
    wanted = "a standard error or the number of samples" if rate else "a standard error"
    value, baseline = apart(pair.mine.value, pair.other.value)
    reason = f"{value} against {baseline} of {rival.name}, but {wanted} is missing for {' and '.join(lacking)}"
    options = "--stderr S or --n N" if rate else "--stderr S"
    fix = f"record it with the value: adapters score add VERSION --metric {pair.mine.metric} --value V {options}"
    return replace(known, outcome=Outcome.INCONCLUSIVE, reason=reason, fix=fix)


def _direction(*scores: Score | None) -> Direction | None:
    """What the scores say; None when none says, or two disagree."""
    said = {score.direction for score in scores if score is not None and score.direction is not None}
    return said.pop() if len(said) == 1 else None


def _direction_of(metric: str, subject: Subject, rival: _Rival) -> Direction | None:
    return _direction(latest(subject.scores, metric), latest(rival.scores, metric))


def _unclear(pair: _Pair, rival: _Rival) -> str:
    if pair.mine.direction is not pair.other.direction:
        return f"its score says {pair.mine.direction} is better, that of {rival.name} says {pair.other.direction}"
    return "neither score says which way is better"


def _say_direction(subject: Subject, metric: str) -> str:
    command = f"adapters score add {subject.reference} --metric {metric} --value V --better higher"
    return f"say it with the score, `higher` or `lower`: {command}"
