"""Process: what a stage asks of the way into it, beside evidence: where from, how long, who agrees, how back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

HOUR, DAY = 3_600, 86_400
_UNITS = (("d", DAY), ("h", HOUR), ("m", 60))
GROUP = "group:"
"""How a policy writes a group of accounts: `group:ml-leads`."""


class Mode(StrEnum):
    """Whether a version must have held every stage named, or one of them."""

    ALL = "all"
    ONE_OF = "one-of"


class Duty(StrEnum):
    """Who may not approve: whoever pushed the version, asked for it, or recorded or invalidated its evidence."""

    AUTHOR = "author"
    REQUESTER = "requester"
    EVIDENCE = "last-editor-of-evidence"


@dataclass(frozen=True, slots=True)
class Sources:
    """Stages that a version has to come from.

    Attributes:
        stages: lower stages.
        mode: all of them, or one of them.
        hotfix: stages that a hotfix may come from instead, with one more approval and without soak time.
    """

    stages: tuple[str, ...]
    mode: Mode = Mode.ALL
    hotfix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Soak:
    """Continuous time as the incumbent of a lower stage; the clock starts again when it is replaced there."""

    stage: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Approvals:
    """Whose consent a promotion needs.

    Attributes:
        count: different people; one more for a hotfix.
        groups: who may approve; empty for whoever has the verb `approve`.
        each_group: approvals from each group, each by another person.
        excluded: who may not.
        decline_blocks: whether one decline ends the request.
        expire_seconds: how long an approval counts.
    """

    count: int
    groups: tuple[str, ...] = ()
    each_group: int = 0
    excluded: tuple[Duty, ...] = tuple(Duty)
    decline_blocks: bool = True
    expire_seconds: int = 7 * DAY


@dataclass(frozen=True, slots=True)
class Freezing:
    """What freeze windows mean to a stage."""

    respect: bool = True
    rollback_exempt: bool = True


@dataclass(frozen=True, slots=True)
class Rollbacks:
    """How the stage goes back.

    Attributes:
        window: how many earlier incumbents it may go back to; None for all.
        reason_required: whether it takes a reason.
        hold: whether machines wait afterwards until a person promotes or lifts the hold.
    """

    window: int | None = None
    reason_required: bool = False
    hold: bool = True


NEVER = ("integrity", "compatibility", "revoked")
"""Rules that no policy lets anybody pass over."""


@dataclass(frozen=True, slots=True)
class Overriding:
    """How rules may be passed over, each by its name.

    Attributes:
        count: approvals beside those that the stage asks for anyway, each by another person.
        groups: who may give them; empty for whoever has the verb `approve`.
        ticket_required: whether it takes a ticket beside a reason.
        seconds: how long after it was asked for it counts.
        never: rules that cannot be passed over, by name or by its first word; NEVER is among them.
    """

    count: int
    groups: tuple[str, ...] = ()
    ticket_required: bool = True
    seconds: int = DAY
    never: tuple[str, ...] = NEVER

    @property
    def consent(self) -> Approvals:
        """The approvals that it needs: never of the author, the requester or whoever recorded evidence."""
        return Approvals(self.count, self.groups, expire_seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Process:
    """Everything a stage asks of the way into it; None and empty ask nothing.

    Attributes:
        sources: where a version comes from.
        soak: how long it was tried.
        approvals: who agrees.
        freezing: what freeze windows mean.
        rollbacks: how the stage goes back.
        auto: whether the registry itself promotes what comes from `sources`.
        reverify_seconds: how long after a version was found good it has to be again; None for never.
    """

    sources: Sources | None = None
    soak: Soak | None = None
    approvals: Approvals | None = None
    freezing: Freezing = Freezing()
    rollbacks: Rollbacks = Rollbacks()
    auto: bool = False
    reverify_seconds: int | None = None
    overriding: Overriding | None = None

    @property
    def hotfixes(self) -> bool:
        """Whether there is a hotfix path."""
        return self.sources is not None and bool(self.sources.hotfix)

    def consent(self, *, hotfix: bool) -> Approvals | None:
        """The approvals that a request needs: one more for a hotfix, also where none are asked for otherwise."""
        if not hotfix:
            return self.approvals
        asked = self.approvals or Approvals(0)
        return replace(asked, count=asked.count + 1)

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that it names."""
        approving = self.approvals.groups if self.approvals else ()
        return tuple(dict.fromkeys((*approving, *(self.overriding.groups if self.overriding else ()))))


def span(seconds: int) -> str:
    """`7d`, `36h` or `90m`: as a policy writes a time span of whole minutes."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds % size == 0), _UNITS[-1])
    return f"{seconds // size}{unit}"


def required(process: Process) -> dict[str, Any]:
    """The parts that stand under `require` in a document."""
    asked: dict[str, Any] = {}
    if process.soak:
        asked["soak"] = {"in": process.soak.stage, "min": span(process.soak.seconds)}
    if process.approvals:
        asked["approvals"] = _approvals(process.approvals)
    return asked


def beside(process: Process) -> dict[str, Any]:
    """The parts that stand beside `require`."""
    asked: dict[str, Any] = {}
    if sources := process.sources:
        hotfix = {"hotfix": list(sources.hotfix)} if sources.hotfix else {}
        asked["from"] = {"stages": list(sources.stages), "mode": str(sources.mode), **hotfix}
    if process.freezing != Freezing():
        asked["freeze"] = {"respect": process.freezing.respect, "rollback_exempt": process.freezing.rollback_exempt}
    if (back := process.rollbacks) != Rollbacks():
        window = {} if back.window is None else {"window": back.window}
        reason = "required" if back.reason_required else "optional"
        asked["rollback"] = {**window, "reason": reason, "hold": back.hold}
    if process.reverify_seconds:
        asked["reverify_every"] = span(process.reverify_seconds)
    if process.auto:
        asked["auto_promote"] = True
    if over := process.overriding:
        asked["override"] = _overriding(over)
    return asked


def _overriding(over: Overriding) -> dict[str, Any]:
    who = {"who": [GROUP + name for name in over.groups]} if over.groups else {}
    ticket = "required" if over.ticket_required else "optional"
    document = {"approvals": over.count, "reason": "required", "ticket": ticket, "ttl": span(over.seconds)}
    return {**who, **document, "rules_named_one_by_one": True, "never": list(over.never)}


def _approvals(asked: Approvals) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    if asked.groups:
        groups = {"from": [GROUP + name for name in asked.groups], "each_group": asked.each_group}
    return {
        "count": asked.count,
        **groups,
        "not": [str(duty) for duty in asked.excluded],
        "decline_blocks": asked.decline_blocks,
        "expire_after": span(asked.expire_seconds),
    }
