"""Rows of promotion requests, groups of accounts, holds and freeze windows."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, delete, func, insert, select, update

from adapter_registry.domain.promotions.passage import Hold, Window
from adapter_registry.domain.promotions.request import Request
from adapter_registry.storage.rows import from_text, insert_missing, to_text, upsert
from adapter_registry.storage.tables import adapters
from adapter_registry.storage.tables_people import groups
from adapter_registry.storage.tables_work import freezes, holds, requests


class RequestTable:
    """See ports.requests.RequestRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, request: Request) -> Request:
        """See ports.requests.RequestRows.add."""
        newest = self._connection.execute(select(func.max(requests.c.id))).scalar() or 0
        stored = replace(request, id=newest + 1)
        row = {"id": stored.id, "adapter_id": self._adapter(stored.adapter), "stage": stored.stage}
        row["number"] = stored.number
        self._connection.execute(insert(requests), [{**row, **_changing(stored)}])
        return stored

    def put(self, request: Request) -> None:
        """See ports.requests.RequestRows.put."""
        self._connection.execute(update(requests).where(requests.c.id == request.id).values(_changing(request)))

    def get(self, request: int) -> Request | None:
        """The request of this id."""
        text = self._connection.execute(select(requests.c.document).where(requests.c.id == request)).scalar()
        return from_text(text, Request) if text else None

    def open_for(self, adapter: str, stage: str) -> Request | None:
        """The open request for a stage of an adapter."""
        query = (
            select(requests.c.document)
            .join(adapters, adapters.c.id == requests.c.adapter_id)
            .where(adapters.c.name == adapter, requests.c.stage == stage, requests.c.open == 1)
        )
        text = self._connection.execute(query).scalar()
        return from_text(text, Request) if text else None

    def asked(self, adapter: str, stage: str, *, number: int) -> tuple[Request, ...]:
        """See ports.requests.RequestRows.asked."""
        here = (adapters.c.name == adapter, requests.c.stage == stage, requests.c.number == number)
        query = select(requests.c.document).join(adapters, adapters.c.id == requests.c.adapter_id).where(*here)
        found = self._connection.execute(query.order_by(requests.c.id.desc()))
        return tuple(from_text(text, Request) for text in found.scalars())

    def listed(
        self, *, adapter: str | None = None, still_open: bool = False, before: int | None = None, limit: int
    ) -> tuple[Request, ...]:
        """See ports.requests.RequestRows.listed."""
        query = select(requests.c.document).order_by(requests.c.id.desc()).limit(limit)
        if adapter is not None:
            query = query.join(adapters, adapters.c.id == requests.c.adapter_id).where(adapters.c.name == adapter)
        if still_open:
            query = query.where(requests.c.open == 1)
        if before is not None:
            query = query.where(requests.c.id < before)
        return tuple(from_text(text, Request) for text in self._connection.execute(query).scalars())

    def groups(self, *, after: str = "", limit: int | None = None) -> dict[str, tuple[str, ...]]:
        """See ports.requests.RequestRows.groups."""
        found: dict[str, tuple[str, ...]] = {}
        names = select(groups.c.name).where(groups.c.name > after).distinct().order_by(groups.c.name).limit(limit)
        wanted = select(groups).where(groups.c.name.in_(names.subquery().select()))
        for row in self._connection.execute(wanted.order_by(groups.c.name, groups.c.account)):
            found[row.name] = (*found.get(row.name, ()), row.account)
        return found

    def set_member(self, group: str, account: str, *, member: bool) -> None:
        """Put an account into a group, or take it out."""
        if member:
            insert_missing(self._connection, groups, [{"name": group, "account": account}])
        else:
            here = (groups.c.name == group) & (groups.c.account == account)
            self._connection.execute(delete(groups).where(here))

    def hold(self, adapter: str, stage: str) -> Hold | None:
        """The hold of a stage of an adapter."""
        here = (holds.c.adapter_id == self._adapter(adapter)) & (holds.c.stage == stage)
        text = self._connection.execute(select(holds.c.document).where(here)).scalar()
        return from_text(text, Hold) if text else None

    def set_hold(self, hold: Hold) -> None:
        """Set it, or in place of the one before."""
        row = {"adapter_id": self._adapter(hold.adapter), "stage": hold.stage, "document": to_text(hold)}
        upsert(self._connection, holds, row)

    def lift_hold(self, adapter: str, stage: str) -> None:
        """Remove it."""
        here = (holds.c.adapter_id == self._adapter(adapter)) & (holds.c.stage == stage)
        self._connection.execute(delete(holds).where(here))

    def freezes(self) -> tuple[Window, ...]:
        """See ports.requests.RequestRows.freezes."""
        query = select(freezes.c.document).order_by(freezes.c.id)
        return tuple(from_text(text, Window) for text in self._connection.execute(query).scalars())

    def add_freeze(self, window: Window) -> Window:
        """See ports.requests.RequestRows.add_freeze."""
        newest = self._connection.execute(select(func.max(freezes.c.id))).scalar() or 0
        stored = replace(window, id=newest + 1)
        self._connection.execute(insert(freezes), [{"id": stored.id, "document": to_text(stored)}])
        return stored

    def remove_freeze(self, window: int) -> bool:
        """See ports.requests.RequestRows.remove_freeze."""
        return self._connection.execute(delete(freezes).where(freezes.c.id == window)).rowcount > 0

    def _adapter(self, name: str) -> int | None:
        return self._connection.execute(select(adapters.c.id).where(adapters.c.name == name)).scalar()


def _changing(request: Request) -> dict[str, object]:
    open_ = 1 if request.state.is_open else None
    return {"open": open_, "state": str(request.state), "document": to_text(request)}
