"""What all tables share: their names' convention, and the revision of the schema."""

from __future__ import annotations

from sqlalchemy import MetaData

SCHEMA = "0021"
"""The Alembic revision this code reads and writes; a test holds it against the migrations."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
