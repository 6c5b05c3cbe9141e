"""Alembic's environment: runs on the connection that the store hands over."""

from __future__ import annotations

from alembic import context

from adapter_registry.storage import tables, tables_integrity, tables_people, tables_work  # noqa: F401  they put themselves into it
from adapter_registry.storage.schema import metadata


def run() -> None:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
