"""The Catalog on a relational database: one transaction per unit of work, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from adapter_registry.domain.audit.event import Entry
from adapter_registry.storage.catalog_accounts import AccountTable
from adapter_registry.storage.catalog_ancestry import AncestryTable
from adapter_registry.storage.catalog_bases import BaseTable
from adapter_registry.storage.catalog_branches import BranchTable
from adapter_registry.storage.catalog_identities import IdentityTable
from adapter_registry.storage.catalog_integrity import IntegrityTable
from adapter_registry.storage.catalog_jobs import JobTable
from adapter_registry.storage.catalog_records import BlobTable, EventTable
from adapter_registry.storage.catalog_requests import RequestTable
from adapter_registry.storage.catalog_scores import ScoreTable
from adapter_registry.storage.catalog_stages import StageTable
from adapter_registry.storage.catalog_stored_bases import StoredBaseTable
from adapter_registry.storage.catalog_versions import VersionTable
from adapter_registry.storage.catalog_views import ViewTable
from adapter_registry.storage.catalog_webhooks import WebhookTable
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
    webhooks: WebhookTable
    stored_bases: StoredBaseTable
    identities: IdentityTable
    jobs: JobTable
    requests: RequestTable
    ancestry: AncestryTable
    integrity: IntegrityTable
    views: ViewTable


class SqlCatalog:
    """See ports.Catalog; `heard` is told of each event once it is committed."""

    def __init__(self, engine: Engine, heard: Callable[[Entry], None] | None = None) -> None:
        self._engine, self._heard = engine, heard

    @contextmanager
    def reading(self) -> Iterator[SqlTransaction]:
        """See ports.Catalog.reading."""
        with transaction(self._engine, writes=False) as connection:
            yield _rows(connection)

    @contextmanager
    def writing(self) -> Iterator[SqlTransaction]:
        """See ports.Catalog.writing."""
        with transaction(self._engine, writes=True) as connection:
            rows = _rows(connection)
            yield rows
        if self._heard is not None:
            for entry in rows.events.appended:
                self._heard(entry)


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
        webhooks=WebhookTable(connection),
        stored_bases=StoredBaseTable(connection),
        identities=IdentityTable(connection),
        jobs=JobTable(connection),
        requests=RequestTable(connection),
        ancestry=AncestryTable(connection),
        integrity=IntegrityTable(connection),
        views=ViewTable(connection),
    )
