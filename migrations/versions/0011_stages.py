"""Stages as a registry declared them

Revision: 0011, after 0010.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
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


def downgrade() -> None:
    op.drop_table("ladders")
