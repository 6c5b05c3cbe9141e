"""Rules about a Version's own scores: whether there are any that count, and whether they keep their bounds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from adapter_registry.domain.evidence.metric import off_scale
from adapter_registry.domain.evidence.score import Direction, RecordedScore, Score
from adapter_registry.domain.evidence.suite import missing
from adapter_registry.domain.figures import apart, count, shown
from adapter_registry.domain.policies.evals import DAY, Bound, Demands, EvalGroup
from adapter_registry.domain.promotions.finding import Finding, Outcome, Subject


def counted(recorded: Iterable[RecordedScore], demands: Demands, subject: Subject, *, aged: bool = True) -> list[Score]:
    """The scores that count as evidence, in the order they were recorded.

    Args:
        recorded: of one version or base.
        demands: what they must be like.
        subject: what is judged, for its moment and its suites.
        aged: whether old ones do not count.
    """
    return [each.score for each in recorded if not against(each, demands, subject, aged=aged)]


def against(each: RecordedScore, demands: Demands, subject: Subject, *, aged: bool = True) -> str:
    """Why a score does not count as evidence, in words; empty when it does."""
    score, fewest = each.score, demands.samples_of(each.score.metric)
    suite = subject.suites.get(demands.suite)
    if each.invalid is not None:
        return f"invalid: {each.invalid.because}"
    if suite is not None and score.suite != suite.reference:
        return f"measured by {score.suite or 'no suite'}, and {suite.reference} is asked for"
    if demands.verified and not each.verified:
        return "claimed: somebody brought it, and what this registry measured is asked for"
    if aged and demands.max_age is not None and is_old(each, demands.max_age, subject.at):
        return f"measured on {each.measured_at[:10]}, more than {_age(demands.max_age)} ago"
    if fewest is not None and (score.n is None or score.n < fewest):
        size = count(score.n, "sample") if score.n is not None else "an unknown number of samples"
        return f"measured on {size}, fewer than {fewest:,}"
    return _cut_short(score) if demands.full_run else ""


def _cut_short(score: Score) -> str:
    if "limit" in score.setting:
        return f"measured with a sample limit ({score.setting['limit']}), and a full run is asked for"
    return "" if score.evidence else "entered by hand, which does not show that every sample was run"


def is_old(each: RecordedScore, seconds: int, at: str) -> bool:
    """Whether a score was measured more than `seconds` before `at`; one with an unreadable time is old."""
    try:
        return datetime.fromisoformat(at) - datetime.fromisoformat(each.measured_at) > timedelta(seconds=seconds)
    except (ValueError, TypeError):
        return True


def _age(seconds: int) -> str:
    return count(seconds // DAY, "day") if seconds % DAY == 0 else count(seconds // 3600, "hour")


def latest(scores: Iterable[Score], metric: str) -> Score | None:
    """The score of `metric` that counts: the one recorded last."""
    return next((score for score in reversed(tuple(scores)) if score.metric == metric), None)


def unfit(recorded: Sequence[RecordedScore], metric: str, demands: Demands, subject: Subject) -> str:
    """Why none of the scores of a metric counts, told of the last one; empty when there is none."""
    last = next((each for each in reversed(recorded) if each.score.metric == metric), None)
    return against(last, demands, subject) if last is not None else ""


# Rules


def own(group: EvalGroup, subject: Subject) -> Iterator[Finding]:
    """The findings about the Version's own scores: whether it has any, its suite, its bounds."""
    scores = counted(subject.scores, group.demands, subject)
    if group.demands.suite:
        yield _whole_suite(group.demands, scores, subject)
    if group.any:
        yield _measured_at_all(group.demands, scores, subject)
    for bound in group.bounds:
        yield replace(_within(bound, scores, group.demands, subject), shadow=bound.shadow)


def _whole_suite(demands: Demands, scores: Sequence[Score], subject: Subject) -> Finding:
    suite = subject.suites.get(demands.suite)
    if suite is None:
        fix = "set it: adapters score suite set FILE"
        return Finding(f"suite {demands.suite}", Outcome.ERROR, "there is no such suite", fix)
    rule, total = f"suite {suite.reference}", len(suite.metrics)
    lacking = missing(suite, scores)
    if not lacking:
        return Finding(rule, Outcome.PASS, f"{total:,} of {count(total, 'metric')} measured")
    reasons = [unfit(subject.scores, each.metric, demands, subject) for each in suite.metrics]
    why = next((f" ({reason})" for reason in reasons if reason), "")
    listed = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3:,} more" if len(lacking) > 3 else "")
    reason = f"{total - len(lacking):,} of {count(total, 'metric')} measured; missing: {listed}{why}"
    return Finding(rule, Outcome.PENDING, reason, score_it(subject, demands))


def _measured_at_all(demands: Demands, scores: Sequence[Score], subject: Subject) -> Finding:
    """Whether there is at least one score that is a number."""
    rule = "any score"
    if not scores:
        last = subject.scores[-1] if subject.scores else None
        why = against(last, demands, subject) if last is not None else ""
        reason = f"no score counts; the last, {last.score.metric}, is {why}" if last and why else "never measured"
        return Finding(rule, Outcome.PENDING, reason, score_it(subject, demands))
    metrics = sorted({score.metric for score in scores if math.isfinite(score.value)})
    if not metrics:
        return Finding(rule, Outcome.FAIL, "no score it has is a number", NOT_A_NUMBER)
    listed = ", ".join(metrics[:3]) + (f" and {len(metrics) - 3:,} more" if len(metrics) > 3 else "")
    return Finding(rule, Outcome.PASS, f"{count(len(metrics), 'metric')} measured: {listed}")


def _within(bound: Bound, scores: Sequence[Score], demands: Demands, subject: Subject) -> Finding:
    """Whether the latest score of the bound's metric keeps it."""
    rule, score = _rule_of(bound), latest(scores, bound.metric)
    blank = Finding(rule, Outcome.PENDING, "", metric=bound.metric, bound=_only_limit(bound))
    if score is None:
        reason = unfit(subject.scores, bound.metric, demands, subject) or "never measured"
        return replace(blank, reason=reason, fix=measure(subject, bound.metric, demands))
    if contradiction := _wrong_way(bound, score):
        return replace(blank, outcome=Outcome.ERROR, reason=contradiction, fix="correct the rule in the stage's policy")
    if not math.isfinite(score.value):
        return not_a_number(blank, score)
    judged = replace(blank, value=score.value, n=score.n)
    if off_scale(score.metric, score.value):
        return replace(judged, outcome=Outcome.ERROR, reason=_NO_SHARE.format(shown(score.value)), fix=SHARE)
    return _held_against(bound, score, judged)


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

_NO_SHARE = "a rate lies between 0 and 1, and {} does not: is it a percentage?"
SHARE = "score it again as a share: 0.447 instead of 44.7"
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


def score_it(subject: Subject, demands: Demands) -> str:
    """The command that gives the Version scores that count."""
    if demands.verified:
        # What somebody imports or measures elsewhere is claimed, and would not count.
        suite = demands.suite or "FILE"
        return f"have a job measure it: adapters score run {subject.reference} --suite {suite} --submit"
    suite = f" --suite {demands.suite}" if demands.suite else ""
    return f"adapters score import {subject.reference} FILE{suite}"


def measure(subject: Subject, metric: str, demands: Demands) -> str:
    """The command that gives the Version a score of `metric`, and what it has under a similar name."""
    others = sorted({each.score.metric for each in subject.scores} - {metric})
    near = difflib.get_close_matches(metric, others, n=3)
    return score_it(subject, demands) + (f" (measured so far: {', '.join(near)})" if near else "")
