"""The tables of incidents and notices. Rows are read and written by Core; these classes are their schema."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, Column, Index, MetaData, Table, Uuid
from sqlmodel import Field, SQLModel

from muster_sql import UtcDateTime

NOTICE_METADATA = MetaData()


class Row(SQLModel):
    """Base of the tables: they share a metadata of their own."""

    metadata = NOTICE_METADATA


def _moment(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(UtcDateTime(), nullable=null))


def _json() -> Any:
    return Field(sa_column=Column(JSON(none_as_null=True), nullable=False))


def _uuid() -> Any:
    return Field(sa_column=Column(Uuid(), primary_key=True, nullable=False))


class IncidentRow(Row, table=True):
    """One incident; ``document`` holds what nobody asks for by itself."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index("ix_incidents_newest", "opened_at", "id"),
        Index("ix_incidents_cause", "agent", "package", "opened_at"),
        Index("ix_incidents_resolved", "resolved_at"),
    )

    id: UUID = _uuid()
    agent: str
    package: str
    phase: str
    phase_since: datetime = _moment()
    ill_since: datetime = _moment()
    opened_at: datetime = _moment()
    moved_at: datetime = _moment()
    resolved_at: datetime | None = _moment(null=True)
    document: dict[str, Any] = _json()


class TellingRow(Row, table=True):
    """What one channel was last told of one incident."""

    __tablename__ = "tellings"
    __table_args__ = (Index("ix_tellings_incident", "incident_id"), Index("ix_tellings_status", "status"))

    channel: str = Field(primary_key=True)
    incident_id: UUID = _uuid()
    status: str
    health: str
    at: datetime = _moment()
    episode: int


class NoticeRow(Row, table=True):
    """One notice to one channel, and what became of it. It names no address and no secret."""

    __tablename__ = "notices"
    __table_args__ = (
        Index("ix_notices_state", "state", "created_at"),
        Index("ix_notices_created", "created_at"),
    )

    id: UUID = _uuid()
    channel: str
    state: str
    created_at: datetime = _moment()
    next_at: datetime = _moment()
    ended_at: datetime | None = _moment(null=True)
    attempts: int
    groups: list[str] = _json()
    told: list[str] = _json()
    body: dict[str, Any] = _json()
    why: str | None = None


def _table(row: type[SQLModel]) -> Table:
    return cast("Table", row.__table__)  # type: ignore[attr-defined]


INCIDENTS, TELLINGS, NOTICES = _table(IncidentRow), _table(TellingRow), _table(NoticeRow)
