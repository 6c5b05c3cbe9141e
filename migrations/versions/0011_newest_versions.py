"""An index that lists of adapters count versions in

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
    there = sa.text("removed_at IS NULL")
    op.create_index("ix_versions_there", "versions", ["adapter_id", "id"], sqlite_where=there, postgresql_where=there)


def downgrade() -> None:
    op.drop_index("ix_versions_there", "versions")
