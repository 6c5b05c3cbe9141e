"""Tables of what stands for the files of versions: trusted keys, their signatures, and scans. See tables."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from adapter_registry.storage.schema import metadata

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", String(71), primary_key=True),
    Column("name", String(96), nullable=False, unique=True),
    Column("added_at", String(32), nullable=False),
    Column("document", Text, nullable=False),
)

# Of an adapter's name, and not of its row: the name is part of what is signed.
signatures = Table(
    "signatures",
    metadata,
    Column("adapter", String(200), primary_key=True),
    Column("version", String(71), primary_key=True),
    Column("key", ForeignKey("signing_keys.id"), primary_key=True),
    Column("sig", String(88), nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", String(32), nullable=False),
)

scans = Table(
    "scans",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter", String(200), nullable=False),
    Column("version", String(71), nullable=False),
    Column("document", Text, nullable=False),
)
Index("ix_scans_version_adapter", scans.c.version, scans.c.adapter)
