"""What the row groups of the catalog share: a connection, and domain values as JSON text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Dialect, Table

Value = TypeVar("Value")


def to_text(value: object) -> str:
    """JSON of a domain value."""
    return msgspec.json.encode(value).decode()


def from_text(text: str, kind: type[Value]) -> Value:
    """The domain value of type `kind` in JSON that `to_text` wrote."""
    return msgspec.json.decode(text.encode(), type=kind)


def batches(values: list[Value], size: int = 500) -> Iterator[list[Value]]:
    """The values, as many at a time as one statement takes."""
    return (values[start : start + size] for start in range(0, len(values), size))


def insert_missing(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert those of `rows` whose key is not taken yet."""
    if rows:
        connection.execute(_insert(connection.dialect, table).on_conflict_do_nothing(), rows)


def upsert(connection: Connection, table: Table, row: dict[str, Any]) -> None:
    """Insert `row`, or overwrite the row with its primary key."""
    key = [column.name for column in table.primary_key]
    values = {name: value for name, value in row.items() if name not in key}
    statement = _insert(connection.dialect, table).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=values))


def _insert(dialect: Dialect, table: Table) -> Any:
    """The dialect's own INSERT; the other dialect is not imported, which would cost a tenth of `adapters ls`."""
    if dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert  # noqa: PLC0415

        return sqlite_insert(table)
    from sqlalchemy.dialects.postgresql import insert as postgres_insert  # noqa: PLC0415

    return postgres_insert(table)
