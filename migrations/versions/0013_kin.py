"""What was made from a version, and which jobs were about it, by index

Revision: 0013, after 0011.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "version_parents",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name=op.f("fk_version_parents_version_id_versions")),
        sa.PrimaryKeyConstraint("version_id", "digest", name=op.f("pk_version_parents")),
    )
    op.create_index(op.f("ix_version_parents_digest"), "version_parents", ["digest"])
    op.create_table(
        "job_subjects",
        sa.Column("job", sa.String(12), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_job_subjects_job_jobs")),
        sa.PrimaryKeyConstraint("job", "digest", name=op.f("pk_job_subjects")),
    )
    op.create_index(op.f("ix_job_subjects_digest"), "job_subjects", ["digest"])
    _fill()


def _fill() -> None:
    """From what versions and jobs say of themselves."""
    connection = op.get_bind()
    made = connection.execute(sa.text("SELECT id, lineage FROM versions WHERE lineage IS NOT NULL")).all()
    parents = {(row.id, parent["digest"]) for row in made for parent in json.loads(row.lineage)["parents"]}
    _insert("version_parents", "version_id", sorted(parents))
    found = set()
    for row in connection.execute(sa.text("SELECT id, document FROM jobs")).all():
        job = json.loads(row.document)
        names = [each["reference"].partition("@")[2] for each in job["recipe"].get("inputs", ())]
        names.append(str(job.get("result", {}).get("digest", "")))
        found |= {(row.id, name) for name in names if name.startswith("sha256:") and len(name) == 71}
    _insert("job_subjects", "job", sorted(found))


def _insert(table: str, key: str, rows: list[tuple[object, str]]) -> None:
    made = sa.table(table, sa.column(key), sa.column("digest"))
    if rows:
        op.bulk_insert(made, [{key: owner, "digest": digest} for owner, digest in rows])


def downgrade() -> None:
    op.drop_table("job_subjects")
    op.drop_table("version_parents")
