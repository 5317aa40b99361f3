"""The registry's tables. Rows are read and written by Core; these classes are their schema."""

from datetime import datetime
from typing import Any, cast

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, MetaData, Table, text
from sqlmodel import Field, SQLModel

from muster_sql import UtcDateTime, outbox_table

METADATA = MetaData()


class Row(SQLModel):
    """Base of the registry's tables: they share a metadata of their own."""

    metadata = METADATA


def _serial() -> Any:
    return Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )


def _moment(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(UtcDateTime(), nullable=null))


def _json() -> Any:
    return Field(sa_column=Column(JSON, nullable=False))


class AgentRow(Row, table=True):
    """One agent as it is now."""

    __tablename__ = "agents"
    __table_args__ = (
        Index("ix_agents_state_kind", "state", "kind"),
        Index("ix_agents_site_state", "site", "state"),
    )

    id: str = Field(primary_key=True)
    kind: str
    state: str
    reason: str
    since: datetime = _moment()
    epoch: str | None = None
    address: str | None = None
    agent_version: str | None = None
    interval_seconds: float | None = None
    last_seen: datetime | None = _moment(null=True)
    declared: dict[str, str] = _json()
    assigned: dict[str, str] = _json()
    site: str
    speaks_as: str | None = Field(default=None, index=True)
    moves: list[float] = _json()
    flapping: bool
    in_partition: bool
    version: int


class LabelRow(Row, table=True):
    """One effective label of one agent, for selectors."""

    __tablename__ = "agent_labels"
    __table_args__ = (Index("ix_agent_labels_key_value", "key", "value", "agent_id"),)

    agent_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    value: str


class HistoryRow(Row, table=True):
    """One change of an agent's presence. A page is read along (agent_id, id), however long the table is."""

    __tablename__ = "history"
    __table_args__ = (Index("ix_history_agent", "agent_id", "id"),)

    id: int | None = _serial()
    agent_id: str
    was: str
    now: str
    at: datetime = _moment()
    reason: str
    epoch: str | None = None
    address: str | None = None


class SessionRow(Row, table=True):
    """One session of an agent; open while ``disconnected_at`` is null."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_agent", "agent_id", "id"),
        Index("ix_sessions_ended", "disconnected_at"),
        Index(
            "ix_sessions_open",
            "agent_id",
            unique=True,
            sqlite_where=text("disconnected_at IS NULL"),
            postgresql_where=text("disconnected_at IS NULL"),
        ),
    )

    id: int | None = _serial()
    agent_id: str
    epoch: str
    connected_at: datetime = _moment()
    disconnected_at: datetime | None = _moment(null=True)
    address: str | None = None
    agent_version: str | None = None
    reason: str | None = None


class DescriptionRow(Row, table=True):
    """What an agent last described itself as."""

    __tablename__ = "descriptions"

    agent_id: str = Field(primary_key=True)
    epoch: str
    described_at: datetime = _moment()
    body: dict[str, Any] = _json()


class GroupRow(Row, table=True):
    """A named selector."""

    __tablename__ = "agent_groups"

    name: str = Field(primary_key=True)
    selector: str


class PartitionRow(Row, table=True):
    """A site that is suspected to be cut off."""

    __tablename__ = "partitions"

    site: str = Field(primary_key=True)
    since: datetime = _moment()
    missing: int
    known: int


class RealmRow(Row, table=True):
    """The name of this database, drawn once: the presence index carries it too."""

    __tablename__ = "realm"

    one: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    name: str


def _table(row: type[SQLModel]) -> Table:
    return cast("Table", row.__table__)  # type: ignore[attr-defined]


AGENTS, LABELS, HISTORY = _table(AgentRow), _table(LabelRow), _table(HistoryRow)
SESSIONS, DESCRIPTIONS, GROUPS = _table(SessionRow), _table(DescriptionRow), _table(GroupRow)
PARTITIONS, REALM = _table(PartitionRow), _table(RealmRow)
OUTBOX = outbox_table(METADATA)
