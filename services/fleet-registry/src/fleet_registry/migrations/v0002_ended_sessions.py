"""An index on the end of sessions, by which the oldest are found and forgotten."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_sessions_ended", "sessions", ["disconnected_at"])


def downgrade() -> None:
    """Drop it again."""
    op.drop_index("ix_sessions_ended", "sessions")
