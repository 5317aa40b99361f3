"""The tables of health-recovery. Rows are read and written by Core; here is their schema.

Recovery and notifications declare theirs in files of their own, on the same ``METADATA``.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Uuid,
    text,
)

from muster_sql import UtcDateTime, outbox_table

METADATA = MetaData()

NAMED = text("package IS NOT NULL")

PACKAGES = Table(
    "packages",
    METADATA,
    Column("agent", String, primary_key=True),
    Column("package", String, primary_key=True),
    Column("state", String),
    Column("exit_code", BigInteger),
    Column("text", String, nullable=False),
    Column("said_epoch", String),
    Column("said_at", UtcDateTime()),
    Column("unsettled_since", UtcDateTime()),
    Column("description", String, nullable=False),
    Column("described_epoch", String),
    Column("described_at", UtcDateTime()),
    Column("checks", String, nullable=False),
    Column("settled", String, nullable=False),
    Column("base", String, nullable=False),
    Column("since", UtcDateTime(), nullable=False),
    Column("cause_agent", String),
    Column("cause_package", String),
    Column("flapping", Boolean, nullable=False),
    Column("maintenance", Boolean, nullable=False),
    Column("moments", String, nullable=False),
    Column("event", BigInteger),
    Column("relieved_at", UtcDateTime()),
)
"""One row for each package, with its judgement; what is never looked for is JSON text, read by the leader."""

HOSTS = Table(
    "hosts",
    METADATA,
    Column("agent", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("presence", String, nullable=False),
    Column("presence_since", UtcDateTime()),
    Column("epoch", String),
    Column("labels", JSON, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("found_epoch", String),
    Column("found_at", UtcDateTime()),
    Column("health", String),
    Column("reason", String, nullable=False),
    Column("culprit", String),
    Column("since", UtcDateTime()),
    Column("event", BigInteger),
)

SITES = Table(
    "partitioned_sites",
    METADATA,
    Column("site", String, primary_key=True),
    Column("since", UtcDateTime(), nullable=False),
)

WINDOWS = Table(
    "maintenance",
    METADATA,
    Column("id", Uuid(), primary_key=True),
    Column("selector", String, nullable=False),
    Column("package", String),
    Column("since", UtcDateTime(), nullable=False),
    Column("until", UtcDateTime(), nullable=False),
    Column("by", String, nullable=False),
    Column("text", String, nullable=False),
)

HISTORY = Table(
    "history",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("agent", String, nullable=False),
    Column("package", String),
    Column("at", UtcDateTime(), nullable=False),
    Column("ended_at", UtcDateTime()),
    Column("was", String),
    Column("now", String),
    Column("reason", String, nullable=False),
    Column("text", String, nullable=False),
    Column("cause_agent", String),
    Column("cause_package", String),
    Column("maintenance", Boolean, nullable=False),
    Index("ix_history_at", "at", "id"),
    Index("ix_history_agent", "agent", "at", "id"),
    Index("ix_history_package", "package", "at", "id", sqlite_where=NAMED, postgresql_where=NAMED),
    Index("ix_history_one", "agent", "package", "at", "id"),
)
"""One row for each change; ``ended_at`` is null while it lasts. Numbers are given by the leader alone."""

OUTBOX = outbox_table(METADATA)
