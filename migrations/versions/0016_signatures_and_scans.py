"""Trusted keys, signatures of versions, and scans of them

Revision: 0016, after 0015.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(71), nullable=False),
        sa.Column("name", sa.String(96), nullable=False),
        sa.Column("added_at", sa.String(32), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_signing_keys_name")),
    )
    op.create_table(
        "signatures",
        sa.Column("adapter", sa.String(200), nullable=False),
        sa.Column("version", sa.String(71), nullable=False),
        sa.Column("key", sa.String(71), nullable=False),
        sa.Column("sig", sa.String(88), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["signing_keys.id"], name=op.f("fk_signatures_key_signing_keys")),
        sa.PrimaryKeyConstraint("adapter", "version", "key", name=op.f("pk_signatures")),
    )
    op.create_table(
        "scans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter", sa.String(200), nullable=False),
        sa.Column("version", sa.String(71), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scans")),
    )
    op.create_index("ix_scans_version_adapter", "scans", ["version", "adapter"])


def downgrade() -> None:
    for table in ("scans", "signatures", "signing_keys"):
        op.drop_table(table)
