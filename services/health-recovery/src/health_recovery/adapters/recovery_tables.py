"""The tables of recovery: cases, acts, pauses, and the fence of the leader; read and written by Core."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, String, Table, Uuid, text

from health_recovery.adapters.tables import METADATA
from muster_sql import UtcDateTime

OPEN = text("ended_at IS NULL")

FENCE = Table(
    "fence",
    METADATA,
    Column("name", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
)
"""The greatest epoch that ever wrote; one row, and each transaction of a leader begins with it."""

CASES = Table(
    "recovery_cases",
    METADATA,
    Column("agent", String, primary_key=True),
    Column("package", String, primary_key=True),
    Column("opened_at", UtcDateTime(), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("acts", JSON, nullable=False),
    Column("next_at", UtcDateTime()),
    Column("gave_up_at", UtcDateTime()),
    Column("until", UtcDateTime()),
    Column("rounds", Integer, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False),
)
"""One row for each package that recovery remembers anything of; ``acts`` are microseconds since 1970."""

ACTS = Table(
    "recovery_acts",
    METADATA,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Uuid(), nullable=False, unique=True),
    Column("agent", String, nullable=False),
    Column("package", String, nullable=False),
    Column("step", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("decided_at", UtcDateTime(), nullable=False),
    Column("why", String, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("state", String),
    Column("text", String, nullable=False),
    Column("ended_at", UtcDateTime()),
    Column("submission", JSON(none_as_null=True)),
    Index("ix_recovery_acts_agent", "agent", "position"),
    Index("ix_recovery_acts_package", "package", "position"),
    Index("ix_recovery_acts_one", "agent", "package", "position"),
    Index("ix_recovery_acts_open", "position", sqlite_where=OPEN, postgresql_where=OPEN),
    Index("ix_recovery_acts_ended", "ended_at"),
)
"""One row for each act; ``submission`` is its order, to be sent again as it was."""

PAUSES = Table(
    "recovery_pauses",
    METADATA,
    Column("id", Uuid(), primary_key=True),
    Column("selector", String, nullable=False),
    Column("since", UtcDateTime(), nullable=False),
    Column("until", UtcDateTime()),
    Column("by", String, nullable=False),
    Column("text", String, nullable=False),
    Column("resumed_at", UtcDateTime()),
    Column("resumed_by", String),
)
