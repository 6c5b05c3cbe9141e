"""Tables of what is under way: promotion requests, what holds stages still, jobs, messages. See tables."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from adapter_registry.storage.schema import metadata

requests = Table(
    "requests",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("adapter_id", ForeignKey("adapters.id"), nullable=False),
    Column("stage", String(96), nullable=False),
    Column("number", Integer, nullable=False),
    Column("open", Integer),
    Column("state", String(16), nullable=False),
    Column("document", Text, nullable=False),
    # NULLs differ from each other: any number may be closed, one may be open.
    UniqueConstraint("adapter_id", "stage", "open"),
)
Index("ix_requests_adapter_id_stage_number", requests.c.adapter_id, requests.c.stage, requests.c.number)

holds = Table(
    "holds",
    metadata,
    Column("adapter_id", ForeignKey("adapters.id"), primary_key=True),
    Column("stage", String(96), primary_key=True),
    Column("document", Text, nullable=False),
)

freezes = Table(
    "freezes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("document", Text, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("scope", String(200), nullable=False),
    Column("document", Text, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("active", Integer, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("webhook", ForeignKey("webhooks.id"), nullable=False),
    Column("event", Integer, nullable=False),
    Column("subject", String(400), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", String(32), nullable=False),
    Column("document", Text, nullable=False),
    CheckConstraint("state IN ('pending', 'delivered', 'dead')", name="state_known"),
)
Index("ix_deliveries_state_due_at", deliveries.c.state, deliveries.c.due_at)
Index("ix_deliveries_webhook_event", deliveries.c.webhook, deliveries.c.event)
Index("ix_deliveries_webhook_subject_event", deliveries.c.webhook, deliveries.c.subject, deliveries.c.event)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("place", Integer, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("queue", String(16), nullable=False),
    Column("sent", Integer, nullable=False),
    Column("ended_at", String(32), index=True),
    Column("document", Text, nullable=False),
    CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state_known"),
)
Index("ix_jobs_state_sent", jobs.c.state, jobs.c.sent)

# The versions that a job works on, and the one that it made.
job_subjects = Table(
    "job_subjects",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("digest", String(71), primary_key=True, index=True),
)

job_runs = Table(
    "job_runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("document", Text, nullable=False),
)

job_lines = Table(
    "job_lines",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("text", Text, nullable=False),
)

job_files = Table(
    "job_files",
    metadata,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("digest", String(71), primary_key=True, index=True),
)
