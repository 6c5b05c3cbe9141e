"""How workers show that they live: a lock that the system lets go of when their process is gone, however it ended."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adapter_registry.storage.database import WATCHED

if TYPE_CHECKING:
    from psycopg import Connection

_SPACE = 7_263_902
"""First key of the advisory locks of PostgreSQL that workers hold; any number that nobody else uses."""


class Presence(Protocol):
    """Which workers are gone."""

    def show(self, worker: str) -> None:
        """This process is `worker` from now on, until it ends."""

    def lost(self) -> bool:
        """Whether this process does not show its presence any more: others may have taken over what it does."""

    def gone(self, worker: str) -> bool:
        """Whether that worker's process is gone."""


class FilePresence:
    """A locked file for each worker, in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: int | None = None

    def show(self, worker: str) -> None:
        """See Presence.show."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._mine = descriptor

    def lost(self) -> bool:
        """See Presence.lost: the system never takes a lock away."""
        return False

    def gone(self, worker: str) -> bool:
        """See Presence.gone; the file of one that is gone is removed."""
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            with suppress(FileNotFoundError):
                self._path(worker).unlink()
            return True
        finally:
            os.close(descriptor)

    def _path(self, worker: str) -> Path:
        return self._folder / f"{worker}.lock"


class PostgresPresence:
    """An advisory lock for each worker, on a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg", "postgresql", 1)
        self._mine: Connection[Any] | None = None

    def show(self, worker: str) -> None:
        """See Presence.show."""
        self._mine = self._connect()
        self._mine.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", (_SPACE, worker))

    def lost(self) -> bool:
        """See Presence.lost: the server was restarted, or hung up."""
        from psycopg import OperationalError  # noqa: PLC0415  an extra

        try:
            assert self._mine is not None  # noqa: S101  for the type checker
            self._mine.execute("SELECT 1")
        except OperationalError:
            return True
        return False

    def gone(self, worker: str) -> bool:
        """See Presence.gone."""
        with self._connect() as connection:  # closing it lets go of the lock
            found = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_SPACE, worker)).fetchone()
            return bool(found and found[0])

    def _connect(self) -> Connection[Any]:
        from psycopg import connect  # noqa: PLC0415  an extra

        watched = {name: value for name, value in WATCHED.items() if name not in self._url}
        return connect(self._url, autocommit=True, **watched)  # type: ignore[arg-type]  # libpq's options
