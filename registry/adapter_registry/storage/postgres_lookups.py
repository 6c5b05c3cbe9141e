"""What every request asks of PostgreSQL, asked without a thread: who a token stands for, and what a name means now.

The statements and rows are those of the catalog. Each question is one or two statements outside of a transaction: what
is attached to a version may be a moment younger than the version. A connection that the server closed meanwhile is
replaced once, in silence: these questions change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg.rows import namedtuple_row
from sqlalchemy import Engine
from sqlalchemy.sql import Executable

from adapter_registry.domain.adapter import Version
from adapter_registry.domain.people.access import Principal
from adapter_registry.storage.catalog_accounts import PRINCIPAL, first_use_of_minute, principal_of
from adapter_registry.storage.catalog_versions import NAMED
from adapter_registry.storage.database import unreachable
from adapter_registry.storage.version_rows import AROUND_ONE, version_of

CONNECTIONS = 4
"""Of one process: more questions at once wait for each other no longer than for the processor."""


class PostgresLookups:
    """See ports.Lookups."""

    def __init__(self, engine: Engine, options: dict[str, Any]) -> None:
        _, given = engine.dialect.create_connect_args(engine.url)
        self._options = {**options, **given}
        asked: tuple[Executable, ...] = (PRINCIPAL, NAMED, AROUND_ONE)
        self._statements = {each: _compiled(engine, each) for each in asked}
        self._idle: list[AsyncConnection[Any]] = []
        self._room = asyncio.Semaphore(CONNECTIONS)

    async def principal(self, hashed: str, *, now: str) -> tuple[Principal, bool] | None:
        """See ports.Lookups.principal."""
        rows = await self._asked((PRINCIPAL, {"wanted_hash": hashed, "now": now}))
        return (principal_of(rows[0]), first_use_of_minute(rows[0], now)) if rows else None

    async def named(self, adapter: str, name: str) -> tuple[Version, str] | None:
        """See ports.Lookups.named."""
        rows = await self._asked((NAMED, {"wanted_adapter": adapter, "wanted_name": name}))
        if not rows:
            return None
        around = await self._asked((AROUND_ONE, {"id": rows[0].id}))
        return version_of(rows[0], around), rows[0].adapter_created_at

    async def close(self) -> None:
        """Close what is open and not in use."""
        while self._idle:
            await self._idle.pop().close()

    async def _asked(self, question: tuple[Executable, dict[str, Any]]) -> list[Any]:
        statement, given = question
        text, fixed = self._statements[statement]
        async with self._room:
            try:
                return await self._carried_out(text, {**fixed, **given})
            except OperationalError as error:
                raise unreachable(error) from error

    async def _carried_out(self, text: str, given: dict[str, Any]) -> list[Any]:
        while True:
            kept = bool(self._idle)
            try:
                async with self._connection() as connection:
                    cursor = await connection.execute(text, given)
                    return await cursor.fetchall()
            except OperationalError:
                if not kept:
                    raise
                await self.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection to ask by, kept afterwards unless something went wrong."""
        connection = self._idle.pop() if self._idle else await self._connected()
        try:
            yield connection
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)

    async def _connected(self) -> AsyncConnection[Any]:
        return await AsyncConnection.connect(autocommit=True, row_factory=namedtuple_row, **self._options)


def _compiled(engine: Engine, statement: Executable) -> tuple[str, dict[str, Any]]:
    """A statement in PostgreSQL's words, and the values that are part of it."""
    compiled = statement.compile(dialect=engine.dialect)  # type: ignore[attr-defined]  # every statement compiles
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return str(compiled), fixed
