"""The first tables: packages, agents, sites, maintenance, history, outbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

from muster_sql import UtcDateTime

revision = "0001"
down_revision = None

DOCUMENT = postgresql.JSONB().with_variant(sqlite.JSON(), "sqlite")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
NAMED = sa.text("package IS NOT NULL")


def upgrade() -> None:
    """Make the tables."""
    _packages()
    _hosts()
    _small()
    _history()
    _outbox()


def _packages() -> None:
    op.create_table(
        "packages",
        sa.Column("agent", sa.String, primary_key=True),
        sa.Column("package", sa.String, primary_key=True),
        sa.Column("state", sa.String),
        sa.Column("exit_code", sa.BigInteger),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("said_epoch", sa.String),
        sa.Column("said_at", UtcDateTime()),
        sa.Column("unsettled_since", UtcDateTime()),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("described_epoch", sa.String),
        sa.Column("described_at", UtcDateTime()),
        sa.Column("checks", sa.String, nullable=False),
        sa.Column("settled", sa.String, nullable=False),
        sa.Column("base", sa.String, nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("cause_agent", sa.String),
        sa.Column("cause_package", sa.String),
        sa.Column("flapping", sa.Boolean, nullable=False),
        sa.Column("maintenance", sa.Boolean, nullable=False),
        sa.Column("moments", sa.String, nullable=False),
        sa.Column("event", sa.BigInteger),
    )


def _hosts() -> None:
    op.create_table(
        "hosts",
        sa.Column("agent", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("presence", sa.String, nullable=False),
        sa.Column("presence_since", UtcDateTime()),
        sa.Column("epoch", sa.String),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("found_epoch", sa.String),
        sa.Column("found_at", UtcDateTime()),
        sa.Column("health", sa.String),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("culprit", sa.String),
        sa.Column("since", UtcDateTime()),
        sa.Column("event", sa.BigInteger),
    )


def _small() -> None:
    op.create_table(
        "partitioned_sites",
        sa.Column("site", sa.String, primary_key=True),
        sa.Column("since", UtcDateTime(), nullable=False),
    )
    op.create_table(
        "maintenance",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("selector", sa.String, nullable=False),
        sa.Column("package", sa.String),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
    )


def _history() -> None:
    op.create_table(
        "history",
        sa.Column("id", SERIAL, primary_key=True, autoincrement=False),
        sa.Column("agent", sa.String, nullable=False),
        sa.Column("package", sa.String),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("was", sa.String),
        sa.Column("now", sa.String),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("cause_agent", sa.String),
        sa.Column("cause_package", sa.String),
        sa.Column("maintenance", sa.Boolean, nullable=False),
    )
    op.create_index("ix_history_at", "history", ["at", "id"])
    op.create_index("ix_history_agent", "history", ["agent", "at", "id"])
    op.create_index(
        "ix_history_package", "history", ["package", "at", "id"], sqlite_where=NAMED, postgresql_where=NAMED
    )
    op.create_index("ix_history_one", "history", ["agent", "package", "at", "id"])


def _outbox() -> None:
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
