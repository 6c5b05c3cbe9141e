"""Webhooks: what a delivery came to as one document, secrets that overlap, order by what a message is about

Revision: 0003, after 0002. Both tables are made anew: nothing wrote to them before.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    _webhooks("secrets")
    _deliveries("document")
    op.create_index("ix_deliveries_webhook_subject_event", "deliveries", ["webhook", "subject", "event"])


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    _webhooks("secret")
    _deliveries("answer")


def _webhooks(secrets: str) -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("scope", sa.String(length=200), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column(secrets, sa.Text(), nullable=False),
        sa.Column("active", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )


def _deliveries(outcome: str) -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("webhook", sa.String(length=12), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=400), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.String(length=32), nullable=False),
        sa.Column(outcome, sa.Text(), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'dead')", name=op.f("ck_deliveries_state_known")),
        sa.ForeignKeyConstraint(["webhook"], ["webhooks.id"], name=op.f("fk_deliveries_webhook")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index("ix_deliveries_state_due_at", "deliveries", ["state", "due_at"])
    op.create_index("ix_deliveries_webhook_event", "deliveries", ["webhook", "event"])
