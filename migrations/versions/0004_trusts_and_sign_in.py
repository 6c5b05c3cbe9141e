"""Trusts, tokens exchanged by them, identities of people, sign-ins under way

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trusts",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("issuer", sa.String(length=300), nullable=False),
        sa.Column("account", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.name"], name=op.f("fk_trusts_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trusts")),
    )
    with op.batch_alter_table("trusts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trusts_issuer"), ["issuer"], unique=False)

    op.create_table(
        "spent_tokens",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_spent_tokens")),
    )
    with op.batch_alter_table("spent_tokens", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_spent_tokens_until"), ["until"], unique=False)

    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(length=300), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("account", sa.String(length=200), nullable=False),
        sa.Column("grants", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.name"], name=op.f("fk_identities_account")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_identities")),
    )
    op.create_table(
        "attempts",
        sa.Column("link", sa.String(length=64), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("link", name=op.f("pk_attempts")),
        sa.UniqueConstraint("secret", name=op.f("uq_attempts_secret")),
        sa.UniqueConstraint("state", name=op.f("uq_attempts_state")),
    )
    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_attempts_expires_at"), ["expires_at"], unique=False)

    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("trust", sa.String(length=12), nullable=True))
        batch_op.create_index(batch_op.f("ix_tokens_trust"), ["trust"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tokens_trust"))
        batch_op.drop_column("trust")

    with op.batch_alter_table("attempts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_attempts_expires_at"))

    op.drop_table("attempts")
    op.drop_table("identities")
    with op.batch_alter_table("spent_tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_spent_tokens_until"))

    op.drop_table("spent_tokens")
    with op.batch_alter_table("trusts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_trusts_issuer"))

    op.drop_table("trusts")
