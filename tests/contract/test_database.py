"""The schema: migrations and tables say the same, and the code knows which revision it reads."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from adapter_registry.domain.errors import InvalidInput, StoreBusy, StoreUnavailable
from adapter_registry.settings import migrations_folder
from adapter_registry.storage import database
from adapter_registry.storage.schema import SCHEMA, metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        made = database.open_sqlite(tmp_path / "registry.db")
    else:
        made = database.open_postgres(request.getfixturevalue("postgres_server").fresh_database())
    yield made
    made.dispose()


@pytest.fixture
def postgres(postgres_server):
    made = database.open_postgres(postgres_server.fresh_database())
    yield made
    made.dispose()


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(migrations_folder()))
    return made


def test_the_code_reads_the_newest_revision():
    assert ScriptDirectory.from_config(config()).get_current_head() == SCHEMA


def test_the_migrations_make_the_tables_that_the_code_uses(engine):
    database.ensure_schema(engine, migrations_folder())
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_twice_and_going_back_and_forth_ends_in_the_same_place(engine):
    assert database.schema_of(engine) is None
    assert database.migrate(engine, migrations_folder()) == SCHEMA
    assert database.migrate(engine, migrations_folder()) == SCHEMA
    made = config()
    with engine.begin() as connection:
        made.attributes["connection"] = connection
        command.downgrade(made, "base")
    assert database.migrate(engine, migrations_folder()) == SCHEMA
    assert database.schema_of(engine) == SCHEMA


def test_a_database_that_is_not_embedded_is_not_migrated_by_itself(engine):
    with pytest.raises(StoreUnavailable, match="adapters admin migrate"):
        database.require_schema(engine)


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "_file_system", lambda _: "nfs4")
    with pytest.raises(StoreUnavailable, match="local disk"):
        database.open_sqlite(tmp_path / "registry.db")


def test_many_first_commands_at_once_make_one_store(tmp_path):
    program = str(Path(sys.executable).with_name("adapters"))
    environment = {"ADAPTERS_HOME": str(tmp_path / "home"), "ADAPTERS_CACHE": str(tmp_path), "PATH": ""}
    started = [
        subprocess.Popen([program, "ls"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(5)
    ]
    assert [(process.communicate()[1], process.returncode) for process in started] == [(b"", 0)] * 5


def together(count: int, work) -> list:
    """What `count` threads got from `work`."""
    with ThreadPoolExecutor(count) as threads:
        return [started.result() for started in [threads.submit(work) for _ in range(count)]]


def test_many_servers_that_start_at_once_migrate_once(engine):
    assert together(6, lambda: database.migrate(engine, migrations_folder())) == [SCHEMA] * 6


def test_a_database_of_a_newer_release_is_refused_as_it_is(engine):
    database.migrate(engine, migrations_folder())
    with database.transaction(engine, writes=True) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreUnavailable, match=r"written by a newer adapter-registry \(schema 9999"):
        database.ensure_schema(engine, migrations_folder())
    assert database.schema_of(engine) == "9999"


def test_a_connection_that_is_kept_is_as_safe_as_a_fresh_one(tmp_path):
    engine = database.open_sqlite(tmp_path / "registry.db", pooled=True)
    for _ in range(2):
        with database.transaction(engine, writes=False) as connection:
            found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "foreign_keys")]
            assert found == [2, 1]
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert engine.pool.checkedin() == 1
    engine.dispose()


def test_more_callers_than_connections_are_told_to_try_again(tmp_path, monkeypatch):
    monkeypatch.setitem(database._SERVER_POOL, "pool_timeout", 0.1)
    monkeypatch.setitem(database._SERVER_POOL, "pool_size", 1)
    monkeypatch.setitem(database._SERVER_POOL, "max_overflow", 0)
    engine = database.open_sqlite(tmp_path / "registry.db", pooled=True)
    with (
        database.transaction(engine, writes=False),
        pytest.raises(StoreBusy, match="Try again"),
        database.transaction(engine, writes=False),
    ):
        pass
    engine.dispose()


def test_an_error_of_one_statement_stays_what_it_is(engine):
    with database.transaction(engine, writes=True) as connection:
        connection.execute(text("CREATE TABLE once (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO once VALUES (1)"))
    with pytest.raises(IntegrityError), database.transaction(engine, writes=True) as connection:
        connection.execute(text("INSERT INTO once VALUES (1)"))


class TestPostgres:
    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_every_common_spelling_of_a_url_means_the_same_driver(self, postgres_server, scheme):
        engine = database.open_postgres(postgres_server.url().replace("postgresql+psycopg", scheme))
        assert engine.driver == "psycopg"
        assert database.schema_of(engine) is None
        engine.dispose()

    @pytest.mark.parametrize("url", ["mysql://host/db", "sqlite:///x", "postgresql+psycopg2://host/db", "no url"])
    def test_other_databases_are_refused(self, url):
        with pytest.raises(InvalidInput, match=r"expected postgresql\+psycopg://"):
            database.open_postgres(url)

    def test_readers_see_one_moment_and_can_not_write(self, postgres):
        with database.transaction(postgres, writes=True) as connection:
            connection.execute(text("CREATE TABLE seen (id INTEGER)"))
        count = text("SELECT count(*) FROM seen")
        with database.transaction(postgres, writes=False) as reader:
            assert reader.execute(count).scalar() == 0
            with database.transaction(postgres, writes=True) as writer:
                writer.execute(text("INSERT INTO seen VALUES (1)"))
            assert reader.execute(count).scalar() == 0
        with database.transaction(postgres, writes=False) as reader:
            assert reader.execute(count).scalar() == 1
        with (
            pytest.raises(StoreUnavailable, match="only reads"),
            database.transaction(postgres, writes=False) as reader,
        ):
            reader.execute(text("INSERT INTO seen VALUES (2)"))

    def test_a_writer_who_waits_too_long_is_told_to_try_again(self, postgres, monkeypatch):
        monkeypatch.setattr(database, "BUSY_SECONDS", 1)
        with (
            database.transaction(postgres, writes=True),
            pytest.raises(StoreBusy, match="Try again"),
            database.transaction(postgres, writes=True),
        ):
            pass

    def test_a_writer_who_vanished_lets_the_others_on(self, postgres, monkeypatch):
        monkeypatch.setattr(database, "IDLE_SECONDS", 1)
        vanished = pytest.raises(StoreUnavailable, match="hung up")
        with vanished, database.transaction(postgres, writes=True) as connection:
            with database.transaction(postgres, writes=True):
                pass
            connection.execute(text("SELECT 1"))

    def test_a_line_that_is_cut_is_said_and_the_next_caller_gets_a_new_one(self, postgres, postgres_server):
        cut = pytest.raises(StoreUnavailable, match=r"hung up.*whole or not at all")
        with cut, database.transaction(postgres, writes=True) as connection:
            mine = connection.execute(text("SELECT pg_backend_pid()")).scalar()
            postgres_server.run(f"SELECT pg_terminate_backend({mine})")
            connection.execute(text("SELECT 1"))
        assert database.schema_of(postgres) is None

    def test_a_line_that_was_cut_while_nobody_used_it_is_replaced_in_silence(self, postgres, postgres_server):
        assert database.schema_of(postgres) is None
        others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = "
        postgres_server.run(f"{others}'{postgres.url.database}'")
        assert database.schema_of(postgres) is None

    def test_a_server_that_does_not_answer_is_said_within_seconds(self, monkeypatch):
        monkeypatch.setitem(database.WATCHED, "connect_timeout", 2)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            engine = database.open_postgres(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/x")
            started = time.monotonic()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                database.schema_of(engine)
            assert time.monotonic() - started < 4

    def test_a_password_does_not_get_into_the_text(self, postgres_server):
        engine = database.open_postgres("postgresql://me:s3cret@127.0.0.1:9/none")
        with pytest.raises(StoreUnavailable, match="Nothing was changed") as refused:
            database.schema_of(engine)
        assert "s3cret" not in str(refused.value)
