"""Bases, adapters and databases that many tests share, made once per test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from adapter_registry.checkpoints.base_folder import read_base
from adapter_registry.settings import migrations_folder
from adapter_registry.storage.database import migrate, open_postgres, open_sqlite
from tests import servers
from tests.adapter_builders import adapter, llama
from tests.servers import PostgresServer, S3Server

# A busy machine breaks no law: how long things take is measured in benchmarks.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama checkpoint."""
    return llama(tmp_path_factory.mktemp("llama") / "base")


@pytest.fixture(scope="session")
def llama_base(llama_folder):
    """Its Base, every byte read."""
    return read_base(llama_folder, cache=None, progress=lambda _: None)


@pytest.fixture(scope="session")
def lora_folder(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> Path:
    """A LoRA on q_proj and v_proj of it."""
    from peft import LoraConfig

    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    return adapter(tmp_path_factory.mktemp("lora") / "lora", llama_folder, config)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test process; `fresh_database()` gives the URL of an empty database."""
    with servers.postgres() as running:
        yield running


@pytest.fixture(scope="session")
def migrated_database(postgres_server: PostgresServer) -> str:
    """The name of a database at this code's schema, for copies of it."""
    postgres_server.run("CREATE DATABASE migrated")
    engine = open_postgres(postgres_server.url("migrated"))
    migrate(engine, migrations_folder())
    engine.dispose()
    return "migrated"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database at this code's schema, for copies of it."""
    path = tmp_path_factory.mktemp("migrated") / "registry.db"
    engine = open_sqlite(path)
    migrate(engine, migrations_folder())
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server of this test process; `fresh_bucket()` gives an empty bucket, `fresh_blobs()` a store in one."""
    with servers.s3() as running:
        yield running
