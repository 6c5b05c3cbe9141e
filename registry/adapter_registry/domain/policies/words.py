"""A policy in sentences, for people who do not read its document."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_registry.domain.policies.evals import Against, Bound, Comparison, Demands, EvalGroup, Test
from adapter_registry.domain.policies.policy import Matched, Policy
from adapter_registry.domain.policies.process import Approvals, Mode, Process, span

Rule = tuple[str, str]
"""(what it is about, the sentence)."""


def in_words(policy: Policy) -> tuple[Rule, ...]:
    """Everything that a policy asks, in the order in which it is judged."""
    return (*_version(policy), *_evals(policy), *_way_in(policy.process), *_afterwards(policy.process))


def _version(policy: Policy) -> Iterator[Rule]:
    if policy.integrity and policy.integrity.safetensors:
        yield "integrity", "Its weights are safetensors: loading them runs nothing."
    if policy.integrity and (signers := policy.integrity.signature):
        whose = _and(signers.keys) if signers.keys else "that are trusted for it"
        yield "signature", f"It is signed by at least {signers.count} of the keys {whose}."
    if policy.integrity and (scan := policy.integrity.scan):
        since = f" in the last {span(scan.max_age)}" if scan.max_age is not None else ""
        yield "scan", f"{_and(scan.by)} looked through its files{since}, and no scanner found anything."
    if policy.verdicts:
        yield "compatibility", f"It fits its base: {_or(policy.verdicts)}."
    if policy.health:
        wants = {
            Matched.ALL: "it changes every module that it names",
            Matched.SOME: "it changes at least one module that it names",
        }
        asked = [wants[policy.health.matched_modules]] if policy.health.matched_modules else []
        asked += ["no value is NaN or infinite"] if policy.health.finite else []
        asked += ["it changes something"] if policy.health.nonzero else []
        yield "health", _sentence("; ".join(asked))
    ancestry = "is only warned of" if policy.revoked_ancestors_pass else "is refused"
    yield "ancestry", f"What was made of a revoked version {ancestry}."
    if policy.metadata:
        yield "metadata", f"It states {_and(policy.metadata)}."


def _evals(policy: Policy) -> Iterator[Rule]:
    for group in policy.evals.all_groups:
        demands = _demands(group.demands)
        for about, text in _group(group):
            yield about, text + (f" Only scores that are {demands} count." if demands else "")


def _group(group: EvalGroup) -> Iterator[Rule]:
    if group.demands.suite:
        yield "scores", f"Everything of the suite {group.demands.suite} was measured."
    if group.any:
        yield "scores", "At least one score, whatever it says."
    for bound in group.bounds:
        yield "scores", _shadow(bound, _bound(bound)) + "."
    for comparison in group.comparisons:
        yield "comparison", _shadow(comparison, _comparison(comparison)) + "."


def _bound(bound: Bound) -> str:
    limits = [f"at least {bound.min:g}"] if bound.min is not None else []
    limits += [f"at most {bound.max:g}"] if bound.max is not None else []
    return f"{bound.metric} is {' and '.join(limits)}"


def _comparison(rule: Comparison) -> str:
    beside = {
        Against.INCUMBENT: "the version that it replaces",
        Against.BASE: "the base",
        Against.PARENTS: "each version that it was made of",
    }[rule.against]
    metric = "Every metric" if rule.metric == "*" else rule.metric
    by = "" if rule.margin.amount == 0 else f" by more than {rule.margin}"
    worse = rule.test is Test.NON_INFERIOR
    waived = "; waived while the stage is empty" if rule.waive_if else ""
    shown = f"{metric} is {'not worse' if worse else 'better'} than that of {beside}{by}"
    return f"{shown}, at {rule.confidence:.0%} confidence{waived}"


def _shadow(rule: Bound | Comparison, text: str) -> str:
    return f"{text} (shown only, never in the way)" if rule.shadow else text


def _demands(demands: Demands) -> str:
    asked = ["measured by this registry"] if demands.verified else []
    asked += [f"at most {span(demands.max_age)} old"] if demands.max_age else []
    asked += ["of every sample"] if demands.full_run else []
    fewest = [f"{count:,}" + ("" if task == "*" else f" of {task}") for task, count in demands.min_samples.items()]
    asked += [f"of at least {_and(fewest)} samples"] if fewest else []
    return _and(asked)


def _way_in(process: Process) -> Iterator[Rule]:
    if process.sources:
        how = _and(process.sources.stages) if process.sources.mode is Mode.ALL else _or(process.sources.stages)
        yield "from", f"It held {how} before."
        if process.sources.hotfix:
            more = "no soak time, a reason, one more approval"
            yield "hotfix", f"A hotfix may come from {_or(process.sources.hotfix)} instead: {more}."
    if process.soak:
        yield "soak", f"It was in {process.soak.stage} for {span(process.soak.seconds)} without a break."
    if process.approvals:
        yield "approvals", _approvals(process.approvals)
    if not process.freezing.respect:
        yield "freeze", "Freeze windows do not stop it."


def _approvals(asked: Approvals) -> str:
    who = "approval" if asked.count == 1 else "approvals of different people"
    text = f"{asked.count} {who}"
    if asked.groups:
        text += f", from {_or(asked.groups)}"
    if asked.each_group:
        text += f", {asked.each_group} of each"
    if asked.excluded:
        text += f"; not from {_or(asked.excluded)}"
    text += f"; each counts for {span(asked.expire_seconds)}"
    return text + ("; declining ends the request." if asked.decline_blocks else "; declining does not end the request.")


def _afterwards(process: Process) -> Iterator[Rule]:
    if process.overriding:
        over = process.overriding
        people = f"{over.count} more approval{'' if over.count == 1 else 's'}"
        people += f" from {_or(over.groups)}" if over.groups else ""
        ticket = " and a ticket" if over.ticket_required else ""
        yield "override", f"Rules but {_and(over.never)} may be passed over with {people}, a reason{ticket}."
    back = [f"to one of the last {process.rollbacks.window} versions"] if process.rollbacks.window else []
    back += ["with a reason"] if process.rollbacks.reason_required else []
    back += ["frozen as well"] if process.freezing.respect and not process.freezing.rollback_exempt else []
    back += ["service accounts wait afterwards"] if process.rollbacks.hold else []
    yield "rollback", _sentence("goes back at once" + (f", {', '.join(back)}" if back else ""))
    if process.auto:
        yield "by itself", "What enters the stages that it comes from is promoted by the registry."
    if process.reverify_seconds:
        yield "verification", f"What is in it has to be found good again every {span(process.reverify_seconds)}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _and(words: tuple[str, ...] | list[str]) -> str:
    return _joined(words, "and")


def _or(words: tuple[str, ...] | list[str]) -> str:
    return _joined(words, "or")


def _joined(words: tuple[str, ...] | list[str], word: str) -> str:
    return f" {word} ".join(", ".join(words).rsplit(", ", 1))
