"""Bases whose bytes are stored, and the ids they are served under

Revision: 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stored_bases",
        sa.Column("name", sa.String(length=193), nullable=False),
        sa.Column("base", sa.String(length=71), nullable=False),
        sa.Column("folded", sa.String(length=193), nullable=False),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("model_type", sa.String(length=100), nullable=True),
        sa.Column("stored_by", sa.String(length=200), nullable=False),
        sa.Column("stored_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base"], ["bases.digest"], name=op.f("fk_stored_bases_base")),
        sa.PrimaryKeyConstraint("name", "base", name=op.f("pk_stored_bases")),
    )
    with op.batch_alter_table("stored_bases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stored_bases_base"), ["base"], unique=False)
        batch_op.create_index(batch_op.f("ix_stored_bases_folded"), ["folded"], unique=False)

    op.create_table(
        "stored_base_files",
        sa.Column("name", sa.String(length=193), nullable=False),
        sa.Column("base", sa.String(length=71), nullable=False),
        sa.Column("path", sa.String(length=512), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["blobs.digest"], name=op.f("fk_stored_base_files_digest")),
        sa.ForeignKeyConstraint(
            ["name", "base"], ["stored_bases.name", "stored_bases.base"], name=op.f("fk_stored_base_files_name")
        ),
        sa.PrimaryKeyConstraint("name", "base", "path", name=op.f("pk_stored_base_files")),
    )
    with op.batch_alter_table("stored_base_files", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_stored_base_files_digest"), ["digest"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("stored_base_files", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stored_base_files_digest"))

    op.drop_table("stored_base_files")
    with op.batch_alter_table("stored_bases", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_stored_bases_folded"))
        batch_op.drop_index(batch_op.f("ix_stored_bases_base"))

    op.drop_table("stored_bases")
