"""Override: rules that do not pass are passed over, each by its name, on the record, and never all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from adapter_registry.domain.errors import InvalidInput
from adapter_registry.domain.policies.process import Overriding
from adapter_registry.domain.promotions.finding import Finding, Outcome

RULE = "override"
"""The finding about the override's own approvals."""
_OURS = (RULE, "requester")
"""Findings that are no rules of a policy, and cannot be passed over either."""
LONGEST_TICKET = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks to pass over.

    Attributes:
        rules: their names, as findings have them.
        ticket: where it is discussed: `OPS-142`, or an address.
    """

    rules: tuple[str, ...]
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """Rules that a request passes over; it never changes once asked for.

    Attributes:
        rules: names of findings.
        by: who asked.
        reason: why, in their words.
        ticket: where it is discussed; empty where the policy asks for none.
        expires_at: from then on it counts no more, ISO 8601 in UTC; what was promoted by it stays.
    """

    rules: tuple[str, ...]
    by: str
    reason: str
    ticket: str
    expires_at: str

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"{', '.join(self.rules)}{reason}" + (f" ({self.ticket})" if self.ticket else "")


def named(rules: Iterable[str]) -> tuple[str, ...]:
    """Rules as people type them, as findings name them: each once, `>=` and `<=` as one character."""
    typed = (" ".join(rule.replace(">=", "≥").replace("<=", "≤").split()) for rule in rules)
    return tuple(dict.fromkeys(rule for rule in typed if rule))


def check_asked(asked: Asked, reason: str, by: Overriding | None, *, stage: str) -> Asked:
    """What may be asked for, with rules as findings name them.

    Raises:
        InvalidInput: the policy has no override, never passes over one of these rules, or wants a reason or ticket.
    """
    rules = named(asked.rules)
    if by is None:
        raise InvalidInput(
            f"the policy of {stage} declares no override; nothing was changed. Promote without --override, or declare "
            f"one in the policy: adapters policy set {stage} FILE"
        )
    if not rules:
        raise InvalidInput("an override names each rule that it passes over; nothing was changed.")
    if never := [rule for rule in rules if not may_pass(rule, by)]:
        raise InvalidInput(f"{never[0]} can never be overridden in {stage}; nothing was changed.")
    if not reason.strip():
        raise InvalidInput("an override needs a reason; nothing was changed. Give one with --reason.")
    ticket = asked.ticket.strip()
    if (by.ticket_required and not ticket) or len(ticket) > LONGEST_TICKET or (ticket and not ticket.isprintable()):
        raise InvalidInput(
            f"an override in {stage} needs a ticket, one line of at most {LONGEST_TICKET} characters; nothing was "
            "changed. Give it with --ticket."
        )
    return Asked(rules, ticket)


def check_needed(rules: Iterable[str], findings: Sequence[Finding]) -> None:
    """Refuse an override of what does not stand in the way: nothing is passed over ahead of time.

    Args:
        rules: that are asked for.
        findings: with those that were passed over marked so.

    Raises:
        InvalidInput: naming those that do.
    """
    passed = {finding.rule for finding in findings if finding.outcome is Outcome.OVERRIDDEN}
    if idle := [rule for rule in rules if rule not in passed]:
        known = {finding.rule for finding in findings}
        why = "does not stand in the way" if idle[0] in known else "is no rule of this judgement"
        blocking = [each.rule for each in findings if (each.blocks or each.rule in passed) and each.rule != RULE]
        listed = "; ".join(dict.fromkeys(blocking)) or "nothing"
        raise InvalidInput(f"{idle[0]!r} {why}, so nothing was changed. What does: {listed}.")


def passed_over(
    findings: Iterable[Finding], override: Override | None, by: Overriding | None, *, now: str
) -> Iterator[Finding]:
    """The findings; those that an override names, and that stand in the way, as passed over.

    Args:
        findings: of gates and process.
        override: of the request.
        by: what the policy says of overrides now; None: it declares none, and nothing is passed over.
        now: ISO 8601 in UTC.
    """
    counts = override if override and by and now <= override.expires_at else None
    for finding in findings:
        over = counts and by and finding.blocks and finding.rule in counts.rules and may_pass(finding.rule, by)
        yield _passed(finding, counts.by) if over and counts else finding


def may_pass(rule: str, by: Overriding) -> bool:
    """Whether a policy lets a rule be passed over."""
    return rule not in _OURS and not {rule, rule.split()[0]} & set(by.never)


def _passed(finding: Finding, by: str) -> Finding:
    reason = f"{finding.outcome}: {finding.reason}; overridden by {by}"
    return replace(finding, outcome=Outcome.OVERRIDDEN, reason=reason, fix="")
