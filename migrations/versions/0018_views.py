"""Views of lists that accounts keep under a name

Revision: 0018, after 0017.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "views",
        sa.Column("account", sa.String(200), nullable=False),
        sa.Column("of", sa.String(32), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", "of", "name", name=op.f("pk_views")),
    )


def downgrade() -> None:
    op.drop_table("views")
