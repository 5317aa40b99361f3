"""When what made a package ill was well again: so long afterwards recovery leaves it alone."""

import sqlalchemy as sa
from alembic import op

from muster_sql import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.add_column("packages", sa.Column("relieved_at", UtcDateTime()))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("packages", "relieved_at")
