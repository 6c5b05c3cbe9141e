"""The schema: migrations and tables say the same, and the code knows which revision it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from adapter_registry.domain.errors import StoreUnavailable
from adapter_registry.settings import migrations_folder
from adapter_registry.storage import database
from adapter_registry.storage.tables import SCHEMA, metadata


@pytest.fixture
def engine(tmp_path):
    return database.open_sqlite(tmp_path / "registry.db")


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
