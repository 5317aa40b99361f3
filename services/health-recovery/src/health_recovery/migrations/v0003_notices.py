"""Incidents, what channels were told of them, and the notices."""

import sqlalchemy as sa
from alembic import op

from muster_sql import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    _incidents()
    _tellings()
    _notices()


def _incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("agent", sa.String, nullable=False),
        sa.Column("package", sa.String, nullable=False),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("phase_since", UtcDateTime(), nullable=False),
        sa.Column("ill_since", UtcDateTime(), nullable=False),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("moved_at", UtcDateTime(), nullable=False),
        sa.Column("resolved_at", UtcDateTime()),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("ix_incidents_newest", "incidents", ["opened_at", "id"])
    op.create_index("ix_incidents_cause", "incidents", ["agent", "package", "opened_at"])
    op.create_index("ix_incidents_resolved", "incidents", ["resolved_at"])


def _tellings() -> None:
    op.create_table(
        "tellings",
        sa.Column("channel", sa.String, primary_key=True),
        sa.Column("incident_id", sa.Uuid, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("health", sa.String, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("episode", sa.Integer, nullable=False),
    )
    op.create_index("ix_tellings_incident", "tellings", ["incident_id"])
    op.create_index("ix_tellings_status", "tellings", ["status"])


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("told", sa.JSON, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("why", sa.String),
    )
    op.create_index("ix_notices_state", "notices", ["state", "created_at"])
    op.create_index("ix_notices_created", "notices", ["created_at"])
