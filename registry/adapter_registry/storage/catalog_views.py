"""Rows of views."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from adapter_registry.domain.views.saved import View
from adapter_registry.storage.rows import from_text, to_text, upsert
from adapter_registry.storage.tables_people import views


class ViewTable:
    """See ports.accounts.ViewRows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, account: str, of: str) -> tuple[View, ...]:
        """See ports.accounts.ViewRows.of."""
        query = select(views.c.document).where(views.c.account == account, views.c.of == of).order_by(views.c.name)
        return tuple(from_text(text, View) for text in self._connection.execute(query).scalars())

    def put(self, account: str, view: View) -> None:
        """See ports.accounts.ViewRows.put."""
        row = {"account": account, "of": view.of, "name": view.name, "document": to_text(view)}
        upsert(self._connection, views, row)

    def remove(self, account: str, of: str, name: str) -> None:
        """Forget a view."""
        here = (views.c.account == account) & (views.c.of == of) & (views.c.name == name)
        self._connection.execute(delete(views).where(here))
