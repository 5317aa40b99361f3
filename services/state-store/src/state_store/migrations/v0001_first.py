"""The first tables: commands, targets, audit, streams, chunks, outbox."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

from muster_sql import UtcDateTime

revision = "0001"
down_revision = None

DOCUMENT = postgresql.JSONB().with_variant(sqlite.JSON(), "sqlite")
SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")
GENESIS = "0" * 64


def upgrade() -> None:
    """Make the tables."""
    _commands()
    _targets()
    _audit()
    _streams()
    _outbox()


def _commands() -> None:
    op.create_table(
        "commands",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("issuer", sa.String, nullable=False),
        sa.Column("idempotency_key", sa.String),
        sa.Column("verb", sa.String, nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("selector", sa.String, nullable=False),
        sa.Column("precondition", sa.JSON, nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=False),
        sa.Column("not_after", UtcDateTime(), nullable=False),
        sa.Column("start_seconds", sa.Float, nullable=False),
        sa.Column("run_seconds", sa.Float, nullable=False),
        sa.Column("targets", sa.Integer, nullable=False),
        sa.Column("living", sa.Integer, nullable=False),
        sa.Column("sensitive", sa.Boolean, nullable=False),
    )
    op.create_index("ix_commands_key", "commands", ["issuer", "idempotency_key"], unique=True)
    op.create_index("ix_commands_submitted", "commands", ["submitted_at"])


def _targets() -> None:
    op.create_table(
        "targets",
        sa.Column("position", SERIAL, primary_key=True),
        sa.Column("command_id", sa.Uuid, nullable=False),
        sa.Column("agent", sa.String, nullable=False),
        sa.Column("verb", sa.String, nullable=False),
        sa.Column("about", sa.String),
        sa.Column("issuer", sa.String, nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=False),
        sa.Column("not_after", UtcDateTime(), nullable=False),
        sa.Column("start_seconds", sa.Float, nullable=False),
        sa.Column("run_seconds", sa.Float, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("reason", sa.String),
        sa.Column("text", sa.String),
        sa.Column("accepted_at", UtcDateTime()),
        sa.Column("started_at", UtcDateTime()),
        sa.Column("ended_at", UtcDateTime()),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("exit_code", sa.BigInteger),
        sa.Column("result", sa.JSON),
        sa.Column("output_bytes", sa.BigInteger, nullable=False),
        sa.Column("reported_late", sa.String),
        sa.Column("sent", sa.Boolean, nullable=False),
        sa.Column("pushing", sa.Boolean, nullable=False),
        sa.Column("pushes", sa.Integer, nullable=False),
        sa.Column("deadline", UtcDateTime()),
        sa.Column("push_at", UtcDateTime()),
    )
    op.create_index("ix_targets_command_agent", "targets", ["command_id", "agent"], unique=True)
    op.create_index("ix_targets_command_state", "targets", ["command_id", "state"])
    op.create_index("ix_targets_newest", "targets", ["submitted_at", "position"])
    for column in ("agent", "state", "issuer", "verb"):
        op.create_index(f"ix_targets_{column}", "targets", [column, "submitted_at", "position"])
    _open("ix_targets_open", ["agent", "position"])
    _open("ix_targets_deadline", ["deadline"])
    _open("ix_targets_push", ["push_at"])


def _open(name: str, columns: list[str]) -> None:
    """An index over targets that have not ended: it stays as small as what there is to do."""
    is_open = sa.text("ended_at IS NULL")
    op.create_index(name, "targets", columns, sqlite_where=is_open, postgresql_where=is_open)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("decision", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("previous", sa.String, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("anchored", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(head, [{"one": 1, "sequence": 0, "hash": GENESIS, "anchored": 0}])


def _streams() -> None:
    op.create_table(
        "streams",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("agent", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("command_id", sa.Uuid, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Column("sha256", sa.String),
    )
    op.create_index("ix_streams_name", "streams", ["agent", "name"], unique=True)
    op.create_index("ix_streams_command", "streams", ["command_id"])
    op.create_table(
        "chunks",
        sa.Column("stream_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("encoding", sa.String, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )


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
