"""Lint: what in a policy nothing can ever satisfy, and what is likely not meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence.metric import is_rate, known_direction
from adapter_registry.domain.evidence.score import Direction
from adapter_registry.domain.evidence.suite import Suite, parse
from adapter_registry.domain.policies.evals import Bound, Comparison, EvalGroup, Test
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import NEVER
from adapter_registry.domain.promotions.stage import Ladder
from adapter_registry.domain.servable import parse as parse_stack
from adapter_registry.domain.servable_rules import STACKS


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing about a policy.

    Attributes:
        rule: the rule it is about, as findings name it.
        text: what is wrong with it, in one sentence.
        impossible: whether nothing can satisfy it; else it only is likely not meant.
    """

    rule: str
    text: str
    impossible: bool


def lint(policy: Policy, suites: Sequence[Suite]) -> tuple[Advice, ...]:
    """Everything to say of a policy's evals, stacks and override; `suites` are those that the registry knows."""
    found: list[Advice] = []
    for group in policy.evals.all_groups:
        found += _suite(group, suites)
        for rule in group.rules:
            advice = _bound(rule) if isinstance(rule, Bound) else _comparison(rule)
            # A shadow is never in the way, whatever it asks.
            found += [replace(each, impossible=each.impossible and not rule.shadow) for each in advice]
    return (*found, *_idle(policy), *_crossed(policy), *_serving(policy), *_overriding(policy))


def misplaced(policy: Policy, ladder: Ladder) -> tuple[Advice, ...]:
    """The stages in a policy's `from` and `soak` that are not below its own."""
    process, lower = policy.process, ladder.below(policy.stage)
    named = [("from", each) for each in (*process.sources.stages, *process.sources.hotfix)] if process.sources else []
    named += [("soak", process.soak.stage)] if process.soak else []
    under = f"below {policy.stage} is {', '.join(lower)}" if lower else f"nothing is below {policy.stage}"
    return tuple(
        Advice(rule, f"{each} is not below {policy.stage}: {under}", impossible=True)
        for rule, each in dict.fromkeys(named)
        if each not in lower
    )


def unfed(policy: Policy) -> tuple[Advice, ...]:
    """That nothing says what the registry should promote by itself."""
    if not policy.process.auto or policy.process.sources:
        return ()
    return (Advice("auto_promote", "it needs `from`: the stages whose versions come by themselves", impossible=True),)


def _suite(group: EvalGroup, suites: Sequence[Suite]) -> Iterator[Advice]:
    if not group.demands.suite:
        return
    rule = f"suite {group.demands.suite}"
    name, version = parse(group.demands.suite)
    known = [suite for suite in suites if suite.name == name and version in (None, suite.version)]
    if not known:
        yield Advice(
            rule,
            "there is no such suite, so that no evidence can be of it: adapters score suite set FILE",
            impossible=True,
        )
        return
    metrics = {each.metric for each in known[-1].metrics}
    for rule_on in group.rules:
        pattern = isinstance(rule_on, Comparison) and rule_on.is_pattern
        if not pattern and rule_on.metric not in metrics:
            text = f"{known[-1].reference} does not measure it"
            yield Advice(rule_on.metric, text, impossible=not rule_on.shadow)
    newest = max(suite.version for suite in suites if suite.name == name)
    if version is not None and version < newest:
        yield Advice(rule, f"{name}@{newest} is newer", impossible=False)


def _bound(bound: Bound) -> Iterator[Advice]:
    rule, way = bound.metric, known_direction(bound.metric)
    if bound.min is not None and bound.max is None and way is Direction.LOWER:
        yield Advice(rule, "lower is better, but only a floor is set", impossible=True)
    if bound.max is not None and bound.min is None and way is Direction.HIGHER:
        yield Advice(rule, "higher is better, but only a ceiling is set", impossible=True)
    if not is_rate(rule):
        return
    if bound.min is not None and bound.min > 1:
        text = f"a rate is at most 1, and the floor is {bound.min:g}: is it a percentage?"
        yield Advice(rule, text, impossible=True)
    if bound.max is not None and bound.max < 0:
        yield Advice(rule, f"a rate is at least 0, and the ceiling is {bound.max:g}", impossible=True)


def _comparison(comparison: Comparison) -> Iterator[Advice]:
    rule, margin = f"{comparison.metric} {comparison.test}", comparison.margin
    if not margin.relative and margin.amount >= 1 and is_rate(comparison.metric):
        if comparison.test is Test.SUPERIOR:
            yield Advice(rule, "no rate can be better by more than 1", impossible=True)
        else:
            yield Advice(rule, "no rate can be worse by more than 1: it asks nothing", impossible=False)
    if comparison.test is Test.NON_INFERIOR and margin.amount == 0:
        yield Advice(rule, "with no margin only a significant gain passes, as with `superior`", impossible=False)
    if comparison.test is Test.SUPERIOR and comparison.is_pattern:
        yield Advice(rule, "every metric it covers has to be better, each at a smaller error", impossible=False)


def _idle(policy: Policy) -> Iterator[Advice]:
    """Groups that say what evidence has to be like, and ask for none."""
    for group in policy.evals.groups:
        if not (group.demands.suite or group.any or group.rules):
            text = "a group with demands on the evidence and no rule asks nothing: give it `any: true`, or rules"
            yield Advice("evals", text, impossible=False)


def _crossed(policy: Policy) -> Iterator[Advice]:
    """Floors above ceilings that different rules set."""
    floors: dict[str, list[float]] = defaultdict(list)
    ceilings: dict[str, list[float]] = defaultdict(list)
    for bound in (each for group in policy.evals.all_groups for each in group.bounds if not each.shadow):
        floors[bound.metric] += [bound.min] if bound.min is not None else []
        ceilings[bound.metric] += [bound.max] if bound.max is not None else []
    for metric in floors:
        if ceilings[metric] and floors[metric] and max(floors[metric]) > min(ceilings[metric]):
            low, high = max(floors[metric]), min(ceilings[metric])
            yield Advice(metric, f"one rule asks for at least {low:g}, another for at most {high:g}", impossible=True)


def _serving(policy: Policy) -> Iterator[Advice]:
    for text in policy.serving:
        rule = f"serving {text}"
        try:
            stack = parse_stack(text)
        except InvalidInput as unknown:
            yield Advice(rule, unknown.text, impossible=True)
            continue
        if stack.name == "peft":
            yield Advice(rule, "PEFT loads whatever was pushed: it asks nothing", impossible=False)
        newest = STACKS[stack.name].versions[-1:]
        if stack.version and stack.version not in newest:
            yield Advice(rule, f"{stack.name}:{newest[0]} is newer", impossible=False)


_RULES = {"from", "soak", "freeze", "hold", "approvals", "auto_promote", "health", "ancestry", "metadata", "serving"}
_RULES |= {*NEVER, "any", "suite"}
"""First words of the findings that no metric gives its name."""


def _overriding(policy: Policy) -> Iterator[Advice]:
    over, rule = policy.process.overriding, "override"
    if over is None:
        return
    evals = policy.evals.all_groups
    metrics = {each.metric for group in evals for each in group.bounds}
    metrics |= {each.metric for group in evals for each in group.comparisons}
    if not any("*" in metric for metric in metrics):
        for name in over.never:
            if name.split()[:1] and name.split()[0] not in _RULES | metrics:
                yield Advice(rule, f"never names {name}, which is no rule of this policy", impossible=False)
    if not over.count and policy.process.approvals and "approvals" not in over.never:
        text = "with no approvals of its own, whoever asks passes over everybody else's: put approvals into never"
        yield Advice(rule, text, impossible=False)
