"""The Catalog on a relational database: one transaction per unit of work, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from adapter_registry.storage.catalog_accounts import AccountTable
from adapter_registry.storage.catalog_bases import BaseTable
from adapter_registry.storage.catalog_branches import BranchTable
from adapter_registry.storage.catalog_identities import IdentityTable
from adapter_registry.storage.catalog_records import BlobTable, EventTable, ScoreTable
from adapter_registry.storage.catalog_stages import StageTable
from adapter_registry.storage.catalog_versions import VersionTable
from adapter_registry.storage.database import transaction


@dataclass(frozen=True, slots=True)
class SqlTransaction:
    """See ports.Transaction."""

    bases: BaseTable
    versions: VersionTable
    scores: ScoreTable
    stages: StageTable
    events: EventTable
    blobs: BlobTable
    accounts: AccountTable
    branches: BranchTable
    identities: IdentityTable


class SqlCatalog:
    """See ports.Catalog."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def reading(self) -> Iterator[SqlTransaction]:
        """See ports.Catalog.reading."""
        with transaction(self._engine, writes=False) as connection:
            yield _rows(connection)

    @contextmanager
    def writing(self) -> Iterator[SqlTransaction]:
        """See ports.Catalog.writing."""
        with transaction(self._engine, writes=True) as connection:
            yield _rows(connection)


def _rows(connection: Connection) -> SqlTransaction:
    return SqlTransaction(
        bases=BaseTable(connection),
        versions=VersionTable(connection),
        scores=ScoreTable(connection),
        stages=StageTable(connection),
        events=EventTable(connection),
        blobs=BlobTable(connection),
        accounts=AccountTable(connection),
        branches=BranchTable(connection),
        identities=IdentityTable(connection),
    )
