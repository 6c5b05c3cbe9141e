"""Whether the people and keys there are could give the approvals and signatures that a policy asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from adapter_registry.domain.figures import count
from adapter_registry.domain.integrity.key import Key
from adapter_registry.domain.people.access import Principal
from adapter_registry.domain.people.account import Account, AccountKind
from adapter_registry.domain.policies.lint import Advice
from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Approvals, Duty
from adapter_registry.domain.promotions.request import unfilled


def unsatisfied(
    policy: Policy, accounts: Sequence[Account], groups: Mapping[str, tuple[str, ...]]
) -> tuple[Advice, ...]:
    """What of a policy's approvals nobody could give.

    For each author there might be, those who may approve are counted without them. Where there are no accounts, only
    groups are looked at: whoever reaches the store goes by any name.
    """
    own, over = policy.process.approvals, policy.process.overriding
    extra = over.consent if over and over.count else None
    found: list[Advice] = []
    hotfix = policy.process.consent(hotfix=True) if policy.process.hotfixes else None
    for rule, asked in (("approvals", own), ("override", extra)):
        if asked is not None and asked.count:
            found += _empty_groups(rule, asked, groups)
            found += _too_few(rule, _Wanted(policy.stage, (asked,)), accounts, groups) if accounts else ()
    if accounts and hotfix and not found:
        few = _too_few("hotfix", _Wanted(policy.stage, (hotfix,)), accounts, groups)
        found += (replace(each, impossible=False) for each in few)
    if accounts and over and not any(_overrides(each, policy.stage) for each in accounts):
        text = f"nobody may ask for one: it takes a person with the verb override:{policy.stage}"
        found.append(Advice("override", text, impossible=False))
    if accounts and own and own.count and extra and not any(each.rule != "hotfix" for each in found):
        # An override that names `approvals` needs its own alone, so that too few for both is not always too few.
        both = _too_few("override", _Wanted(policy.stage, (own, extra)), accounts, groups)
        found += (replace(each, impossible=False) for each in both)
    return tuple(found)


def unsigned(policy: Policy, keys: Sequence[Key]) -> tuple[Advice, ...]:
    """The signatures that a policy asks for and no key that is trusted could make."""
    asked = policy.integrity.signature if policy.integrity else None
    if asked is None:
        return ()
    rule, trusted = "integrity signature", {key.name for key in keys if not key.revoked}
    if not asked.keys and len(trusted) < asked.count:
        text = f"{asked.count} wanted, and {len(trusted)} keys are trusted: adapters key add NAME FILE.pub"
        return (Advice(rule, text, impossible=False),)
    missing = [name for name in asked.keys if name not in trusted]
    too_few = len(asked.keys) - len(missing) < asked.count
    return tuple(
        Advice(rule, f"no key {name} is trusted: adapters key add {name} FILE.pub", impossible=too_few)
        for name in missing
    )


def _overrides(account: Account, stage: str) -> bool:
    person = account.kind is not AccountKind.SERVICE and not account.disabled_at
    return person and _may(account, f"override:{stage}")


def _empty_groups(rule: str, asked: Approvals, groups: Mapping[str, tuple[str, ...]]) -> Iterator[Advice]:
    for group in asked.groups:
        if not groups.get(group):
            text = f"group {group} has no members: adapters group add {group} ACCOUNT"
            yield Advice(rule, text, impossible=True)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Approvals on the way into a stage, each of one person: the stage's own, and those of an override beside them."""

    stage: str
    asked: tuple[Approvals, ...]

    def fit(self, standing: Sequence[Account], groups: Mapping[str, tuple[str, ...]]) -> list[set[str]]:
        """Who may give each of them."""
        may = {each.name for each in standing if _may(each, f"approve:{self.stage}")}
        members = [{name for group in each.groups for name in groups.get(group, ())} for each in self.asked]
        return [may & named if each.groups else may for each, named in zip(self.asked, members, strict=True)]

    def enough(self, fit: Sequence[set[str]], groups: Mapping[str, tuple[str, ...]], *, without: str) -> bool:
        """Whether everybody else could fill every place, each at most one."""
        if not any(each.groups for each in self.asked):
            return len(set().union(*fit) - {without}) >= sum(each.count for each in self.asked)
        places, seats = list[str](), dict[str, set[str]]()
        for at, (asked, able) in enumerate(zip(self.asked, fit, strict=True)):
            named = [f"{at} {group}" for group in asked.groups for _ in range(asked.each_group)]
            places += [*named, *[f"{at}"] * (asked.count - len(named))]
            for name in able - {without}:
                mine = {f"{at} {group}" for group, members in groups.items() if name in members}
                seats.setdefault(name, set()).update({f"{at}"}, mine)
        return not unfilled(places, {name: frozenset(seats[name]) for name in sorted(seats)})

    def __str__(self) -> str:
        counts = " and ".join(str(each.count) for each in self.asked)
        return f"{counts} wanted" + (", each of another person" if len(self.asked) > 1 else "")


def _too_few(
    rule: str, wanted: _Wanted, accounts: Sequence[Account], groups: Mapping[str, tuple[str, ...]]
) -> Iterator[Advice]:
    standing = [each for each in accounts if not each.disabled_at]
    fit = wanted.fit(standing, groups)
    shut = any(Duty.AUTHOR in each.excluded for each in wanted.asked)
    authors = [each.name for each in standing if _may(each, "push")] if shut else []
    stuck = [author for author in authors or [""] if not wanted.enough(fit, groups, without=author)]
    if stuck == (authors or [""]):
        able = sorted(set().union(*fit))
        text = f"{wanted}, and {count(len(able), 'account')} may give them ({', '.join(able) or 'none'}): "
        text += "adapters account grant NAME '*' approver"
        yield Advice(rule, text, impossible=True)
    elif stuck:
        text = f"{wanted}: what {', '.join(sorted(stuck)[:5])} pushed could never be approved, too few others may"
        yield Advice(rule, text, impossible=False)


def _may(account: Account, verb: str) -> bool:
    machine = account.kind is AccountKind.SERVICE
    return Principal(account.name, account.grants, machine=machine).may_somewhere(verb)
