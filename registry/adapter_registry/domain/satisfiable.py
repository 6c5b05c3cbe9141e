"""Whether the people there are could give the approvals that a policy asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adapter_registry.domain.access import Principal
from adapter_registry.domain.account import Account, AccountKind
from adapter_registry.domain.policy import Policy
from adapter_registry.domain.policy_lint import Advice
from adapter_registry.domain.process import Approvals, Duty
from adapter_registry.domain.request import unfilled


def unsatisfied(
    policy: Policy, accounts: Sequence[Account], groups: Mapping[str, tuple[str, ...]]
) -> tuple[Advice, ...]:
    """What of a policy's approvals nobody could give.

    For each author there might be, those who may approve are counted without them. Where there are no accounts, only
    groups are looked at: whoever reaches the store goes by any name.
    """
    process = policy.process
    rules = {"approvals": process.approvals, "override": process.overriding.consent if process.overriding else None}
    found: list[Advice] = []
    for rule, asked in rules.items():
        if asked is not None and asked.count:
            found += _empty_groups(rule, asked, groups)
            found += _too_few(rule, policy, asked, accounts, groups) if accounts else ()
    return tuple(found)


def _empty_groups(rule: str, asked: Approvals, groups: Mapping[str, tuple[str, ...]]) -> Iterator[Advice]:
    for group in asked.groups:
        if not groups.get(group):
            text = f"group {group} has no members: adapters group add {group} ACCOUNT"
            yield Advice(rule, text, impossible=True)


def _too_few(
    rule: str, policy: Policy, asked: Approvals, accounts: Sequence[Account], groups: Mapping[str, tuple[str, ...]]
) -> Iterator[Advice]:
    standing = [each for each in accounts if not each.disabled_at]
    fit = [each.name for each in standing if _may(each, f"approve:{policy.stage}")]
    if asked.groups:
        fit = [name for name in fit if any(name in groups.get(group, ()) for group in asked.groups)]
    authors: list[str] = [each.name for each in standing if _may(each, "push")] if Duty.AUTHOR in asked.excluded else []
    stuck = [author for author in authors or [""] if not _enough(asked, set(fit) - {author}, groups)]
    if stuck == (authors or [""]):
        text = f"{asked.count} wanted, and {len(fit)} accounts may give them ({', '.join(sorted(fit)) or 'none'})"
        yield Advice(rule, text, impossible=True)
    elif stuck:
        text = f"what {', '.join(sorted(stuck)[:5])} pushed could never be approved: too few others may"
        yield Advice(rule, text, impossible=False)


def _enough(asked: Approvals, fit: set[str], groups: Mapping[str, tuple[str, ...]]) -> bool:
    places = [group for group in asked.groups for _ in range(asked.each_group)]
    people = {name: frozenset(g for g, members in groups.items() if name in members) for name in sorted(fit)}
    return len(fit) >= asked.count and not unfilled(places, people)


def _may(account: Account, verb: str) -> bool:
    machine = account.kind is AccountKind.SERVICE
    return Principal(account.name, account.grants, machine=machine).may_somewhere(verb)
