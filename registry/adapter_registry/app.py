"""Wires settings and storage into the embedded registry."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.domain.ports import Backend
from adapter_registry.settings import Settings, migrations_folder
from adapter_registry.storage.blobs_local import LocalBlobs
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import ensure_schema, migrate, open_sqlite


def utc_now() -> str:
    """See ports.Clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def embedded(settings: Settings) -> Backend:
    """The registry in one folder of this machine: SQLite and plain files; made on first use.

    Raises:
        StoreUnavailable: the folder cannot be used.
    """
    engine = _engine(settings)
    ensure_schema(engine, migrations_folder())
    return Backend(
        catalog=SqlCatalog(engine),
        blobs=LocalBlobs(settings.blobs),
        clock=utc_now,
        actor=settings.actor,
        namespace=settings.namespace,
    )


def migrate_embedded(settings: Settings) -> str:
    """Run the migrations of the embedded store; the schema it is at afterwards."""
    return migrate(_engine(settings), migrations_folder())


def _engine(settings: Settings) -> Engine:
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"{settings.home} cannot hold the registry ({error.strerror}). "
            "Set ADAPTERS_HOME to a folder that you may write to."
        ) from error
    return open_sqlite(settings.database)
