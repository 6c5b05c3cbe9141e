"""Which jobs were about a version, by index

Revision: 0015, after 0014.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    made = op.create_table(
        "job_subjects",
        sa.Column("job", sa.String(12), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_job_subjects_job_jobs")),
        sa.PrimaryKeyConstraint("job", "digest", name=op.f("pk_job_subjects")),
    )
    op.create_index(op.f("ix_job_subjects_digest"), "job_subjects", ["digest"])
    _fill(op.get_bind(), made)


def _fill(connection: sa.Connection, made: sa.Table) -> None:
    """What the jobs that are stored already say."""
    for row in connection.execute(sa.text("SELECT id, document FROM jobs")).all():
        job = json.loads(row.document)
        names = [each["reference"].partition("@")[2] for each in job["recipe"].get("inputs", ())]
        names.append(str(job.get("result", {}).get("digest", "")))
        for name in sorted({name for name in names if name.startswith("sha256:") and len(name) == 71}):
            connection.execute(made.insert().values(job=row.id, digest=name))


def downgrade() -> None:
    op.drop_table("job_subjects")
