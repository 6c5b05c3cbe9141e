"""Sketches of received bytes: files that are surely missing are sent before they are hashed

Revision: 0012, after 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("owned_blobs", sa.Column("sketch", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_owned_blobs_sketch"), "owned_blobs", ["sketch"])


def downgrade() -> None:
    op.drop_index(op.f("ix_owned_blobs_sketch"), "owned_blobs")
    op.drop_column("owned_blobs", "sketch")
