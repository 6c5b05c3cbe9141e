"""Which version was made of which, and which of those were withdrawn

Revision: 0014, after 0013.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    made = op.create_table(
        "version_parents",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_parents_version_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name=op.f("fk_version_parents_parent_id")),
        sa.PrimaryKeyConstraint("version_id", "parent_id", name=op.f("pk_version_parents")),
    )
    op.create_index(op.f("ix_version_parents_parent_id"), "version_parents", ["parent_id"])
    flagged = op.create_table(
        "revoked_ancestors",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("reference", sa.String(length=210), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_revoked_ancestors_version_id")),
        sa.PrimaryKeyConstraint("version_id", "reference", name=op.f("pk_revoked_ancestors")),
    )
    _fill(op.get_bind(), made, flagged)


def _fill(connection: sa.Connection, made: sa.Table, flagged: sa.Table) -> None:
    """What the lineages that are stored already say."""
    query = (
        "SELECT v.id, v.number, a.name, v.lineage, v.revoked_at FROM versions v "
        "JOIN adapters a ON a.id = v.adapter_id ORDER BY v.id"
    )
    rows = connection.execute(sa.text(query)).all()
    ids = {(row.name, row.number): row.id for row in rows}
    revoked = {row.id: f"{row.name}@v{row.number}" for row in rows if row.revoked_at}
    flags: dict[int, set[str]] = {}
    for row in rows:  # A parent is older than what is made of it.
        told = json.loads(row.lineage)["parents"] if row.lineage else []
        parents = {ids[key] for each in told if (key := (each["adapter"], each["number"])) in ids}
        flags[row.id] = {mark for parent in parents for mark in (*flags[parent], *_of(revoked, parent))}
        for parent in sorted(parents):
            connection.execute(made.insert().values(version_id=row.id, parent_id=parent))
        for reference in sorted(flags[row.id]):
            connection.execute(flagged.insert().values(version_id=row.id, reference=reference))


def _of(revoked: dict[int, str], version: int) -> tuple[str, ...]:
    return (revoked[version],) if version in revoked else ()


def downgrade() -> None:
    for table in ("revoked_ancestors", "version_parents"):
        op.drop_table(table)
