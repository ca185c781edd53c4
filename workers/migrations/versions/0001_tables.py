"""Make the tables of quotes, inputs, jobs, bundles, outbox, leases and marks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATES = (
    "accepted",
    "funded",
    "queued",
    "running",
    "proved",
    "failed",
    "expired",
    "declined",
    "closed_by_signature",
    "closed_by_proof",
    "closed_by_reclaim",
    "closed_by_cancel",
)


def upgrade() -> None:
    """Make the tables. They are written out, since a migration must not change when the code does."""
    op.create_table(
        "quotes",
        sa.Column("digest", sa.String(66), nullable=False),
        sa.Column("circuit_id", sa.String(66), nullable=False),
        sa.Column("valid_until", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_quotes"),
    )
    op.create_index("ix_quotes_circuit_id", "quotes", ["circuit_id", "valid_until"])
    op.create_table(
        "inputs",
        sa.Column("commitment", sa.String(66), nullable=False),
        sa.Column("circuit_id", sa.String(66), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("in_job", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("commitment", "circuit_id", name="pk_inputs"),
    )
    op.create_index("ix_inputs_expires_at", "inputs", ["expires_at"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(66), nullable=False),
        sa.Column("terms", sa.LargeBinary(), nullable=False),
        sa.Column("acceptance", sa.LargeBinary(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(24), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(200)),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.String(64)),
        sa.Column("release", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
        sa.CheckConstraint(f"state IN ({', '.join(repr(state) for state in _STATES)})", name="ck_jobs_state"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_index("ix_jobs_deadline", "jobs", ["deadline"])
    op.create_table(
        "bundles",
        sa.Column("job_id", sa.String(66), nullable=False),
        sa.Column("sha256", sa.String(66), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_bundles"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_bundles_job_id"),
        sa.UniqueConstraint("sha256", name="uq_bundles_sha256"),
    )
    op.create_table(
        "outbox",
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("job_id", sa.String(66), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("message_id", name="pk_outbox"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_outbox_job_id"),
    )
    op.create_index("ix_outbox_sent_at", "outbox", ["sent_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "marks",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_marks"),
    )


def downgrade() -> None:
    """Refuse: a job table is money owed and is never dropped by a tool."""
    raise NotImplementedError("restore a copy of the database instead")
