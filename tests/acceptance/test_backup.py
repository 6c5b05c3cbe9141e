"""The drill: a backup while people write, restored elsewhere, holds all that was acknowledged before it began."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from adapter_registry.client import Registry
from adapter_registry.settings import read_settings
from tests import servers
from tests.acceptance.conftest import Cli
from tests.acceptance.test_life import retrained
from tests.server_process import serving
from tests.warm_command import adapters

pytestmark = pytest.mark.xdist_group("backup")
PASSWORD = "p@ss/w:rd"


class Store:
    """Where a registry lies: what `adapters` needs to know to get there."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder, self.settings = folder, settings
        folder.mkdir(exist_ok=True)

    def ran(self, *words: object, code: int = 0) -> dict:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADAPTERS_", "AWS_"))}
        home = {"ADAPTERS_HOME": f"{self.folder}/home", "ADAPTERS_CACHE": f"{self.folder}/cache"}
        done = adapters([*map(str, words), "--json"], environment={**kept, **home, **self.settings}, cwd=self.folder)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request, tmp_path):
    """(the store that is used, an empty one of the same kind)."""
    if request.param == "sqlite":
        yield Store(tmp_path / "first", {}), Store(tmp_path / "second", {})
        return
    s3 = request.getfixturevalue("s3_server")
    with servers.postgres_process(password=PASSWORD) as running:
        import psycopg

        with psycopg.connect(running.url(password=PASSWORD), autocommit=True) as connection:
            for name in ("first", "second"):
                connection.execute(f"CREATE DATABASE {name}")
        made = [
            Store(
                tmp_path / name,
                {
                    "ADAPTERS_DATABASE_URL": running.url(name, password=PASSWORD),
                    "ADAPTERS_BLOBS_URL": f"s3://{s3.fresh_bucket()}/x",
                    "AWS_ENDPOINT_URL_S3": s3.endpoint,
                    "AWS_ACCESS_KEY_ID": s3.access_key,
                    "AWS_SECRET_ACCESS_KEY": s3.secret_key,
                    "PATH": f"{running.programs}{os.pathsep}{os.environ['PATH']}",
                },
            )
            for name in ("first", "second")
        ]
        yield made[0], made[1]


def test_all_that_was_acknowledged_before_a_backup_began_is_in_it(stores, tmp_path, llama_folder, lora_folder):
    used, fresh = stores
    with serving(used.folder, {"ADAPTERS_HOME": f"{used.folder}/home", **used.settings}) as server:
        where = {"ADAPTERS_URL": f"http://{server.host}", "ADAPTERS_TOKEN": server.token}
        home = {"ADAPTERS_HOME": f"{tmp_path}/mine", "ADAPTERS_CACHE": f"{tmp_path}/mine/cache"}
        registry = Registry(read_settings({**home, **where}))
        registry.add_base("org/llama", llama_folder)
        acknowledged: list[str] = []
        stop = threading.Event()

        def push() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                folder = retrained(lora_folder, tmp_path / f"r{number}", 1 + number / 7)
                pushed = registry.push(folder, base="org/llama", name="team/sql-lora", message=str(number))
                registry.tag(f"team/sql-lora@v{pushed.version.number}", "newest")
                acknowledged.append(pushed.version.digest)

        pusher = threading.Thread(target=push)
        pusher.start()
        try:
            copies = []
            for _ in range(2):
                before = len(acknowledged)
                while len(acknowledged) < before + 3:
                    assert pusher.is_alive()
                copies.append((list(acknowledged), used.ran("admin", "backup", tmp_path / "backup")))
        finally:
            stop.set()
            pusher.join()
    first, second = (copied for _, copied in copies)
    assert first["new"] == first["blobs"]
    assert second["new"] == second["blobs"] - first["blobs"] > 0, "what was there is not copied again"

    restored = fresh.ran("admin", "restore", tmp_path / "backup")
    assert restored["blobs"] == second["blobs"]
    report = fresh.ran("admin", "check", "--read-data")
    assert report["damage"] == []
    there = {version["digest"] for version in fresh.ran("ls", "team/sql-lora")}
    assert set(copies[-1][0]) <= there
    fresh.ran("pull", "team/sql-lora@newest", "-o", tmp_path / "out")
    # The tokens and accounts are in it too.
    with serving(
        fresh.folder, {"ADAPTERS_HOME": f"{fresh.folder}/home", **fresh.settings}, token=server.token
    ) as again:
        assert again.ask("GET", "/api/v1/whoami")[0] == 200
    assert fresh.ran("admin", "restore", tmp_path / "backup", code=1)["error"]["code"] == "conflict"


@pytest.fixture
def filled(cli: Cli, llama_folder, lora_folder) -> Cli:
    cli("base", "add", "llama", llama_folder)
    cli("push", lora_folder, "--base", "llama", "--name", "sql-lora")
    return cli


def test_a_backup_of_sqlite_is_itself_a_registry(filled, tmp_path):
    filled("admin", "backup", tmp_path / "backup")
    copy = Cli(tmp_path / "backup", filled.folder)
    assert copy("admin", "check", "--read-data").out.endswith("sound\n")
    assert [line["number"] for line in copy("ls", "sql-lora", "--json").json] == [1]
    assert (tmp_path / "backup" / "registry.db").stat().st_mode & 0o777 == 0o600


def test_bytes_that_are_lost_or_damaged_are_told_and_the_rest_is_copied(filled, tmp_path):
    blobs = sorted((filled.home / "blobs" / "sha256").glob("*/*"))
    blobs[0].unlink()
    blobs[1].chmod(0o644)
    blobs[1].write_bytes(b"x" * blobs[1].stat().st_size)
    told = filled("admin", "backup", tmp_path / "backup", code=1).err
    assert f"2 of {len(blobs)} blobs are lost or damaged" in told
    assert len(list((tmp_path / "backup" / "blobs" / "sha256").glob("*/*"))) == len(blobs) - 2
    assert not [p for p in (tmp_path / "backup" / "blobs" / "incoming").glob("*")]


def test_a_damaged_backup_is_not_restored(filled, tmp_path):
    filled("admin", "backup", tmp_path / "backup")
    blob = sorted((tmp_path / "backup" / "blobs" / "sha256").glob("*/*"))[0]
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    fresh = Cli(tmp_path / "fresh", filled.folder)
    assert "damaged" in fresh("admin", "restore", tmp_path / "backup", code=1).err
    assert not (fresh.home / "registry.db").exists()


def test_a_folder_without_a_backup_and_a_registry_that_is_not_empty_are_refused(filled, tmp_path):
    (tmp_path / "nothing").mkdir()
    fresh = Cli(tmp_path / "fresh", filled.folder)
    assert "has no registry.db" in fresh("admin", "restore", tmp_path / "nothing", code=1).err
    filled("admin", "backup", tmp_path / "backup")
    assert "holds a registry already" in filled("admin", "restore", tmp_path / "backup", code=1).err
    (tmp_path / "file").write_text("x")
    assert "cannot hold a backup" in filled("admin", "backup", tmp_path / "file" / "x", code=1).err


def test_who_asks_a_server_is_sent_to_where_the_store_is(cli, monkeypatch):
    monkeypatch.setenv("ADAPTERS_URL", "http://127.0.0.1:9")
    for words in (["backup", "x"], ["token"], ["migrate"]):
        done = subprocess.run(
            [*cli.command, "admin", *words],
            env={**cli.environment, "ADAPTERS_URL": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "where the store is" in done.stderr


class TestTheAdministratorsToken:
    def test_it_is_made_where_the_store_is_and_lets_in(self, tmp_path):
        cli = Cli(tmp_path / "home", tmp_path)
        first, second = (cli("admin", "token", "-q").out.strip() for _ in range(2))
        assert first != second
        with serving(tmp_path, {"ADAPTERS_HOME": str(cli.home)}, token=first) as server:
            for token in (first, second):
                assert json.loads(server.ask("GET", "/api/v1/whoami", token=token)[1])["name"] == "admin"
            events = [e["entry"]["action"] for e in json.loads(server.ask("GET", "/api/v1/events")[1])["items"]]
        assert events == ["account.create", "account.grant", "token.create"]

    def test_it_lets_in_again_an_administrator_who_was_shut_out(self, tmp_path):
        cli = Cli(tmp_path / "home", tmp_path)
        cli("admin", "token", "-q")
        cli("account", "disable", "admin")
        cli("account", "grant", "admin", "*", "reader")
        token = cli("admin", "token", "-q").out.strip()
        with serving(tmp_path, {"ADAPTERS_HOME": str(cli.home)}, token=token) as server:
            assert server.ask("GET", "/api/v1/accounts")[0] == 200

    def test_a_server_told_to_make_none_prints_none(self, tmp_path):
        with serving(tmp_path, {}, "--no-token", token="adapters_none") as server:
            assert server.ask("GET", "/api/v1/whoami")[0] == 401
        assert "adapters_" not in server.printed + server.log.read_text()
