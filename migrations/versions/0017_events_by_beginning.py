"""Events of an adapter and its versions, by index on PostgreSQL, too

Revision: 0017, after 0016.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.drop_index("ix_events_subject", table_name="events")
    op.create_index("ix_events_subject", "events", ["subject"], postgresql_ops={"subject": "text_pattern_ops"})


def downgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        return
    op.drop_index("ix_events_subject", table_name="events")
    op.create_index("ix_events_subject", "events", ["subject"])
