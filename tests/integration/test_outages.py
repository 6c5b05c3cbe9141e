"""The database or the bucket goes down and comes back; the server is told to stop: nobody restarts anything."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.server_process import Server, serving
from tests.servers import PostgresProcess, S3Server

pytestmark = pytest.mark.xdist_group("outages")
PASSWORD = "correct-horse"
FAST = 5
"""Seconds within which a server says that what it needs is down."""


def put_path(data: bytes) -> str:
    return f"/api/v1/adapters/team/sql-lora/blobs/{hashlib.sha256(data).hexdigest()}"


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresProcess]:
    with servers.postgres_process(password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[Server]:
    settings = {"ADAPTERS_DATABASE_URL": database.url(password=PASSWORD)}
    with serving(tmp_path_factory.mktemp("server"), settings, "--workers", "2") as running:
        yield running


class TestTheDatabaseGoesDown:
    def test_requests_fail_fast_the_server_is_not_ready_but_lives_and_comes_back(self, server, database):
        for _ in range(2):
            assert server.comes_back("/ready")
            assert server.ask("GET", "/api/v1/adapters")[0] == 200
            database.stop()
            try:
                for path in ("/api/v1/adapters", "/api/models/team/sql-lora", "/metrics"):
                    status, body, headers = server.ask("GET", path, seconds=FAST)
                    hub = path.startswith("/api/models/")
                    form = "application/json" if hub else "application/problem+json"
                    assert (status, headers["content-type"]) == (503, form), body
                    assert int(headers["retry-after"]) > 0
                    if hub:
                        assert json.loads(body)["error"].startswith("the database of the store cannot be reached")
                    else:
                        assert json.loads(body)["code"] == "store-unavailable"
                    assert PASSWORD not in body.decode()
                time.sleep(1.1)  # what was looked at less than a second ago counts
                status, body, headers = server.ask("GET", "/ready", seconds=FAST)
                assert (status, json.loads(body)["reason"]) == (503, "database: store-unavailable")
                assert headers["retry-after"]
                assert server.ask("GET", "/health", seconds=FAST)[0] == 200
            finally:
                database.start()
            assert server.comes_back("/ready")
            assert server.comes_back("/api/v1/adapters")
        assert server.process.poll() is None

    def test_connections_cut_in_between_are_not_noticed(self, server, database):
        import psycopg

        for _ in range(3):
            assert server.ask("GET", "/api/v1/adapters")[0] == 200
            with psycopg.connect(database.url(password=PASSWORD), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            assert server.ask("GET", "/api/v1/adapters")[0] == 200

    def test_nothing_acknowledged_is_lost_when_it_crashes_under_writes(self, server, database):
        made: list[str] = []
        stop = threading.Event()

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                body = json.dumps({"name": f"user-{number}", "kind": "service"}).encode()
                if server.ask("POST", "/api/v1/accounts", body)[0] == 201:
                    made.append(f"user-{number}")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                before = len(made)
                while len(made) < before + 5:
                    time.sleep(0.02)
                database.stop(signal.SIGQUIT)  # as in a crash: recovered from its log
                database.start()
                assert server.comes_back("/ready")
        finally:
            stop.set()
            writer.join()
        known = {account["name"] for account in json.loads(server.ask("GET", "/api/v1/accounts")[1])["items"]}
        assert set(made) <= known
        report = json.loads(server.ask("POST", "/api/v1/store/check", b'{"read_data": false}')[1])
        assert report["damage"] == []

    def test_of_three_servers_that_start_at_once_one_tells_the_token(self, database, tmp_path):
        import psycopg

        with psycopg.connect(database.url(password=PASSWORD), autocommit=True) as connection:
            connection.execute("CREATE DATABASE fresh")
        started = []
        try:
            for number in range(3):
                environment = {**os.environ, "ADAPTERS_DATABASE_URL": database.url("fresh", password=PASSWORD)}
                started.append(
                    subprocess.Popen(
                        [Path(sys.executable).with_name("adapters"), "serve", "--port", "0"],
                        env={**environment, "ADAPTERS_HOME": f"{tmp_path}/{number}"},
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                    )
                )
            printed = [each.stdout.readline() + each.stdout.readline() for each in started]
            assert all("serving PostgreSQL fresh at" in text for text in printed), printed
            told = re.findall(r"http://(\S+) ADAPTERS_TOKEN=(adapters_\S+)", "\n".join(printed))
            assert len(told) == 1, printed
            for text in printed:
                host = re.search(r"URL=http://(\S+)", text)[1]
                connection = http.client.HTTPConnection(host, timeout=30)
                connection.request("GET", "/api/v1/whoami", headers={"Authorization": f"Bearer {told[0][1]}"})
                assert json.loads(connection.getresponse().read())["name"] == "admin"
                connection.close()
        finally:
            for each in started:
                each.terminate()
                each.communicate(timeout=60)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    folder = Path(tempfile.mkdtemp(prefix="adapters-s3-", dir="/tmp"))
    running = Bucket(folder)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


class TestTheBucketGoesDown:
    def test_requests_fail_fast_the_server_is_not_ready_but_lives_and_comes_back(self, bucket, tmp_path):
        settings = {
            "ADAPTERS_BLOBS_URL": f"s3://{bucket.server.fresh_bucket()}/x",
            "AWS_ENDPOINT_URL_S3": bucket.server.endpoint,
            "AWS_ACCESS_KEY_ID": bucket.server.access_key,
            "AWS_SECRET_ACCESS_KEY": bucket.server.secret_key,
        }
        with serving(tmp_path, settings) as server:
            data = os.urandom(1 << 16)
            assert server.ask("PUT", put_path(data), data)[0] == 201
            assert server.ask("GET", "/ready")[0] == 200
            bucket.stop()
            other = os.urandom(1 << 16)
            status, body, headers = server.ask("PUT", put_path(other), other, seconds=FAST)
            assert (status, headers["content-type"]) == (503, "application/problem+json"), body
            assert headers["retry-after"]
            assert bucket.server.secret_key not in body.decode()
            time.sleep(1.1)
            status, body, _ = server.ask("GET", "/ready", seconds=FAST)
            assert (status, json.loads(body)["reason"]) == (503, "blobs: store-unavailable")
            assert server.ask("GET", "/health", seconds=FAST)[0] == 200
            assert server.ask("GET", "/api/v1/adapters", seconds=FAST)[0] == 200
            bucket.start()
            assert server.comes_back("/ready")
            assert server.ask("PUT", put_path(other), other)[0] == 201


class Bucket:
    """An S3 server that is killed and started again on the same data and ports."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ports = folder, servers._free_ports(10)
        self.server = S3Server(f"http://127.0.0.1:{self._ports[2 * servers.S3_PORTS.index('s3')]}")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        program = Path(sys.executable).with_name("weed")
        self._process = servers._launch(program, self._folder, self._ports, self.server)
        assert servers._answers(self._process, f"{self.server.endpoint}/healthz")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class TestToldToStop:
    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_uploads_and_downloads_under_way_are_finished_and_readiness_goes_first(self, tmp_path, workers):
        settings = {"ADAPTERS_DRAIN_SECONDS": "3", "ADAPTERS_GRACE_SECONDS": "20"}
        with serving(tmp_path, settings, "--workers", workers) as server:
            data = os.urandom(8 << 20)
            up = http.client.HTTPConnection(server.host, timeout=60)
            up.putrequest("PUT", put_path(data))
            up.putheader("Authorization", f"Bearer {server.token}")
            up.putheader("Content-Length", str(len(data)))
            up.endheaders()
            up.send(data[: 1 << 20])
            time.sleep(0.3)
            for pid in (server.process.pid, *children(server.process.pid)):
                os.kill(pid, signal.SIGTERM)  # as systemd does: all of them, and the parent tells its children again
            deadline = time.monotonic() + 10
            while server.ask("GET", "/ready")[0] == 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(1)
            # Not ready, and still taking requests: whoever balances the load has not seen it yet.
            assert server.ask("GET", "/api/v1/adapters")[0] == 200
            deadline = time.monotonic() + 20
            while accepts(server.host):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            for start in range(1 << 20, len(data), 1 << 20):
                up.send(data[start : start + (1 << 20)])
            assert up.getresponse().status == 201
            up.close()
            server.process.wait(30)
        assert [path.name for path in tmp_path.glob("home/blobs/sha256/*/*")] == [hashlib.sha256(data).hexdigest()]
        assert not list(tmp_path.glob("home/blobs/incoming/*"))

    def test_what_is_not_finished_in_its_grace_is_cut_and_leaves_nothing_behind(self, tmp_path):
        with serving(tmp_path, {"ADAPTERS_GRACE_SECONDS": "1"}) as server:
            data = os.urandom(4 << 20)
            up = http.client.HTTPConnection(server.host, timeout=60)
            up.putrequest("PUT", put_path(data))
            up.putheader("Authorization", f"Bearer {server.token}")
            up.putheader("Content-Length", str(len(data)))
            up.endheaders()
            up.send(data[: 1 << 20])
            time.sleep(0.3)
            server.process.terminate()
            server.process.wait(30)
            with pytest.raises((http.client.HTTPException, OSError)):
                finish(up, data[1 << 20 :])
            up.close()
        assert not list(tmp_path.glob("home/blobs/sha256/*/*"))
        assert not list(tmp_path.glob("home/blobs/incoming/*"))


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def finish(connection: http.client.HTTPConnection, rest: bytes) -> bytes:
    """Send the rest of a request; the answer's body."""
    connection.send(rest)
    return connection.getresponse().read()


def accepts(host: str) -> bool:
    """Whether anybody answers there."""
    name, _, port = host.partition(":")
    with contextlib.suppress(OSError), socket.create_connection((name, int(port)), timeout=2) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.recv(12).endswith(b"200")
    return False
