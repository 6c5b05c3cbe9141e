"""What semantic versions sort by, so that the highest is found by index

Revision: 0021, after 0020.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from adapter_registry.domain.versioning import precedence

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

BATCH = 10_000


def upgrade() -> None:
    op.add_column("versions", sa.Column("precedence", sa.LargeBinary(), nullable=False, server_default=sa.text("''")))
    _fill(op.get_bind())
    op.create_index("ix_versions_adapter_id_precedence", "versions", ["adapter_id", "precedence", "number"])


def _fill(connection: sa.Connection) -> None:
    after = sa.text("SELECT id, semver FROM versions WHERE id > :last ORDER BY id LIMIT :batch")
    ordered = sa.text("UPDATE versions SET precedence = :precedence WHERE id = :id")
    last = 0
    while rows := connection.execute(after, {"last": last, "batch": BATCH}).all():
        connection.execute(ordered, [{"id": row.id, "precedence": precedence(row.semver)} for row in rows])
        last = rows[-1].id


def downgrade() -> None:
    op.drop_index("ix_versions_adapter_id_precedence", table_name="versions")
    op.drop_column("versions", "precedence")
