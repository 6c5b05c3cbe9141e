"""The schema, as SQLAlchemy Core tables. Rows never leave this package: the catalog turns them into domain values.

Core and not an ORM: importing SQLModel costs half a second that every embedded command would pay (docs/adr/0006).
Texts hold JSON of domain values where nothing is queried inside them. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from adapter_registry.storage.schema import metadata

bases = Table(
    "bases",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("root", String(71), index=True),
    Column("files_root", String(71), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("tensors", Text, nullable=False),
    Column("tensor_count", Integer, nullable=False),
    # How many versions are locked to it, see totals.py.
    Column("locked", Integer, nullable=False, server_default="0"),
)

base_names = Table(
    "base_names",
    metadata,
    Column("name", String(193), primary_key=True),
    Column("digest", ForeignKey("bases.digest"), primary_key=True),
    Column("added_by", String(200), nullable=False),
    Column("added_at", String(32), nullable=False),
)

equivalences = Table(
    "equivalences",
    metadata,
    Column("base", ForeignKey("bases.digest"), primary_key=True),
    Column("other", ForeignKey("bases.digest"), primary_key=True),
    Column("because", Text, nullable=False),
    Column("declared_by", String(200), nullable=False),
    Column("declared_at", String(32), nullable=False),
)

adapters = Table(
    "adapters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(193), nullable=False, unique=True),
    Column("folded", String(193), nullable=False, unique=True),
    Column("created_by", String(200), nullable=False),
    Column("created_at", String(32), nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("semver", String(128), nullable=False),
    Column("precedence", LargeBinary, nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("base", ForeignKey("bases.digest"), nullable=False, index=True),
    Column("base_name", String(193), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("removed_by", String(200)),
    Column("removed_at", String(32)),
    Column("revoked_by", String(200)),
    Column("revoked_at", String(32)),
    Column("revoked_because", Text),
    Column("lineage", Text),
    UniqueConstraint("adapter_id", "number"),
    UniqueConstraint("adapter_id", "semver"),
    CheckConstraint("number > 0", name="number_positive"),
)
Index("ix_versions_adapter_id_precedence", versions.c.adapter_id, versions.c.precedence, versions.c.number)
Index("ix_versions_adapter_id_digest", versions.c.adapter_id, versions.c.digest)
# What lists of adapters count and look for the newest in, without reading the rows.
_THERE = versions.c.removed_at.is_(None)
# Partial on PostgreSQL too, by its migration: to say so here loads PostgreSQL's dialects in every process.
Index("ix_versions_there", versions.c.adapter_id, versions.c.id, sqlite_where=_THERE)

blobs = Table(
    "blobs",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("size", BigInteger, nullable=False),
    CheckConstraint("size >= 0", name="size_not_negative"),
)

version_files = Table(
    "version_files",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("path", String(512), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", ForeignKey("blobs.digest"), nullable=False, index=True),
)

# What the versions of each adapter add up to, see totals.py.
adapter_totals = Table(
    "adapter_totals",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("versions", Integer, nullable=False),
    Column("pushed", BigInteger, nullable=False, index=True),
    Column("stored", BigInteger, nullable=False),
)

# How many files of an adapter's versions have these bytes.
adapter_blobs = Table(
    "adapter_blobs",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("times", Integer, nullable=False),
)

stored_bases = Table(
    "stored_bases",
    metadata,
    Column("name", String(193), primary_key=True),
    Column("base", ForeignKey("bases.digest"), primary_key=True, index=True),
    Column("folded", String(193), nullable=False, index=True),
    Column("commit", String(40), nullable=False),
    Column("model_type", String(100)),
    Column("stored_by", String(200), nullable=False),
    Column("stored_at", String(32), nullable=False),
)

stored_base_files = Table(
    "stored_base_files",
    metadata,
    Column("name", String(193), primary_key=True),
    Column("base", String(71), primary_key=True),
    Column("path", String(512), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("digest", ForeignKey("blobs.digest"), nullable=False, index=True),
    ForeignKeyConstraint(["name", "base"], ["stored_bases.name", "stored_bases.base"]),
)

labels = Table(
    "labels",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
)

version_parents = Table(
    "version_parents",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("parent_id", ForeignKey("versions.id"), primary_key=True, index=True),
)

# Of each withdrawn version, all that was made of it: asked with every version, and changed once in a while.
revoked_ancestors = Table(
    "revoked_ancestors",
    metadata,
    Column("version_id", ForeignKey("versions.id"), primary_key=True),
    Column("reference", String(210), primary_key=True),
)

tags = Table(
    "tags",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("name", String(96), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("moved_by", String(200), nullable=False),
    Column("moved_at", String(32), nullable=False),
)

scores = Table(
    "scores",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("subject", String(71), nullable=False, index=True),
    Column("metric", String(256), nullable=False),
    Column("value", Float),
    Column("document", Text, nullable=False),
    Column("outcomes", ForeignKey("blobs.digest"), index=True),
    Column("invalid", Text),
)

suites = Table(
    "suites",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("version > 0", name="version_positive"),
)

policies = Table(
    "policies",
    metadata,
    Column("stage", String(96), primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("document", Text, nullable=False),
    Column("digest", String(71), nullable=False),
    Column("set_by", String(200), nullable=False),
    Column("set_at", String(32), nullable=False),
    CheckConstraint("revision > 0", name="revision_positive"),
)

ladders = Table(
    "ladders",
    metadata,
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
    Column("set_by", String(200), nullable=False),
    Column("set_at", String(32), nullable=False),
    CheckConstraint("revision > 0", name="revision_positive"),
)

stages = Table(
    "stages",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("stage", String(96), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("sequence", Integer, nullable=False),
)

verifications = Table(
    "verifications",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("stage", String(96), primary_key=True),
    Column("sequence", Integer, nullable=False),
    Column("at", String(32), nullable=False),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False),
    Column("stage", String(96), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("version_id", ForeignKey("versions.id"), nullable=False),
    Column("at", String(32), nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("adapter_id", "stage", "sequence"),
    CheckConstraint("sequence > 0", name="sequence_positive"),
)
Index("ix_promotions_version_id_stage", promotions.c.version_id, promotions.c.stage)

events = Table(
    "events",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("subject", String(400), nullable=False),
    Column("entry", Text, nullable=False),
    Column("previous", String(71), nullable=False, unique=True),
    Column("digest", String(71), nullable=False),
)
# The operators make PostgreSQL find what begins with an adapter's name by it, whatever its collation.
Index("ix_events_subject", events.c.subject, postgresql_ops={"subject": "text_pattern_ops"})

branches = Table(
    "branches",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("name", String(96), primary_key=True),
    Column("version_id", ForeignKey("versions.id"), index=True),
    Column("draft", Text),
)

owned_blobs = Table(
    "owned_blobs",
    metadata,
    Column("namespace", String(96), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("at", String(32), nullable=False),
    Column("sketch", String(64), index=True),
)
Index("ix_owned_blobs_digest", owned_blobs.c.digest)

staged_xorbs = Table(
    "staged_xorbs",
    metadata,
    Column("upload", String(64), primary_key=True),
    Column("hash", String(64), primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("at", String(32), nullable=False, index=True),
)

answers = Table(
    "answers",
    metadata,
    Column("account", String(200), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("request", String(71), nullable=False),
    Column("status", Integer),
    Column("body", Text),
    Column("at", String(32), nullable=False, index=True),
)
