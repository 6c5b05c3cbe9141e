"""Wires settings and storage into the embedded registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Engine

from adapter_registry.domain.access import SYSTEM
from adapter_registry.domain.errors import StoreUnavailable, Unsupported
from adapter_registry.domain.ports import Backend, BlobStore
from adapter_registry.services.access import bootstrap
from adapter_registry.settings import Settings, migrations_folder
from adapter_registry.storage.blobs_local import LocalBlobs
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import ensure_schema, migrate, open_postgres, open_sqlite


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
    return _backend(settings, engine)


def first_token(settings: Settings) -> str | None:
    """The administrator's token when this is the first start; None afterwards."""
    return bootstrap(served(settings))


def migrate_embedded(settings: Settings) -> str:
    """Run the migrations of the embedded store; the schema it is at afterwards."""
    return migrate(_engine(settings), migrations_folder())


def served(settings: Settings) -> Backend:
    """The registry as a server runs it: connections are kept, and the schema is brought up to date on start.

    Raises:
        StoreUnavailable: the store cannot be used, or its bucket does not keep the promises that a server relies on.
    """
    engine = _engine(settings, pooled=True)
    ensure_schema(engine, migrations_folder())
    return _backend(settings, engine, tried=True)


def _backend(settings: Settings, engine: Engine, *, tried: bool = False) -> Backend:
    return Backend(
        catalog=SqlCatalog(engine),
        blobs=_blobs(settings, tried=tried),
        clock=utc_now,
        actor=settings.actor,
        namespace=settings.namespace,
        asks=replace(SYSTEM, name=settings.actor),
    )


def _blobs(settings: Settings, *, tried: bool) -> BlobStore:
    if settings.blobs_url is None:
        return LocalBlobs(settings.blobs)
    try:
        from adapter_registry.storage.blobs_s3 import open_s3  # noqa: PLC0415  an extra
    except ImportError as error:
        raise Unsupported(f"{settings.blobs_url} needs {error.name}: pip install 'adapter-registry[s3]'.") from error
    store = open_s3(settings.blobs_url)
    if tried:
        store.verify_conditional()
    return store


def _engine(settings: Settings, *, pooled: bool = False) -> Engine:
    if settings.database_url is not None:
        return open_postgres(settings.database_url, pooled=pooled)
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"{settings.home} cannot hold the registry ({error.strerror}). "
            "Set ADAPTERS_HOME to a folder that you may write to."
        ) from error
    return open_sqlite(settings.database, pooled=pooled)
