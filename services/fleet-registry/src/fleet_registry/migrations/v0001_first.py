"""The first tables: agents, labels, history, sessions, descriptions, groups, partitions, outbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

from muster_sql import UtcDateTime

revision = "0001"
down_revision = None

DOCUMENT = postgresql.JSONB().with_variant(sqlite.JSON(), "sqlite")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _agents()
    _records()
    _small_tables()


def _agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("epoch", sa.String),
        sa.Column("address", sa.String),
        sa.Column("agent_version", sa.String),
        sa.Column("interval_seconds", sa.Float),
        sa.Column("last_seen", UtcDateTime()),
        sa.Column("declared", sa.JSON, nullable=False),
        sa.Column("assigned", sa.JSON, nullable=False),
        sa.Column("site", sa.String, nullable=False),
        sa.Column("speaks_as", sa.String),
        sa.Column("moves", sa.JSON, nullable=False),
        sa.Column("flapping", sa.Boolean, nullable=False),
        sa.Column("in_partition", sa.Boolean, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_agents_state_kind", "agents", ["state", "kind"])
    op.create_index("ix_agents_site_state", "agents", ["site", "state"])
    op.create_index("ix_agents_speaks_as", "agents", ["speaks_as"])
    op.create_table(
        "agent_labels",
        sa.Column("agent_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_index("ix_agent_labels_key_value", "agent_labels", ["key", "value", "agent_id"])


def _records() -> None:
    op.create_table(
        "history",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("was", sa.String, nullable=False),
        sa.Column("now", sa.String, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("epoch", sa.String),
        sa.Column("address", sa.String),
    )
    op.create_index("ix_history_agent", "history", ["agent_id", "id"])
    op.create_table(
        "sessions",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("agent_id", sa.String, nullable=False),
        sa.Column("epoch", sa.String, nullable=False),
        sa.Column("connected_at", UtcDateTime(), nullable=False),
        sa.Column("disconnected_at", UtcDateTime()),
        sa.Column("address", sa.String),
        sa.Column("agent_version", sa.String),
        sa.Column("reason", sa.String),
    )
    op.create_index("ix_sessions_agent", "sessions", ["agent_id", "id"])
    is_open = sa.text("disconnected_at IS NULL")
    op.create_index(
        "ix_sessions_open",
        "sessions",
        ["agent_id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )


def _small_tables() -> None:
    op.create_table(
        "descriptions",
        sa.Column("agent_id", sa.String, primary_key=True),
        sa.Column("epoch", sa.String, nullable=False),
        sa.Column("described_at", UtcDateTime(), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_table(
        "agent_groups",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("selector", sa.String, nullable=False),
    )
    op.create_table(
        "partitions",
        sa.Column("site", sa.String, primary_key=True),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("missing", sa.Integer, nullable=False),
        sa.Column("known", sa.Integer, nullable=False),
    )
    op.create_table(
        "realm",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("position", SERIAL, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("headers", DOCUMENT, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("put_at", UtcDateTime(), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """There is nothing before the first version."""
    raise RuntimeError("cannot go back before the first version of the database; restore a backup")
