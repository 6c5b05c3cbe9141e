"""What the versions of adapters and of bases add up to, kept with each that comes and goes

Revision: 0019, after 0018.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

BLOBS = """
INSERT INTO adapter_blobs (adapter_id, digest, size, times)
SELECT v.adapter_id, f.digest, max(f.size), count(*) FROM version_files f JOIN versions v ON v.id = f.version_id
WHERE v.removed_at IS NULL GROUP BY v.adapter_id, f.digest
"""
TOTALS = """
INSERT INTO adapter_totals (adapter_id, versions, pushed, stored)
SELECT v.adapter_id, count(*), coalesce(max(b.pushed), 0), coalesce(max(b.stored), 0) FROM versions v
LEFT JOIN (SELECT adapter_id, sum(size * times) AS pushed, sum(size) AS stored FROM adapter_blobs GROUP BY adapter_id) b
ON b.adapter_id = v.adapter_id WHERE v.removed_at IS NULL GROUP BY v.adapter_id
"""
LOCKED = """
UPDATE bases SET locked = (
SELECT count(*) FROM versions v WHERE v.base = bases.digest AND v.removed_at IS NULL)
"""


def upgrade() -> None:
    op.create_table(
        "adapter_totals",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("pushed", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_adapter_totals_adapter_id")),
        sa.PrimaryKeyConstraint("adapter_id", name=op.f("pk_adapter_totals")),
    )
    op.create_index(op.f("ix_adapter_totals_pushed"), "adapter_totals", ["pushed"])
    op.create_table(
        "adapter_blobs",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_adapter_blobs_adapter_id")),
        sa.PrimaryKeyConstraint("adapter_id", "digest", name=op.f("pk_adapter_blobs")),
    )
    op.add_column("bases", sa.Column("locked", sa.Integer(), nullable=False, server_default="0"))
    for statement in (BLOBS, TOTALS, LOCKED):
        op.execute(statement)


def downgrade() -> None:
    op.drop_column("bases", "locked")
    for table in ("adapter_blobs", "adapter_totals"):
        op.drop_table(table)
