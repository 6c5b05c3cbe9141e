"""Gates: what each rule of a Policy says of a Version. Nothing is fetched here, and missing evidence never passes."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.evidence import own as evidence
from adapter_registry.domain.evidence import versus
from adapter_registry.domain.figures import count
from adapter_registry.domain.integrity import judging as integrity
from adapter_registry.domain.lock import Level
from adapter_registry.domain.policies.policy import Health, Matched, Policy
from adapter_registry.domain.promotions.finding import Finding, Incumbent, Outcome, Subject
from adapter_registry.domain.servable import Servable, parse, report

__all__ = ["Finding", "Incumbent", "Outcome", "Subject", "judge"]


def judge(policy: Policy, subject: Subject) -> tuple[Finding, ...]:
    """One finding per rule in the policy's order; a comparison with `*` gives one per metric it covers."""
    return tuple(_judge(policy, subject))


def _judge(policy: Policy, subject: Subject) -> Iterator[Finding]:
    if policy.integrity is not None:
        yield from integrity.judged(policy.integrity, subject)
    if policy.verdicts:
        yield _compatibility(policy.verdicts, subject)
    if policy.health is not None:
        yield _health(policy.health, subject)
    if subject.revoked_ancestors:
        yield _ancestry(subject, warns=policy.revoked_ancestors_pass)
    for name in policy.metadata:
        yield _metadata(name, subject)
    for stack in policy.serving:
        yield _serving(stack, subject)
    groups = policy.evals.all_groups
    compared = versus.compared(groups, subject)
    for place, group in enumerate(groups):
        yield from evidence.own(group, subject)
        yield from compared.get(place, [])


def _compatibility(accepted: tuple[Level, ...], subject: Subject) -> Finding:
    rule, verdict = "compatibility", subject.verdict
    if verdict is None:
        reason = f"its base {subject.base_reference} is not registered here, so its lock cannot be checked"
        return Finding(rule, Outcome.ERROR, reason, "register it: adapters base add NAME FOLDER")
    if verdict.level in accepted:
        noted = "".join(f"; {note}" for note in verdict.notes)
        return Finding(rule, Outcome.PASS, f"{verdict}: {subject.base_reference}{noted}")
    listed = "; ".join(str(difference) for difference in verdict.differences[:3])
    more = len(verdict.differences) - 3
    reason = f"{verdict} with {subject.base_reference}, must be {' or '.join(accepted)}" + (
        f": {listed}" if listed else ""
    )
    return Finding(
        rule,
        Outcome.FAIL,
        reason + (f" and {more} more" if more > 0 else ""),
        "push it with the base it was trained on",
    )


def _ancestry(subject: Subject, *, warns: bool) -> Finding:
    """About versions it was made of that were withdrawn since: what was wrong with them may be wrong with it."""
    listed = ", ".join(subject.revoked_ancestors)
    text = f"made of {listed}, which {'was' if len(subject.revoked_ancestors) == 1 else 'were'} revoked"
    first = subject.revoked_ancestors[0]
    fix = f"make it anew without {listed}; why: adapters show {first}"
    return Finding("ancestry", Outcome.FAIL, text, fix, shadow=warns)


def _health(asked: Health, subject: Subject) -> Finding:
    broken = tuple(_unhealthy(asked, subject))
    if broken:
        fix = "train or export it again, and push the result"
        return Finding("health", Outcome.FAIL, "; ".join(broken), fix)
    return Finding("health", Outcome.PASS, "; ".join(_healthy(asked, subject)))


def _unhealthy(asked: Health, subject: Subject) -> Iterator[str]:
    described = subject.description
    if asked.nonzero and not described.nonzero:
        yield "it changes nothing: every weight it would add is zero"
    if asked.matched_modules is None or not described.candidates:
        return
    if not described.modules or (asked.matched_modules is Matched.ALL and described.modules < described.candidates):
        missed = described.candidates - described.modules
        yield (
            f"it changes {described.modules:,} of the {count(described.candidates, 'module')} of the base "
            f"that it targets by name, {missed:,} fewer than all"
        )


def _healthy(asked: Health, subject: Subject) -> Iterator[str]:
    described = subject.description
    if asked.matched_modules is not None:
        matched = f"{described.modules:,} of {count(described.candidates, 'targeted module')} changed"
        yield matched if described.candidates else f"{described.method} changes no module"
    if asked.finite:
        yield "every value finite, as checked when it was pushed"
    if asked.nonzero:
        yield "changes its base"
    if described.checked != "full":
        yield f"checked: {described.checked}"


def _metadata(name: str, subject: Subject) -> Finding:
    rule = f"metadata {name}"
    said = subject.labels.get(name, "").strip()
    if not said and name == "description":
        said = subject.message.strip()
    if said:
        first_line = said.splitlines()[0]
        return Finding(rule, Outcome.PASS, first_line if len(first_line) <= 80 else f"{first_line[:79]}…")
    return Finding(rule, Outcome.PENDING, "nothing says it", f"adapters label {subject.reference} {name}=...")


def _serving(name: str, subject: Subject) -> Finding:
    rule, version = f"serving {name}", subject.reference
    try:
        stack = parse(name)
    except InvalidInput as unknown:
        return Finding(rule, Outcome.ERROR, unknown.text, "name one of those in the stage's policy")
    if subject.serving is None:
        return Finding(rule, Outcome.ERROR, "its config is not in the store", f"restore it, or push {version} again")
    found = report(stack, subject.serving)
    said = "; ".join([str(found.verdict), *found.reasons])
    if found.verdict.serves:
        return Finding(rule, Outcome.PASS, f"{said}: {found.flags}" if found.flags else said)
    if found.verdict is Servable.FLATTEN:
        return Finding(rule, Outcome.FAIL, said, f"promote what `adapters export {version} --flatten --push` makes")
    return Finding(
        rule, Outcome.FAIL, said, f"train it without that, or serve it elsewhere: adapters servable {version}"
    )
