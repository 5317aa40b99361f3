"""The fence of the leader; cases, acts and pauses of recovery."""

import sqlalchemy as sa
from alembic import op

from muster_sql import UtcDateTime

revision = "0002"
down_revision = "0001"

SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
OPEN = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Make the tables."""
    _fence()
    _cases()
    _acts()
    _pauses()


def _fence() -> None:
    fence = op.create_table(
        "fence",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    assert fence is not None
    op.bulk_insert(fence, [{"name": "health-recovery", "epoch": 0}])


def _cases() -> None:
    op.create_table(
        "recovery_cases",
        sa.Column("agent", sa.String, primary_key=True),
        sa.Column("package", sa.String, primary_key=True),
        sa.Column("opened_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("acts", sa.JSON, nullable=False),
        sa.Column("next_at", UtcDateTime()),
        sa.Column("gave_up_at", UtcDateTime()),
        sa.Column("until", UtcDateTime()),
        sa.Column("rounds", sa.Integer, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
    )


def _acts() -> None:
    op.create_table(
        "recovery_acts",
        sa.Column("position", SERIAL, primary_key=True),
        sa.Column("id", sa.Uuid, nullable=False, unique=True),
        sa.Column("agent", sa.String, nullable=False),
        sa.Column("package", sa.String, nullable=False),
        sa.Column("step", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.Column("why", sa.String, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("state", sa.String),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("submission", sa.JSON),
    )
    op.create_index("ix_recovery_acts_agent", "recovery_acts", ["agent", "position"])
    op.create_index("ix_recovery_acts_package", "recovery_acts", ["package", "position"])
    op.create_index("ix_recovery_acts_one", "recovery_acts", ["agent", "package", "position"])
    op.create_index(
        "ix_recovery_acts_open", "recovery_acts", ["position"], sqlite_where=OPEN, postgresql_where=OPEN
    )
    op.create_index("ix_recovery_acts_ended", "recovery_acts", ["ended_at"])


def _pauses() -> None:
    op.create_table(
        "recovery_pauses",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("selector", sa.String, nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime()),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.Column("resumed_at", UtcDateTime()),
        sa.Column("resumed_by", sa.String),
    )
