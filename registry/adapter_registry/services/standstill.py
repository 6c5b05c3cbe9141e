"""What keeps stages still, and who approves: freeze windows, holds after rollbacks, groups of accounts."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from adapter_registry.domain.access import check_scope
from adapter_registry.domain.errors import Forbidden, InvalidInput, NotFound
from adapter_registry.domain.event import Entry, Outcome
from adapter_registry.domain.names import check_namespace
from adapter_registry.domain.passage import Hold, Window
from adapter_registry.domain.ports import Backend
from adapter_registry.domain.stage import check_stage

LONGEST_REASON = 500


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
        begins: local time in `zone`, `2026-12-24T00:00`.
        ends: likewise, later.
        reason: why.
        zone: of the IANA database.
        scope: `*`, `namespace/*` or `namespace/name`.
        stage: only this one.

    Raises:
        InvalidInput: a time, zone or reason that is none.
    """
    if stage is not None:
        check_stage(stage)
    if not reason.strip():
        raise InvalidInput("a freeze needs a reason that those who wait can read.")
    try:
        ZoneInfo(zone)
        first, last = datetime.fromisoformat(begins), datetime.fromisoformat(ends)
    except (ValueError, ZoneInfoNotFoundError, OSError) as error:
        raise InvalidInput(f"{error}: write times as 2026-12-24T00:00 and a zone as Europe/Berlin.") from error
    if first.tzinfo or last.tzinfo or first >= last:
        raise InvalidInput("a freeze begins before it ends, and both are local times without an offset.")
    window = Window(
        *(0, check_scope(scope), stage, first.isoformat(), last.isoformat(), zone),
        reason=reason.strip()[:LONGEST_REASON],
        by=backend.actor,
    )
    with backend.catalog.writing() as tx:
        stored = tx.requests.add_freeze(window)
        when = {"begins": stored.begins, "ends": stored.ends, "zone": zone, "reason": stored.reason}
        detail = {"freeze": stored.id, "stage": stage, **when}
        tx.events.append(Entry("freeze.add", stored.scope, Outcome.DONE, backend.actor, backend.clock(), detail))
    return stored


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
        return tx.requests.hold(adapter, check_stage(stage))


def lift(backend: Backend, *, adapter: str, stage: str) -> Hold:
    """Lift a hold, as a person.

    Raises:
        Forbidden: a service account; a hold is there for machines.
        NotFound: there is none.
    """
    if backend.asks.machine:
        raise Forbidden("a person lifts a hold: it is there to keep machines waiting.")
    with backend.catalog.writing() as tx:
        found = tx.requests.hold(adapter, check_stage(stage))
        if found is None:
            raise NotFound(f"nothing holds {stage} of {adapter}.")
        tx.requests.lift_hold(adapter, stage)
        entry = Entry("hold.lift", adapter, Outcome.DONE, backend.actor, backend.clock(), {"stage": stage})
        tx.events.append(entry)
    return found


def groups(backend: Backend) -> dict[str, tuple[str, ...]]:
    """Group -> its members, by name."""
    with backend.catalog.reading() as tx:
        return tx.requests.groups()


def set_member(backend: Backend, *, group: str, account: str, member: bool = True) -> dict[str, tuple[str, ...]]:
    """Put an account into a group, or take it out; all groups afterwards.

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
        return tx.requests.groups()
