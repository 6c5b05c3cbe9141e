"""Wires settings and storage into the embedded registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Engine

from adapter_registry.domain.audit.event import Entry
from adapter_registry.domain.errors import StoreUnavailable, Unsupported
from adapter_registry.domain.people.access import SYSTEM
from adapter_registry.domain.ports import Backend, BlobStore, Lookups
from adapter_registry.domain.recipe import Recipe
from adapter_registry.services.access import NewToken
from adapter_registry.services.first_admin import bootstrap, rescue
from adapter_registry.settings import Settings, migrations_folder
from adapter_registry.storage.blobs_local import LocalBlobs
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import WATCHED, ensure_schema, migrate, open_postgres, open_sqlite


def utc_now() -> str:
    """See ports.Clock."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def embedded(settings: Settings) -> Backend:
    """The registry in one folder of this machine: SQLite and plain files; made on first use.

    Raises:
        StoreUnavailable: the folder cannot be used.
    """
    engine = engine_of(settings)
    ensure_schema(engine, migrations_folder())
    return _backend(settings, engine)


def first_token(settings: Settings) -> str | None:
    """The administrator's token when this is the first start; None afterwards."""
    return bootstrap(embedded(settings))


def admin_token(settings: Settings) -> NewToken:
    """A new token of the administrator, for who can reach the database itself: the first, or in place of a lost one."""
    return rescue(embedded(settings))


def migrate_embedded(settings: Settings) -> str:
    """Run the migrations of the embedded store; the schema it is at afterwards."""
    return migrate(engine_of(settings), migrations_folder())


def served(
    settings: Settings,
    *,
    heard: Callable[[Entry], None] | None = None,
    watchers: Sequence[Callable[[Engine], None]] = (),
) -> Backend:
    """The registry as a server runs it: connections are kept, and the schema is brought up to date on start.

    Args:
        settings: where it lies.
        heard: told of each event of the audit log once it is committed.
        watchers: given the engine before it is first used.

    Raises:
        StoreUnavailable: the store cannot be used, or its bucket does not keep the promises that a server relies on.
    """
    engine = engine_of(settings, pooled=True)
    for watch in watchers:
        watch(engine)
    ensure_schema(engine, migrations_folder())
    return replace(_backend(settings, engine, heard, tried=True), lookups=_lookups(settings, engine))


def _lookups(settings: Settings, engine: Engine) -> Lookups | None:
    if settings.database_url is None:
        return None
    from adapter_registry.storage.postgres_lookups import PostgresLookups  # noqa: PLC0415  an extra

    return PostgresLookups(engine, dict(WATCHED))


def _backend(
    settings: Settings, engine: Engine, heard: Callable[[Entry], None] | None = None, *, tried: bool = False
) -> Backend:
    return Backend(
        catalog=SqlCatalog(engine, heard),
        blobs=blobs_of(settings, tried=tried),
        clock=utc_now,
        actor=settings.actor,
        namespace=settings.namespace,
        asks=replace(SYSTEM, name=settings.actor),
        at_hand=settings.database_url is None and settings.blobs_url is None,
        checks=partial(_checked, settings),
    )


def _checked(settings: Settings, backend: Backend, recipe: Recipe) -> Recipe:
    """See ports.Checks."""
    # Kinds ask as clients do, and clients are above this; they are imported when a job is submitted.
    from adapter_registry.jobs.checking import checked  # noqa: PLC0415

    return checked(settings, backend, recipe)


def blobs_of(settings: Settings, *, tried: bool = False) -> BlobStore:
    """Where the bytes lie: a folder, or a bucket.

    Args:
        settings: where.
        tried: whether a bucket is tried first: that it keeps the promises that a server relies on.

    Raises:
        Unsupported: the `s3` extra is not installed.
        StoreUnavailable: the bucket cannot be used, or does not keep them.
    """
    if settings.blobs_url is None:
        return LocalBlobs(settings.blobs)
    try:
        from adapter_registry.storage.blobs_s3 import open_s3  # noqa: PLC0415  an extra
    except ImportError as error:
        raise Unsupported(f"ADAPTERS_BLOBS_URL needs {error.name}: pip install 'adapter-registry[s3]'.") from error
    store = open_s3(settings.blobs_url, public_url=settings.blobs_public_url)
    if tried:
        store.verify_conditional()
    return store


def engine_of(settings: Settings, *, pooled: bool = False) -> Engine:
    """The database, not looked at yet.

    Raises:
        StoreUnavailable: the folder of the embedded one cannot be used.
    """
    if settings.database_url is not None:
        return open_postgres(settings.database_url, pooled=pooled, password=settings.database_password)
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"{settings.home} cannot hold the registry ({error.strerror}). "
            "Set ADAPTERS_HOME to a folder that you may write to."
        ) from error
    return open_sqlite(settings.database, pooled=pooled)
