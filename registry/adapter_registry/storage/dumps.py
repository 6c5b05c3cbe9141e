"""A database into a file and back: SQLite by VACUUM INTO, PostgreSQL by pg_dump and pg_restore."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine, text

from adapter_registry.domain.errors import Conflict, NotFound, StoreUnavailable, Unsupported
from adapter_registry.storage.database import open_sqlite, schema_of

SQLITE, POSTGRES = "registry.db", "registry.dump"


def dump(engine: Engine, folder: Path) -> Path:
    """Write one moment of the database into `folder`, in place of an earlier dump; its file.

    Raises:
        Unsupported: pg_dump is not installed.
        StoreUnavailable: it failed, or the folder cannot be written.
    """
    aside = folder / f".{name_of(engine)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside.unlink(missing_ok=True)
        if engine.dialect.name == "sqlite":
            _vacuum(engine, aside)
        else:
            _program("pg_dump", engine, ["--format=custom", f"--file={aside}"])
        return _placed(aside, folder / name_of(engine))
    except OSError as error:
        raise StoreUnavailable(f"{folder} cannot hold a backup ({error.strerror}).") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def undump(engine: Engine, folder: Path) -> None:
    """Fill an empty database from the dump in `folder`.

    Raises:
        NotFound: no dump of this kind of database there.
        Conflict: the database is not empty.
        Unsupported: pg_restore is not installed.
        StoreUnavailable: it failed; nothing was restored.
    """
    path = folder / name_of(engine)
    if not path.is_file():
        kind = "SQLite" if engine.dialect.name == "sqlite" else "PostgreSQL"
        raise NotFound(f"{folder} has no {name_of(engine)}: no backup of a catalog in {kind}. Nothing was restored.")
    require_empty(engine)
    if engine.dialect.name != "sqlite":
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
        _program("pg_restore", engine, options, last=[str(path)])
        return
    target = Path(engine.url.database or "")
    for end in ("", "-wal", "-shm"):
        target.with_name(target.name + end).unlink(missing_ok=True)
    aside = target.with_name(f".{target.name}.part")
    aside.unlink(missing_ok=True)
    source = open_sqlite(path)
    try:
        _vacuum(source, aside)
        _placed(aside, target)
    finally:
        source.dispose()


def name_of(engine: Engine) -> str:
    """What the dump of this kind of database is called."""
    return SQLITE if engine.dialect.name == "sqlite" else POSTGRES


def require_empty(engine: Engine) -> None:
    """Refuse a database that holds a registry; an SQLite file that is not there stays so.

    Raises:
        Conflict: it does.
    """
    sqlite = engine.dialect.name == "sqlite"
    if sqlite and not Path(engine.url.database or "").exists():
        return
    if schema_of(engine) is not None:
        where = "ADAPTERS_HOME names a folder" if sqlite else "ADAPTERS_DATABASE_URL names a database"
        raise Conflict(f"{where} that holds a registry already; nothing was restored. Name an empty one.")


def _vacuum(engine: Engine, target: Path) -> None:
    connection = engine.raw_connection()  # outside of any transaction, as VACUUM wants it
    try:
        connection.cursor().execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the database cannot be copied ({error}); nothing was kept of the copy.") from error
    finally:
        connection.close()


def _placed(aside: Path, final: Path) -> Path:
    with aside.open("rb") as stream:
        os.fsync(stream.fileno())
    aside.chmod(0o600)
    aside.rename(final)
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return final


def _program(name: str, engine: Engine, options: Sequence[str], last: Sequence[str] = ()) -> None:
    program = shutil.which(name)
    if program is None:
        raise Unsupported(
            f"{name} is not installed here, and backups of a catalog in PostgreSQL take it. Install PostgreSQL's "
            "client programs, no older than the server; or dump it elsewhere, then run this with --blobs-only."
        )
    # The password travels aside: arguments are there for everybody on the machine to read.
    address = engine.url.set(drivername="postgresql")._replace(password=None).render_as_string()
    password = {"PGPASSWORD": str(engine.url.password)} if engine.url.password is not None else {}
    done = subprocess.run(  # noqa: S603  a program of PostgreSQL's, with an address as one argument
        [program, "--no-password", *options, f"--dbname={address}", *last],
        env={**os.environ, **password},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        told = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise StoreUnavailable(f"{name} failed: {told[0][:300]}. Nothing was kept of it.")


def check_dump(engine: Engine) -> None:
    """Hold an SQLite file against itself.

    Raises:
        StoreUnavailable: it is damaged.
    """
    with engine.connect() as connection:
        found = connection.execute(text("PRAGMA quick_check(1)")).scalar()
    if found != "ok":
        raise StoreUnavailable(f"the copy of the database is damaged: {found}. Run the backup again.")
