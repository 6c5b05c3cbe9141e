"""Outcomes and invalidations of scores, and suites

Revision: 0009, after 0008.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "suites",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.CheckConstraint("version > 0", name=op.f("ck_suites_version_positive")),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_suites")),
    )
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.add_column(sa.Column("outcomes", sa.String(length=71), nullable=True))
        batch_op.add_column(sa.Column("invalid", sa.Text(), nullable=True))
        batch_op.create_foreign_key(op.f("fk_scores_outcomes"), "blobs", ["outcomes"], ["digest"])
        batch_op.create_index(batch_op.f("ix_scores_outcomes"), ["outcomes"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_scores_outcomes"))
        batch_op.drop_constraint(op.f("fk_scores_outcomes"), type_="foreignkey")
        batch_op.drop_column("invalid")
        batch_op.drop_column("outcomes")

    op.drop_table("suites")
