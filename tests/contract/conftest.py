"""A Catalog with an empty schema, on each database."""

from __future__ import annotations

import pytest

from adapter_registry.settings import migrations_folder
from adapter_registry.storage.catalog import SqlCatalog
from adapter_registry.storage.database import ensure_schema, open_postgres, open_sqlite


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        made = open_sqlite(tmp_path / "registry.db", pooled=True)
    else:
        made = open_postgres(request.getfixturevalue("postgres_server").fresh_database())
    ensure_schema(made, migrations_folder())
    yield made
    made.dispose()


@pytest.fixture
def catalog(engine):
    return SqlCatalog(engine)
