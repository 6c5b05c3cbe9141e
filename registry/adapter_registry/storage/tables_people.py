"""Tables of who may ask: accounts, their tokens, groups and views, and how they sign in. See tables."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, String, Table, Text

from adapter_registry.storage.schema import metadata

groups = Table(
    "groups",
    metadata,
    Column("name", String(96), primary_key=True),
    Column("account", ForeignKey("accounts.name"), primary_key=True),
)

namespaces = Table(
    "namespaces",
    metadata,
    Column("name", String(96), primary_key=True),
    Column("default_base", ForeignKey("bases.digest")),
    Column("set_by", String(200), nullable=False),
    Column("set_at", String(32), nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("grants", Text, nullable=False),
    Column("password", Text),
    Column("created_by", String(200), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("disabled_at", String(32)),
    CheckConstraint("kind IN ('person', 'service')", name="kind_known"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("account", ForeignKey("accounts.name"), nullable=False, index=True),
    Column("label", String(200), nullable=False),
    Column("limits", Text),
    Column("created_by", String(200), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32)),
    Column("revoked_at", String(32)),
    Column("last_used_at", String(32)),
    Column("trust", String(12), index=True),
)

trusts = Table(
    "trusts",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("issuer", String(300), nullable=False, index=True),
    Column("account", ForeignKey("accounts.name"), nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
)

spent_tokens = Table(
    "spent_tokens",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("until", String(32), nullable=False, index=True),
)

identities = Table(
    "identities",
    metadata,
    Column("issuer", String(300), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("account", ForeignKey("accounts.name"), nullable=False),
    Column("grants", Text, nullable=False),
    Column("seen_at", String(32), nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("link", String(64), primary_key=True),
    Column("secret", String(64), nullable=False, unique=True),
    Column("state", String(64), nullable=False, unique=True),
    Column("document", Text, nullable=False),
    Column("expires_at", String(32), nullable=False, index=True),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

views = Table(
    "views",
    metadata,
    Column("account", String(200), primary_key=True),
    Column("of", String(32), primary_key=True),
    Column("name", String(60), primary_key=True),
    Column("document", Text, nullable=False),
)
