"""Passage: what the process of a stage says of a version on its way in, as findings beside those of the gates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from adapter_registry.domain.policies.policy import Policy
from adapter_registry.domain.policies.process import Mode, Overriding, Soak, Sources, span
from adapter_registry.domain.promotions import override
from adapter_registry.domain.promotions.finding import Finding, Outcome
from adapter_registry.domain.promotions.promotion import Kind, Promotion
from adapter_registry.domain.promotions.request import Person, Reckoning, Request
from adapter_registry.domain.promotions.stage import of_place

WAY_OUT_OF_HOLD = "a person promotes, or lifts it: adapters hold clear"


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_OF_WEEK = re.compile(rf"({'|'.join(DAYS)}) ([01][0-9]|2[0-3]):([0-5][0-9])")


def week_minute(text: str) -> int | None:
    """The minute of the week that `fri 16:00` is, from Monday 00:00; None for what is not of that form."""
    found = _OF_WEEK.fullmatch(text)
    return (DAYS.index(found[1]) * 24 + int(found[2])) * 60 + int(found[3]) if found else None


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which stages stand still: once, or every week.

    Attributes:
        id: 1, 2, ...
        scope: `*`, `namespace/*` or `namespace/name`.
        stage: which one, all its lanes included, or which lane; None for all.
        begins: local time in `zone`, `2026-12-24T00:00`; or a time of every week, `fri 16:00`.
        ends: likewise, of the same kind; a week's window may reach into the next week.
        zone: of the IANA database, `Europe/Berlin`.
        reason: why.
        by: who declared it.
    """

    id: int
    scope: str
    stage: str | None
    begins: str
    ends: str
    zone: str
    reason: str
    by: str

    def covers(self, adapter: str, stage: str, *, at: str) -> bool:
        """Whether a stage of an adapter, or a lane of one, stands still at a moment."""
        inside = self.scope in ("*", adapter) or (self.scope.endswith("/*") and adapter.startswith(self.scope[:-1]))
        meant = self.stage in (None, stage, of_place(stage))
        return inside and meant and (self._this_week(at) if self.weekly else self._once(at))

    @property
    def weekly(self) -> bool:
        """Whether it comes again every week."""
        return week_minute(self.begins) is not None

    def __str__(self) -> str:
        shown = [each[:16].replace("T", " ") for each in (self.begins, self.ends)]
        return (
            f"every week from {shown[0]} to {shown[1]} {self.zone}" if self.weekly else f"until {shown[1]} {self.zone}"
        )

    def _once(self, at: str) -> bool:
        """Where the clock repeats or skips an hour, the longer of both readings."""
        now = datetime.fromisoformat(at)
        return min(self._readings(self.begins)) <= now < max(self._readings(self.ends))

    def _this_week(self, at: str) -> bool:
        """By the clock on the wall: a window that begins at 16:00 begins at 16:00 in summer and in winter."""
        local = datetime.fromisoformat(at).astimezone(ZoneInfo(self.zone))
        now = (local.weekday() * 24 + local.hour) * 60 + local.minute
        begins, ends = week_minute(self.begins) or 0, week_minute(self.ends) or 0
        return begins <= now < ends if begins < ends else now >= begins or now < ends

    def _readings(self, local: str) -> list[datetime]:
        """The moments that a local time may mean; at the ends of the calendar those of its clock taken for UTC."""
        moment = datetime.fromisoformat(local)
        try:
            return [moment.replace(tzinfo=ZoneInfo(self.zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
        except OverflowError:
            return [moment.replace(tzinfo=UTC)]


@dataclass(frozen=True, slots=True)
class Hold:
    """Set by a rollback: machines wait until a person promotes or lifts it."""

    adapter: str
    stage: str
    by: str
    at: str
    reason: str


@dataclass(frozen=True, slots=True)
class Situation:
    """What the process looks at.

    Attributes:
        request: the request as it is, or as it would be opened.
        now: ISO 8601 in UTC.
        moves: lower stage -> its moves for this adapter, newest first.
        freezes: windows that cover the stage now.
        hold: of the stage.
        reckoning: of the approvals; None where none are asked for.
        able: people who could still approve; None where there are no accounts.
        requester: what is known of who asked.
        overriding: of the approvals of an override, beside the others; None where nothing is passed over.
        able_to_override: people who could still give one of those.
    """

    request: Request
    now: str
    moves: Mapping[str, Sequence[Promotion]] = field(default_factory=dict)
    freezes: tuple[Window, ...] = ()
    hold: Hold | None = None
    reckoning: Reckoning | None = None
    able: tuple[Person, ...] | None = None
    requester: Person | None = None
    overriding: Reckoning | None = None
    able_to_override: tuple[Person, ...] | None = None


def passing(policy: Policy, at: Situation) -> Iterator[Finding]:
    """One finding per part of the process that applies."""
    process, request = policy.process, at.request
    hotfix = request.hotfix and process.hotfixes
    if at.requester and at.requester.unfit:
        text = f"{request.requester}, who asked, {at.requester.unfit}"
        yield Finding("requester", Outcome.FAIL, text, "ask again as somebody who may promote")
    if request.auto and not process.auto:
        yield Finding("auto_promote", Outcome.FAIL, "it was switched off since", "a person promotes")
    if process.sources:
        yield _from(process.sources, at)
    if process.soak:
        yield _soak(process.soak, at, hotfix)
    for window in at.freezes if process.freezing.respect else ():
        yield _freeze(window, hotfix, way_out=process.hotfixes)
    if at.hold and request.machine:
        text = f"{at.hold.by} rolled back on {at.hold.at[:16]}Z{': ' + at.hold.reason if at.hold.reason else ''}"
        where = f"{WAY_OUT_OF_HOLD} {request.adapter} {request.stage}"
        yield Finding("hold", Outcome.PENDING, text, where)
    if at.reckoning:
        asked = process.consent(hotfix=request.hotfix)
        yield _approvals("approvals", at.reckoning, at.able, at, asked.groups if asked else ())
    if request.override:
        yield _overriding(at.overriding, request.override, at, process.overriding)


def since(moves: Sequence[Promotion], number: int) -> str | None:
    """Since when a version holds a stage without a break; None when it does not hold it now."""
    begun: str | None = None
    for move in moves:
        if move.number != number:
            break
        begun = move.at
    return begun


def held(moves: Sequence[Promotion], number: int) -> bool:
    """Whether a version held a stage and no rollback took it away since."""
    for move in moves:
        if move.number == number:
            return True
        if move.kind is Kind.ROLLBACK and move.previous == number:
            return False
    return False


def _from(sources: Sources, at: Situation) -> Finding:
    request = at.request
    been = [stage for stage, moves in at.moves.items() if held(moves, request.number)]
    if request.hotfix and (way := next((stage for stage in sources.hotfix if stage in been), None)):
        return Finding("from", Outcome.PASS, f"hotfix from {way}")
    wanted = list(sources.stages)
    missing = [stage for stage in wanted if stage not in been]
    if not missing or (sources.mode is Mode.ONE_OF and len(missing) < len(wanted)):
        return Finding("from", Outcome.PASS, f"was in {' and '.join(s for s in wanted if s in been)}")
    joined = f" {'or' if sources.mode is Mode.ONE_OF else 'and'} ".join(missing)
    fix = f"adapters promote {request.reference} {missing[0]}"
    if sources.hotfix:
        fix += f", or the hotfix path from {' or '.join(sources.hotfix)}: --hotfix"
    return Finding("from", Outcome.PENDING, f"has to be in {joined} first", fix)


def _soak(soak: Soak, at: Situation, hotfix: bool) -> Finding:
    if hotfix:
        return Finding("soak", Outcome.WAIVED, f"not asked of a hotfix, which takes one more approval ({soak.stage})")
    begun = since(at.moves.get(soak.stage, ()), at.request.number)
    if begun is None:
        text = f"0m of {span(soak.seconds)}: it does not hold {soak.stage} now"
        return Finding("soak", Outcome.PENDING, text, f"adapters promote {at.request.reference} {soak.stage}")
    elapsed = int((datetime.fromisoformat(at.now) - datetime.fromisoformat(begun)).total_seconds())
    text = f"{lasted(min(elapsed, soak.seconds))} of {span(soak.seconds)} in {soak.stage}"
    if elapsed >= soak.seconds:
        return Finding("soak", Outcome.PASS, text)
    over = (datetime.fromisoformat(begun) + timedelta(seconds=soak.seconds)).strftime("%Y-%m-%d %H:%M")
    return Finding("soak", Outcome.PENDING, text, f"nothing; over at {over} UTC unless {soak.stage} moves before")


def _freeze(window: Window, hotfix: bool, *, way_out: bool) -> Finding:
    text = f"{window}: {window.reason}"
    if hotfix:
        return Finding("freeze", Outcome.WAIVED, f"{text}; a hotfix passes with one more approval")
    fix = "nothing; it goes on by itself then, adapters freeze ls shows every window"
    return Finding("freeze", Outcome.PENDING, text, fix + ("; or the hotfix path: --hotfix" if way_out else ""))


def _overriding(reckoning: Reckoning | None, asked: override.Override, at: Situation, by: Overriding | None) -> Finding:
    """Whether an override has the approvals it needs, with what it passes over and why."""
    if reckoning is None:
        text = f"the policy of {at.request.stage} declares none; asked for was {asked}"
        return Finding(override.RULE, Outcome.FAIL, text, "promote without --override")
    finding = _approvals(override.RULE, reckoning, at.able_to_override, at, by.groups if by else ())
    return replace(finding, reason=f"{finding.reason}; of {asked}")


def _approvals(
    rule: str, reckoning: Reckoning, able: Sequence[Person] | None, at: Situation, groups: Sequence[str]
) -> Finding:
    """Whether there are enough; who can give what is missing, and what to do where nobody can."""
    who = f" by {', '.join(reckoning.counted)}" if reckoning.counted else ""
    text = f"{len(reckoning.counted)} of {reckoning.needed}{who}"
    text += "".join(f"; {by}'s does not count, {why}" for by, why in reckoning.void)
    if reckoning.enough:
        return Finding(rule, Outcome.PASS, text)
    for group in reckoning.missing:
        text += f"; needs group {group}" + _can(able, group)
    if not reckoning.missing:
        text += _can(able)
    left = reckoning.needed - len(reckoning.counted)
    if able is not None and 0 < len(able) < left:
        text += f"; {left} more are needed and only {len(able)} can"
    empty = [group for group in reckoning.missing if able is not None and not any(group in p.groups for p in able)]
    if empty or (able is not None and len(able) < left):
        return Finding(rule, Outcome.PENDING, text, _more_people(at.request.adapter, [*empty, *groups]))
    named = at.request.name if at.request.id else f"{at.request.reference} {at.request.stage}"
    asked = "" if at.request.id else "once it is asked for, "
    return Finding(
        rule, Outcome.PENDING, text, f"{asked}{'one of them' if able else 'somebody else'}: adapters approve {named}"
    )


def _more_people(adapter: str, groups: Sequence[str]) -> str:
    if groups:
        return f"put somebody else who may approve into {groups[0]}: adapters group add {groups[0]} NAME"
    return f"let somebody approve first: adapters account grant NAME {adapter} approver"


def _can(able: Sequence[Person] | None, group: str = "") -> str:
    """Who can still approve, three by name; nothing where there are no accounts."""
    if able is None:
        return ""
    names = [person.name for person in able if not group or group in person.groups]
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''} can)" if names else " (nobody can)"


def lasted(seconds: int) -> str:
    """`19h12m`."""
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m"
