"""Engines: how SQLite and PostgreSQL are opened, and how their schema comes to the revision this code needs."""

from __future__ import annotations

import select
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from adapter_registry.domain.errors import InvalidInput, StoreBusy, StoreFull, StoreUnavailable, Unsupported
from adapter_registry.storage.schema import SCHEMA

BUSY_SECONDS = 15
CONNECT_SECONDS = 5
IDLE_SECONDS = 300
"""How long PostgreSQL waits for the next statement of a transaction: a writer that vanished lets the others on then."""
_WRITERS = 7_263_901
"""The advisory lock of PostgreSQL that writers hold; any number that nobody else in the database uses."""
_SERVER_POOL: dict[str, Any] = {
    "poolclass": QueuePool,
    "pool_size": 8,
    "max_overflow": 24,
    "pool_timeout": BUSY_SECONDS,
}
WATCHED = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": CONNECT_SECONDS,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 1000 * CONNECT_SECONDS,
}
"""libpq's options to notice within seconds that the other side is gone; what the URL says about them wins."""
_BUSY_STATES = {"55P03", "40001", "40P01", "53300"}
"""SQLSTATE of: lock timeout, serialization failure, deadlock, too many connections."""
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "lustre"}


def open_sqlite(path: Path, *, pooled: bool = False) -> Engine:
    """An engine for the SQLite file at `path`, safe against power loss and for several processes on one host.

    WAL with `synchronous=FULL`: a commit that was acknowledged survives. Writers begin IMMEDIATE, so two
    read-modify-write transactions never interleave; measured without: 320 of 400 updates lost in silence.

    Raises:
        StoreUnavailable: a network file system, on which WAL is not safe.
    """
    kind = _file_system(path.parent)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StoreUnavailable(
            f"{path} lies on a {kind} network file system, where SQLite may lose committed data. "
            "Set ADAPTERS_HOME to a folder on a local disk."
        )
    engine = create_engine(
        f"sqlite:///{path}",
        **(_SERVER_POOL if pooled else {"poolclass": NullPool}),
        connect_args={"timeout": BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def open_postgres(url: str, *, pooled: bool = True, password: str | None = None) -> Engine:
    """An engine for a PostgreSQL URL, `postgresql+psycopg://...`, for any number of processes on any number of hosts.

    Writers take turns, as on SQLite: each appends to the one hash chain of events anyway, and read-modify-write without
    turns lost 344 of 400 updates in silence. Readers see one moment and hold nobody off.

    Args:
        url: of the database.
        pooled: keep connections.
        password: in place of one in the URL.

    Raises:
        InvalidInput: a URL of something else.
        Unsupported: the `postgres` extra is not installed.
    """
    parsed = _postgres_url(url)
    if password is not None:
        parsed = parsed.set(password=password)
    watched = {name: value for name, value in WATCHED.items() if name not in parsed.query}
    try:
        _check_options(parsed)
        pool = _SERVER_POOL if pooled else {"poolclass": NullPool}
        engine = create_engine(parsed, **pool, connect_args=watched, hide_parameters=True)
    except ImportError as error:
        raise Unsupported(f"PostgreSQL needs {error.name}: pip install 'adapter-registry[postgres]'.") from error

    event.listen(engine, "checkout", _require_alive)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", True)
        _begin_as(connection.connection.dbapi_connection, reads=not writes)
        if writes:
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'; "
                f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; "
                f"SELECT pg_advisory_xact_lock({_WRITERS})"
            )

    return engine


def _begin_as(connection: Any, *, reads: bool) -> None:
    """Have the next transaction begin as a reader's, in the same message; or as the server's default."""
    from psycopg import IsolationLevel  # noqa: PLC0415  an extra

    level = IsolationLevel.REPEATABLE_READ if reads else None
    if connection.isolation_level is not level:
        connection.isolation_level = level
        connection.read_only = reads or None


def _require_alive(connection: Any, _record: Any, _proxy: Any) -> None:
    """Have the pool connect anew where the server hung up meanwhile.

    An idle connection has nothing to read but its end. Looking costs microseconds; asking the server would be one more
    question for every request.
    """
    waiting = select.poll()
    waiting.register(connection.pgconn.socket, select.POLLIN)
    if waiting.poll(0):
        raise DisconnectionError("the server hung up")


def _postgres_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InvalidInput(
            "ADAPTERS_DATABASE_URL is no URL: expected postgresql+psycopg://user@host/name. In a password, write "
            "@ : / # ? and % as %40 %3A %2F %23 %3F and %25, or name a file in ADAPTERS_DATABASE_PASSWORD_FILE."
        ) from error
    if parsed.drivername not in ("postgresql+psycopg", "postgresql", "postgres"):
        raise InvalidInput(
            f"ADAPTERS_DATABASE_URL names {parsed.drivername}: expected postgresql+psycopg://user@host/name. "
            "SQLite needs no URL: set ADAPTERS_HOME."
        )
    if "@" in (parsed.host or ""):
        raise InvalidInput("ADAPTERS_DATABASE_URL has an @ too many: write one in a password as %40.")
    return parsed.set(drivername="postgresql+psycopg")


def _check_options(url: URL) -> None:
    from psycopg import ProgrammingError  # noqa: PLC0415  an extra
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415

    try:
        make_conninfo("", **dict.fromkeys(url.query, "1"))
    except ProgrammingError as error:
        raise InvalidInput(
            "ADAPTERS_DATABASE_URL has an option after its ? that PostgreSQL does not know: "
            f"{', '.join(sorted(url.query))[:200]}."
        ) from error


@contextmanager
def transaction(engine: Engine, *, writes: bool) -> Iterator[Connection]:
    """One transaction; the database's own errors become ours, with what to do about them."""
    try:
        with engine.connect().execution_options(writes=writes) as connection, connection.begin():
            yield connection
    except PoolTimeout as error:
        raise _busy() from error
    except (DataError, OverflowError, UnicodeEncodeError) as error:
        # Numbers beyond 64 bits, halves of characters, NUL: what no column holds.
        raise InvalidInput("a number or text of the request cannot be stored; nothing was changed.") from error
    except DBAPIError as error:
        if isinstance(error, OperationalError) or _speaks_of_store(error):
            raise _explained(error) from error
        raise


def _speaks_of_store(error: DBAPIError) -> bool:
    """Whether an error is about the database as a whole, though its class usually speaks of one statement.

    SQLite's bare DatabaseError: the file is malformed, or no database at all. PostgreSQL: a lost connection, or a
    server that only reads.
    """
    state = getattr(error.orig, "sqlstate", None)
    return type(error.orig) is sqlite3.DatabaseError or error.connection_invalidated or state == "25006"


def _explained(error: DBAPIError) -> Exception:
    reason = str(error.orig)
    if isinstance(error.orig, sqlite3.Error):
        return _explained_sqlite(reason)
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == "53100":
        return _full()
    if state == "25006":
        return StoreUnavailable(
            "the database of the store only reads; nothing was changed. Name the primary in ADAPTERS_DATABASE_URL."
        )
    if error.connection_invalidated and state not in _BUSY_STATES:
        return StoreUnavailable(
            f"the database of the store hung up: {_first_line(reason)}. What was under way was changed whole or not "
            "at all. Look, and try again."
        )
    return unreachable(error.orig)


def unreachable(error: BaseException | None) -> StoreBusy | StoreUnavailable:
    """What is said of PostgreSQL's own error about a connection."""
    if (getattr(error, "sqlstate", None) or "") in _BUSY_STATES:
        return _busy()
    return StoreUnavailable(
        f"the database of the store cannot be reached: {_first_line(str(error))}. "
        "Nothing was changed. Check ADAPTERS_DATABASE_URL and that PostgreSQL runs."
    )


def _explained_sqlite(reason: str) -> Exception:
    if "locked" in reason or "busy" in reason:
        return _busy()
    if "full" in reason:
        return _full()
    if "readonly" in reason or "read-only" in reason:
        return StoreUnavailable("the store is read-only; nothing was changed. Check the folder's owner and mount.")
    return StoreUnavailable(
        f"the database of the store cannot be used: {reason}. Nothing was changed. "
        "Restore it from a backup, or set ADAPTERS_HOME to another folder."
    )


def _busy() -> StoreBusy:
    return StoreBusy(f"others held the store for over {BUSY_SECONDS} s; nothing was changed. Try again.")


def _full() -> StoreFull:
    return StoreFull("the disk of the store is full; nothing was changed. Free some space and try again.")


def _first_line(reason: str) -> str:
    return reason.strip().splitlines()[0].rstrip(".") if reason.strip() else "no reason given"


def schema_of(engine: Engine) -> str | None:
    """The revision a database is at; None when it is empty."""
    with transaction(engine, writes=False) as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def ensure_schema(engine: Engine, migrations: Path) -> None:
    """Bring an embedded database to this code's revision; nothing happens when it is there.

    Raises:
        StoreUnavailable: a newer adapter-registry wrote it.
    """
    if schema_of(engine) != SCHEMA:
        migrate(engine, migrations)


def require_schema(engine: Engine) -> None:
    """Refuse a database that is at another revision; `adapters admin migrate` changes that."""
    found = schema_of(engine)
    if found != SCHEMA:
        raise StoreUnavailable(
            f"the database is at schema {found or 'none'}, this version needs {SCHEMA}. "
            "Run `adapters admin migrate` with the version you want to serve."
        )


def migrate(engine: Engine, migrations: Path) -> str:
    """Run the migrations up to the newest, in one transaction under the write lock; the revision reached."""
    # Alembic takes as long to import as everything else together; most runs have nothing to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    try:
        with transaction(engine, writes=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnavailable(
            f"the database was written by a newer adapter-registry (schema {schema_of(engine)}, known here: {SCHEMA}); "
            "nothing was changed. Upgrade this installation."
        ) from error
    return SCHEMA


def _file_system(folder: Path) -> str | None:
    """The type of the file system `folder` lies on, where the system tells (Linux)."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return None
    resolved, best = folder.resolve(), ("", "")
    for line in mounts.read_text(errors="replace").splitlines():
        _device, point, kind, *_rest = line.split(" ")
        point = point.replace("\\040", " ")
        if resolved.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1] or None
