"""Stages as a registry declared them, and when what they point to was last found good

Revision: 0013, after 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ladders",
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("set_by", sa.String(length=200), nullable=False),
        sa.Column("set_at", sa.String(length=32), nullable=False),
        sa.CheckConstraint("revision > 0", name=op.f("ck_ladders_revision_positive")),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_ladders")),
    )
    op.create_table(
        "verifications",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=96), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_verifications_adapter_id")),
        sa.PrimaryKeyConstraint("adapter_id", "stage", name=op.f("pk_verifications")),
    )


def downgrade() -> None:
    op.drop_table("verifications")
    op.drop_table("ladders")
