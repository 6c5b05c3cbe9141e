"""Promotion requests, groups of accounts, holds and freeze windows

Revision: 0010, after 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=96), nullable=False),
        sa.Column("open", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_requests_adapter_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
        sa.UniqueConstraint("adapter_id", "stage", "open", name=op.f("uq_requests_adapter_id_stage_open")),
    )
    op.create_table(
        "groups",
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("account", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.name"], name=op.f("fk_groups_account")),
        sa.PrimaryKeyConstraint("name", "account", name=op.f("pk_groups")),
    )
    op.create_table(
        "holds",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=96), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name=op.f("fk_holds_adapter_id")),
        sa.PrimaryKeyConstraint("adapter_id", "stage", name=op.f("pk_holds")),
    )
    op.create_table(
        "freezes",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_freezes")),
    )


def downgrade() -> None:
    for table in ("freezes", "holds", "groups", "requests"):
        op.drop_table(table)
