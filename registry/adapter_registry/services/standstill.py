"""What keeps stages still, and who approves: freeze windows, holds after rollbacks, groups of accounts."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adapter_registry.domain.audit.event import Entry, Outcome
from adapter_registry.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from adapter_registry.domain.names import check_namespace
from adapter_registry.domain.people.access import check_scope
from adapter_registry.domain.people.account import Group
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.promotions.passage import Hold, Window, week_minute
from adapter_registry.domain.views.listing import GroupPage

LONGEST_REASON = 500
PAGE = 1_000


def freezes(backend: Backend) -> tuple[Window, ...]:
    """Every freeze window, in the order they were declared."""
    with backend.catalog.reading() as tx:
        return tx.requests.freezes()


def freeze(
    backend: Backend,
    *,
    begins: str,
    ends: str,
    reason: str,
    zone: str = "UTC",
    scope: str = "*",
    stage: str | None = None,
) -> Window:
    """Declare a time in which stages stand still.

    Args:
        backend: the registry.
        begins: local time in `zone`, `2026-12-24T00:00`; or a time of every week, `fri 16:00`.
        ends: likewise, later; of a week, any other time: it may reach into the next one.
        reason: why.
        zone: of the IANA database.
        scope: `*`, `namespace/*` or `namespace/name`.
        stage: only this one and its lanes, or only this lane.

    Raises:
        InvalidInput: a time, zone or reason that is none.
    """
    if not reason.strip():
        raise InvalidInput("a freeze needs a reason that those who wait can read.")
    first, last = _times(begins, ends, zone)
    window = Window(
        *(0, check_scope(scope), stage, first, last, zone),
        reason=reason.strip()[:LONGEST_REASON],
        by=backend.actor,
    )
    with backend.catalog.writing() as tx:
        if stage is not None:
            tx.stages.ladder().check(stage)
        stored = tx.requests.add_freeze(window)
        when = {"begins": stored.begins, "ends": stored.ends, "zone": zone, "reason": stored.reason}
        detail = {"freeze": stored.id, "stage": stage, **when}
        tx.events.append(Entry("freeze.add", stored.scope, Outcome.DONE, backend.actor, backend.clock(), detail))
    return stored


def _times(begins: str, ends: str, zone: str) -> tuple[str, str]:
    """Both times as a Window holds them."""
    _check_zone(zone)
    weekly = [" ".join(text.lower().split()) for text in (begins, ends)]
    minutes = [week_minute(text) for text in weekly]
    if None not in minutes:
        if minutes[0] == minutes[1]:
            raise InvalidInput("a freeze of every week ends at another time than it begins.")
        return weekly[0], weekly[1]
    if minutes != [None, None]:
        other = begins if minutes[0] is None else ends
        raise InvalidInput(f"{other[:40]!r} is no time of every week, as the other one is: {_WRITTEN}")
    first, last = _local(begins), _local(ends)
    if first >= last:
        raise InvalidInput(f"a freeze ends after it begins, and {ends[:40]} is not after {begins[:40]}.")
    return first.isoformat(), last.isoformat()


_WRITTEN = "write both as 2026-12-24T00:00, or, for every week, as 'fri 16:00' (mon to sun, 00:00 to 23:59)."


def _local(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text[:40]!r} is no time: {_WRITTEN}") from error
    if found.tzinfo:
        raise InvalidInput(f"{text[:40]} has an offset: write the local time without it, and name the zone.")
    return found


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        raise InvalidInput(f"{zone[:60]!r} is no zone of the time zone database; one is Europe/Berlin.") from error


def thaw(backend: Backend, *, freeze: int) -> None:
    """Remove a freeze window; raises NotFound when there is none of that id."""
    with backend.catalog.writing() as tx:
        if not tx.requests.remove_freeze(freeze):
            raise NotFound(f"there is no freeze {freeze}; `adapters freeze ls` lists them.")
        detail = {"freeze": freeze}
        tx.events.append(Entry("freeze.remove", "*", Outcome.DONE, backend.actor, backend.clock(), detail))


def hold(backend: Backend, *, adapter: str, stage: str) -> Hold | None:
    """The hold that a rollback set on a stage; None when there is none."""
    with backend.catalog.reading() as tx:
        return tx.requests.hold(adapter, tx.stages.ladder().check(stage, adapter))


def lift(backend: Backend, *, adapter: str, stage: str, seen: str | None = None) -> Hold:
    """Lift a hold, as a person.

    Args:
        backend: the registry.
        adapter: `namespace/name`.
        stage: what is held.
        seen: `Hold.at` of the hold that the caller saw; None for whichever is there.

    Raises:
        Conflict: another rollback set it than the one that was `seen`.
        Forbidden: a service account; a hold is there for machines.
        NotFound: there is none.
    """
    if backend.asks.machine:
        raise Forbidden("a person lifts a hold: it is there to keep machines waiting.")
    with backend.catalog.writing() as tx:
        found = tx.requests.hold(adapter, tx.stages.ladder().check(stage, adapter))
        if found is None:
            raise NotFound(f"nothing holds {stage} of {adapter}.")
        if seen not in (None, found.at):
            raise Conflict(
                f"{found.by} rolled {stage} back again since you looked, which holds it anew; nothing was lifted. Look "
                "at it again."
            )
        tx.requests.lift_hold(adapter, stage)
        entry = Entry("hold.lift", adapter, Outcome.DONE, backend.actor, backend.clock(), {"stage": stage})
        tx.events.append(entry)
    return found


def groups(backend: Backend, *, after: str = "", limit: int = PAGE) -> GroupPage:
    """Groups with their members, by name, a page at a time.

    Args:
        backend: the registry.
        after: `next` of the page before.
        limit: at most this many, and at most 1,000.
    """
    most = min(max(limit, 1), PAGE)
    with backend.catalog.reading() as tx:
        found = [Group(*each) for each in tx.requests.groups(after=after, limit=most + 1).items()]
    return GroupPage(tuple(found[:most]), found[most - 1].name if len(found) > most else None)


def set_member(backend: Backend, *, group: str, account: str, member: bool = True) -> Group:
    """Put an account into a group, or take it out; the group afterwards.

    Raises:
        NotFound: there is no such account.
    """
    check_namespace(group)
    with backend.catalog.writing() as tx:
        if tx.accounts.get(account) is None:
            raise NotFound(f"there is no account {account!r}; `adapters account create` makes one.")
        tx.requests.set_member(group, account, member=member)
        detail = {"group": group, "member": member}
        tx.events.append(Entry("group.set", account, Outcome.DONE, backend.actor, backend.clock(), detail))
        return Group(group, tx.requests.groups().get(group, ()))
