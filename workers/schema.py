"""The tables of the provider's database, for queries; the migrations make them, and a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from workers.jobs import JobState

HEX32 = 66
"""Length of 0x and 64 hex digits."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

quotes = Table(
    "quotes",
    metadata,
    Column("digest", String(HEX32), primary_key=True),
    Column("circuit_id", String(HEX32), nullable=False),
    Column("valid_until", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index(None, "circuit_id", "valid_until"),
)

inputs = Table(
    "inputs",
    metadata,
    Column("commitment", String(HEX32), primary_key=True),
    Column("circuit_id", String(HEX32), primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("in_job", Integer, nullable=False),
    Index(None, "expires_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(HEX32), primary_key=True),
    Column("terms", LargeBinary, nullable=False),
    Column("acceptance", LargeBinary, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("state", String(24), nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("owner", String(200)),
    Column("lease_until", BigInteger, nullable=False),
    Column("failure", String(64)),
    Column("release", LargeBinary),
    CheckConstraint(f"state IN ({', '.join(repr(state.value) for state in JobState)})", name="state"),
    Index(None, "state"),
    Index(None, "deadline"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("job_id", String(HEX32), ForeignKey("jobs.job_id"), primary_key=True),
    Column("sha256", String(HEX32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("sha256"),
)
"""One bundle a job, by its primary key: the first VALID one wins, and no bundle serves two jobs."""

outbox = Table(
    "outbox",
    metadata,
    Column("message_id", String(36), primary_key=True),
    Column("job_id", String(HEX32), ForeignKey("jobs.job_id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Index(None, "sent_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("until", BigInteger, nullable=False),
)
"""Roles that one process at a time has, such as the sweeper's."""

marks = Table(
    "marks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("at", BigInteger, nullable=False),
)
"""When something last happened: a canary finished, a sweep ended."""
