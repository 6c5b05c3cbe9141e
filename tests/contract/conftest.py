"""A Catalog with an empty schema, on each database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import open_postgres, open_sqlite


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        made = open_sqlite(Path(shutil.copy(request.getfixturevalue("migrated_file"), tmp_path)), pooled=True)
    else:
        like = request.getfixturevalue("migrated_database")
        made = open_postgres(request.getfixturevalue("postgres_server").fresh_database(like=like))
    yield made
    made.dispose()


@pytest.fixture
def catalog(engine):
    return SqlCatalog(engine)
