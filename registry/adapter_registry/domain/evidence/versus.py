"""Rules that compare a Version's scores with those of the stage's incumbent, or of its base."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adapter_registry.domain.digest import hex_of, of_json
from adapter_registry.domain.evidence import comparison, outcomes
from adapter_registry.domain.evidence.comparison import Difference
from adapter_registry.domain.evidence.intervals import Estimate
from adapter_registry.domain.evidence.metric import is_rate, off_scale
from adapter_registry.domain.evidence.own import SHARE, counted, latest, measure, not_a_number, unfit, unusable
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.figures import apart, shown, signed
from adapter_registry.domain.policies.evals import Against, Comparison, Demands, EvalGroup, Test, WaiveIf
from adapter_registry.domain.promotions.finding import Finding, Outcome, Subject

_TOO_LARGE = "its bounds are too large for numbers"
LISTED_SETTINGS = 6
"""How many differing settings a finding names one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class _Rival:
    """The other side: what to call it, its scores that count, all it has, how to score it, whether it is the base."""

    name: str
    scores: tuple[Score, ...]
    recorded: tuple[RecordedScore, ...]
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


@dataclass(frozen=True, slots=True)
class _Side:
    """The judged Version, its scores that count, and what made them count."""

    subject: Subject
    scores: tuple[Score, ...]
    demands: Demands


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A comparison with everything it rests on, before several at once are allowed for."""

    rule: Comparison
    pair: _Pair
    rival: _Rival
    known: Finding
    found: Estimate

    @property
    def margin(self) -> float:
        return self.rule.margin.of(self.pair.other.value)


def compared(groups: Sequence[EvalGroup], subject: Subject) -> dict[int, list[Finding]]:
    """Group's place -> the findings of its comparisons, in order.

    Several claims of superiority are held to Holm's smaller errors, over all groups. That no metric is inferior needs
    no correction: all of them must pass, so that the chance of a wrong pass is at most that of one.
    """
    named = {rule.metric for group in groups for rule in group.comparisons if not rule.is_pattern}
    weighed = [
        (place, each)
        for place, group in enumerate(groups)
        for rule in group.comparisons
        for each in _of_rule(rule, _side(group, subject), named)
    ]
    claims = [each for _, each in weighed if _claims(each)]
    divisors = iter(comparison.holm([_chance(each) for each in claims], [_allowed(each) for each in claims]))
    told: dict[int, list[Finding]] = {}
    for place, each in weighed:
        divisor = next(divisors) if _claims(each) else 1
        finding = _tested(each, divisor, len(claims)) if isinstance(each, _Weighed) else each
        told.setdefault(place, []).append(finding)
    return told


def _side(group: EvalGroup, subject: Subject) -> _Side:
    return _Side(subject, tuple(counted(subject.scores, group.demands, subject)), group.demands)


def _claims(each: _Weighed | Finding) -> bool:
    """Whether it is one of the claims that are corrected together: shadows claim nothing."""
    return isinstance(each, _Weighed) and each.rule.test is Test.SUPERIOR and not each.rule.shadow


def _chance(each: _Weighed | Finding) -> float:
    return comparison.chance(each.found, margin=each.margin) if isinstance(each, _Weighed) else 1.0


def _allowed(each: _Weighed | Finding) -> float:
    return 1 - each.rule.confidence if isinstance(each, _Weighed) else 1.0


def _of_rule(rule: Comparison, side: _Side, named: set[str]) -> Iterator[_Weighed | Finding]:
    rivals = _rivals(rule, side)
    if not rivals:
        of = "made of no other version" if rule.against is Against.PARENTS else "no incumbent to compare with"
        found: list[_Weighed | Finding] = [Finding(_label(rule), Outcome.WAIVED, of, metric=_exact(rule))]
    else:
        found = [
            each
            for rival in rivals
            for each in (_every(rule, side, rival, named) if rule.is_pattern else [_one(rule, side, rival)])
        ]
    for each in found:
        yield replace(each, shadow=rule.shadow) if isinstance(each, Finding) else each


def _label(rule: Comparison, rival: _Rival | None = None) -> str:
    whom = {Against.BASE: " to the base", Against.PARENTS: f" to {rival.name if rival else 'its parents'}"}
    return f"{rule.metric} {rule.test}" + whom.get(rule.against, "")


def _exact(rule: Comparison) -> str:
    return "" if rule.is_pattern else rule.metric


def _rivals(rule: Comparison, side: _Side) -> list[_Rival]:
    """Whom a rule compares with: one other side, or each parent; empty when there is nobody."""
    if rule.against is Against.PARENTS:
        return [
            _Rival(each.reference, _of(each.scores, side), each.scores, _import(each.reference), False)
            for each in side.subject.parents
        ]
    found = _rival(rule, side)
    return [found] if found else []


def _import(what: str) -> str:
    return f"adapters score import {what} FILE"


def _of(recorded: tuple[RecordedScore, ...], side: _Side) -> tuple[Score, ...]:
    """The other side's scores that count; age is not asked of them."""
    return tuple(counted(recorded, side.demands, side.subject, aged=False))


def _rival(rule: Comparison, side: _Side) -> _Rival | None:
    subject, incumbent = side.subject, side.subject.incumbent
    is_base = incumbent is None or rule.against is Against.BASE
    if is_base and rule.waive_if is WaiveIf.NO_INCUMBENT:
        return None
    if incumbent is not None and not is_base:
        name, recorded = incumbent.reference.rpartition("@")[2], incumbent.scores
        command = _import(incumbent.reference)
    else:
        name, recorded = f"the base {subject.base_reference}", subject.base_scores
        command = _import(f"--base {subject.base_reference}")
    return _Rival(name, _of(recorded, side), recorded, command, is_base)


def _every(rule: Comparison, side: _Side, rival: _Rival, named: set[str]) -> Iterator[_Weighed | Finding]:
    """One finding per metric that the pattern covers; one that says so when it covers none."""
    covered = _covered(rule, side, rival, named)
    directed = [metric for metric in covered if _direction_of(metric, side, rival) is not None]
    for metric in directed:
        yield _one(replace(rule, metric=metric), side, rival)
    undirected = [metric for metric in covered if metric not in directed]
    if undirected:
        reason = f"not compared, because it is not clear which way is better: {', '.join(undirected)}"
        # Something must have been compared: directions left out everywhere would otherwise switch the rule off.
        outcome, fix = (
            (Outcome.WAIVED, "") if directed else (Outcome.PENDING, _say_direction(side.subject, undirected[0]))
        )
        yield Finding(_label(rule, rival), outcome, reason, fix)
    elif not covered and rival.is_base:
        yield _nothing_to_compare(rule, rival, side)
    elif not covered and not named:
        yield Finding(
            _label(rule, rival), Outcome.PENDING, f"{rival.name} has no score of such a metric", rival.score_it
        )


def _covered(rule: Comparison, side: _Side, rival: _Rival, named: set[str]) -> list[str]:
    """The rival's metrics that the pattern means.

    A base may have been scored on many tasks for many adapters: of those, only what this Version was scored on too.
    """
    pattern = re.compile(".*".join(re.escape(part) for part in rule.metric.split("*")), re.DOTALL)
    metrics = {score.metric for score in rival.scores} - named
    if rival.is_base:
        metrics &= {score.metric for score in side.scores}
    return sorted(metric for metric in metrics if pattern.fullmatch(metric))


def _nothing_to_compare(rule: Comparison, rival: _Rival, side: _Side) -> Finding:
    first = "" if rule.against is Against.BASE else "no incumbent to compare with, and "
    why = _unfit(rule.metric, rival, side)
    reason = f"{first}{rival.name} has no such score" + (f" that counts: {why}" if why else "")
    return Finding(_label(rule), Outcome.WAIVED, reason, metric=_exact(rule))


def _unfit(metric: str, rival: _Rival, side: _Side) -> str:
    """Why none of the rival's scores of a metric counts; age is not asked of it."""
    return unfit(rival.recorded, metric, replace(side.demands, max_age=None), side.subject)


def _one(rule: Comparison, side: _Side, rival: _Rival) -> _Weighed | Finding:
    subject = side.subject
    mine = [score for score in side.scores if score.metric == rule.metric]
    others = [score for score in rival.scores if score.metric == rule.metric]
    blank = Finding(_label(rule, rival), Outcome.PENDING, "", metric=rule.metric)
    if rival.is_base and not others:
        return _nothing_to_compare(rule, rival, side)
    if not mine:
        why = unfit(subject.scores, rule.metric, side.demands, subject) or "never measured"
        reason = f"{why}, but {rival.name} has {shown(others[-1].value)}" if others else why
        return replace(blank, reason=reason, fix=measure(subject, rule.metric, side.demands))
    if not others:
        why = _unfit(rule.metric, rival, side)
        reason = f"what {rival.name} has does not count: {why}" if why else f"{rival.name} was never measured on it"
        return replace(blank, reason=reason, fix=rival.score_it)
    pair = _comparable(mine, others)
    if pair is None:
        reason = f"measured differently from {rival.name}: {differing(mine[-1], others[-1])}"
        return replace(blank, outcome=Outcome.INCOMPARABLE, reason=reason, fix="score both with the same settings")
    return _weighed(rule, pair, rival=rival, subject=subject, blank=blank)


def _comparable(mine: Sequence[Score], others: Sequence[Score]) -> _Pair | None:
    """The latest scores of both sides measured in one setting; the other side's settings are tried newest first."""
    for other in reversed(others):
        for score in reversed(mine):
            if score.setting == other.setting:
                return _Pair(score, other)
    return None


def differing(mine: Score, other: Score) -> str:
    """In which settings two scores were measured differently: `shots 5, there 0`."""
    keys = sorted(mine.setting.keys() | other.setting.keys())
    pairs = [(key, mine.setting.get(key, "unknown"), other.setting.get(key, "unknown")) for key in keys]
    texts = [f"{key} {value}, there {theirs}" for key, value, theirs in pairs if value != theirs]
    more = len(texts) - LISTED_SETTINGS
    return "; ".join(texts[:LISTED_SETTINGS]) + (f"; and {more} more" if more > 0 else "")


def _weighed(rule: Comparison, pair: _Pair, *, rival: _Rival, subject: Subject, blank: Finding) -> _Weighed | Finding:
    if pair.direction is None:
        fix = _say_direction(subject, rule.metric)
        return replace(blank, outcome=Outcome.ERROR, reason=_unclear(pair, rival), fix=fix)
    if not math.isfinite(pair.mine.value):
        return not_a_number(blank, pair.mine)
    known = replace(blank, value=pair.mine.value, n=pair.mine.n)
    if not math.isfinite(pair.other.value):
        reason = f"{shown(pair.mine.value)}, but {rival.name} was measured as {unusable(pair.other)}"
        return replace(known, outcome=Outcome.INCONCLUSIVE, reason=reason, fix=rival.score_it)
    if off_scale(rule.metric, pair.mine.value) != off_scale(rule.metric, pair.other.value):
        texts = f"{shown(pair.mine.value)} against {shown(pair.other.value)} of {rival.name}"
        reason = f"{texts}: one is a share between 0 and 1, the other looks like a percentage"
        return replace(known, outcome=Outcome.INCOMPARABLE, reason=reason, fix=SHARE)
    known = replace(known, baseline=pair.other.value, margin=rule.margin.of(pair.other.value))
    found = _estimate(pair, pair.direction, subject)
    if found is None or comparison.bounded(found, confidence=rule.confidence) is None:
        return _without_spread(known, pair, rival=rival, subject=subject)
    return _Weighed(rule, pair, rival, known, found)


def _estimate(pair: _Pair, direction: Direction, subject: Subject) -> Estimate | None:
    """By the samples that both sides have, where outcomes are stored; else by their values and errors."""
    digests = [score.outcomes for score in (pair.mine, pair.other)]
    sides = [subject.outcomes(digest) if digest else None for digest in digests]
    pairs = outcomes.common(sides[0], sides[1]) if sides[0] and sides[1] else []
    seed = int(hex_of(of_json({"outcomes": digests}))[:8], 16) if pairs else 0
    return comparison.estimate(pair.mine, pair.other, direction=direction, pairs=pairs, seed=seed)


def _tested(each: _Weighed, divisor: int, claims: int) -> Finding:
    """The finding of a comparison, its error divided by `divisor` because of that many claims."""
    rule = each.rule
    found = comparison.bounded(each.found, confidence=1 - (1 - rule.confidence) / divisor)
    if found is None:
        return replace(each.known, outcome=Outcome.ERROR, reason=_TOO_LARGE, shadow=rule.shadow)
    answer = comparison.shows(found, rule.test, margin=each.margin)
    outcome = {True: Outcome.PASS, False: Outcome.FAIL, None: Outcome.INCONCLUSIVE}[answer]
    needed = _more(each, found) if outcome is Outcome.INCONCLUSIVE else None
    corrected = _correction(rule, divisor, claims)
    return replace(
        each.known,
        outcome=outcome,
        reason=f"{_told(each, found)}{', ' + corrected if claims > 1 and _claims(each) else ''}",
        fix=_next_step(outcome, needed, each),
        difference=found.mean,
        interval=(found.low, found.high),
        confidence=found.confidence,
        n=each.found.n if each.found.n is not None else each.known.n,
        method=found.method,
        correction=corrected,
        needed=needed,
        shadow=rule.shadow,
    )


def _correction(rule: Comparison, divisor: int, claims: int) -> str:
    if rule.shadow:
        return "none: it decides nothing"
    if rule.test is Test.NON_INFERIOR:
        return "none needed: all must pass"
    return f"Holm: error divided by {divisor} of {claims} claims" if claims > 1 else "none needed: one claim"


def _told(each: _Weighed, found: Difference) -> str:
    """Value, difference, bounds, margin, method and n, in one order, so that findings can be read down a column."""
    rule, pair = each.rule, each.pair
    value, baseline = apart(pair.mine.value, pair.other.value)
    side = "better" if found.mean > 0 else "worse"
    change = f"{side} by {shown(abs(found.mean), digits=3)}" if found.mean else "equal"
    percent = f"{found.confidence * 100:.4g}%"
    sign = "+" if rule.test is Test.SUPERIOR else "-"
    margin = f"{sign}{shown(each.margin, digits=3)}" + (f" ({rule.margin})" if rule.margin.relative else "")
    sizes = _sizes(each)
    return (
        f"{value} against {baseline} of {each.rival.name}: {change}, "
        f"{percent} bounds [{signed(found.low)}, {signed(found.high)}], margin {margin}; {found.method}, n={sizes}"
    )


def _sizes(each: _Weighed) -> str:
    if each.found.method.startswith("paired"):
        return f"{each.found.n:,}"
    sizes = [f"{score.n:,}" if score.n is not None else "unknown" for score in (each.pair.mine, each.pair.other)]
    return sizes[0] if sizes[0] == sizes[1] != "unknown" else " and ".join(sizes)


def _more(each: _Weighed, found: Difference) -> int | None:
    needed = comparison.samples_to_decide(each.found, each.rule.test, margin=each.margin, confidence=found.confidence)
    return needed - each.found.n if needed is not None and each.found.n is not None else None


def _next_step(outcome: Outcome, needed: int | None, each: _Weighed) -> str:
    n = each.found.n
    if outcome is Outcome.PASS:
        return ""
    if outcome is Outcome.FAIL:
        return "promote another version, or set another margin in the stage's policy"
    if n is None:
        return "score both on more samples, and say how many there are (n)"
    if needed is None:
        return "as it stands no number of samples would decide: score both on more, and a difference may show"
    even = each.found.method.startswith("paired") or each.pair.mine.n == each.pair.other.n
    more = f"{needed:,} more samples, {needed + n:,} in all" if even else f"at least {needed + n:,} samples"
    return f"score both on {more}: that decides if the difference stays"


def _without_spread(known: Finding, pair: _Pair, *, rival: _Rival, subject: Subject) -> Finding:
    """Two bare numbers: without a standard error nobody can tell a difference from noise, so it decides nothing."""
    sides = ((subject.reference, pair.mine), (rival.name, pair.other))
    lacking = [name for name, score in sides if comparison.spread(score) is None]
    if not lacking:
        return replace(known, outcome=Outcome.INCONCLUSIVE, reason=_TOO_LARGE)
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


def _direction_of(metric: str, side: _Side, rival: _Rival) -> Direction | None:
    return _direction(latest(side.scores, metric), latest(rival.scores, metric))


def _unclear(pair: _Pair, rival: _Rival) -> str:
    if pair.mine.direction is not pair.other.direction:
        return f"its score says {pair.mine.direction} is better, that of {rival.name} says {pair.other.direction}"
    return "neither score says which way is better"


def _say_direction(subject: Subject, metric: str) -> str:
    command = f"adapters score add {subject.reference} --metric {metric} --value V --better higher"
    return f"say it with the score, `higher` or `lower`: {command}"
