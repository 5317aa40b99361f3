"""The tables of incidents and notices."""

from sqlalchemy import JSON, Column, Index, Integer, String, Table, Uuid

from health_recovery.adapters.tables import METADATA
from muster_sql import UtcDateTime

INCIDENTS = Table(
    "incidents",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("agent", String, nullable=False),
    Column("package", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("phase_since", UtcDateTime(), nullable=False),
    Column("ill_since", UtcDateTime(), nullable=False),
    Column("opened_at", UtcDateTime(), nullable=False),
    Column("moved_at", UtcDateTime(), nullable=False),
    Column("resolved_at", UtcDateTime()),
    Column("document", JSON, nullable=False),
    Index("ix_incidents_newest", "opened_at", "id"),
    Index("ix_incidents_cause", "agent", "package", "opened_at"),
    Index("ix_incidents_resolved", "resolved_at"),
)
"""One incident a row; ``document`` holds what nobody asks for by itself."""

TELLINGS = Table(
    "tellings",
    METADATA,
    Column("channel", String, primary_key=True),
    Column("incident_id", Uuid, primary_key=True),
    Column("status", String, nullable=False),
    Column("health", String, nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    Column("episode", Integer, nullable=False),
    Index("ix_tellings_incident", "incident_id"),
    Index("ix_tellings_status", "status"),
)
"""What a channel was last told of an incident."""

NOTICES = Table(
    "notices",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("channel", String, nullable=False),
    Column("state", String, nullable=False),
    Column("created_at", UtcDateTime(), nullable=False),
    Column("next_at", UtcDateTime(), nullable=False),
    Column("ended_at", UtcDateTime()),
    Column("attempts", Integer, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("told", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("why", String),
    Index("ix_notices_state", "state", "created_at"),
    Index("ix_notices_created", "created_at"),
)
"""One notice to one channel, and what became of it. It names no address and no secret."""
