"""Which version a request is for, and where a version was promoted to, by index

Revision: 0020, after 0019.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("requests", sa.Column("number", sa.Integer(), nullable=True))
    _fill(op.get_bind())
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.alter_column("number", existing_type=sa.Integer(), nullable=False)
        batch_op.create_index(batch_op.f("ix_requests_adapter_id_stage_number"), ["adapter_id", "stage", "number"])
    op.create_index("ix_promotions_version_id_stage", "promotions", ["version_id", "stage"])


def _fill(connection: sa.Connection) -> None:
    """What the requests that are stored already say."""
    numbered = sa.text("UPDATE requests SET number = :number WHERE id = :id")
    for row in connection.execute(sa.text("SELECT id, document FROM requests")).all():
        connection.execute(numbered, {"id": row.id, "number": json.loads(row.document)["number"]})


def downgrade() -> None:
    op.drop_index("ix_promotions_version_id_stage", table_name="promotions")
    with op.batch_alter_table("requests", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_requests_adapter_id_stage_number"))
        batch_op.drop_column("number")
