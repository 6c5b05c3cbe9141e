"""Wires settings and storage into the embedded registry."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
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


def server_token(settings: Settings) -> tuple[str, bool]:
    """(the embedded registry's server token, whether it was made just now); kept in a file only its owner can read."""
    path = settings.home / "server-token"
    with suppress(FileNotFoundError):
        return path.read_text().strip(), False
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    token = f"adapters_{secrets.token_urlsafe(32)}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token, True


def _engine(settings: Settings) -> Engine:
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailable(
            f"{settings.home} cannot hold the registry ({error.strerror}). "
            "Set ADAPTERS_HOME to a folder that you may write to."
        ) from error
    return open_sqlite(settings.database)
