"""The tables of state-store. Rows are read and written by Core; these classes are their schema."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Uuid, text
from sqlmodel import Field, SQLModel

from muster_sql import UtcDateTime, outbox_table

METADATA = MetaData()
OPEN = text("ended_at IS NULL")


class Row(SQLModel):
    """Base of the tables: they share a metadata of their own."""

    metadata = METADATA


def _serial() -> Any:
    return Field(
        default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    )


def _moment(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(UtcDateTime(), nullable=null))


def _big() -> Any:
    return Field(sa_column=Column(BigInteger(), nullable=False))


def _json(*, null: bool = False) -> Any:
    return Field(default=None, sa_column=Column(JSON(none_as_null=True), nullable=null))


def _uuid(*, key: bool = False) -> Any:
    return Field(sa_column=Column(Uuid(), primary_key=key, nullable=False))


class CommandRow(Row, table=True):
    """One command; ``living`` counts its targets that have not ended."""

    __tablename__ = "commands"
    __table_args__ = (
        Index("ix_commands_key", "issuer", "idempotency_key", unique=True),
        Index("ix_commands_submitted", "submitted_at"),
    )

    id: UUID = _uuid(key=True)
    issuer: str
    idempotency_key: str | None = None
    verb: str
    body: dict[str, Any] = _json()
    fingerprint: str
    selector: str
    precondition: dict[str, Any] = _json()
    submitted_at: datetime = _moment()
    not_after: datetime = _moment()
    start_seconds: float
    run_seconds: float
    targets: int
    living: int
    sensitive: bool


class TargetRow(Row, table=True):
    """One command on one agent. What lists filter by is repeated here, each with an index in their order."""

    __tablename__ = "targets"
    __table_args__ = (
        Index("ix_targets_command_agent", "command_id", "agent", unique=True),
        Index("ix_targets_command_state", "command_id", "state"),
        Index("ix_targets_newest", "submitted_at", "position"),
        Index("ix_targets_agent", "agent", "submitted_at", "position"),
        Index("ix_targets_state", "state", "submitted_at", "position"),
        Index("ix_targets_issuer", "issuer", "submitted_at", "position"),
        Index("ix_targets_verb", "verb", "submitted_at", "position"),
        Index("ix_targets_open", "agent", "position", sqlite_where=OPEN, postgresql_where=OPEN),
        Index("ix_targets_deadline", "deadline", sqlite_where=OPEN, postgresql_where=OPEN),
        Index("ix_targets_push", "push_at", sqlite_where=OPEN, postgresql_where=OPEN),
    )

    position: int | None = _serial()
    command_id: UUID = _uuid()
    agent: str
    verb: str
    about: str | None = None
    issuer: str
    submitted_at: datetime = _moment()
    not_after: datetime = _moment()
    start_seconds: float
    run_seconds: float
    state: str
    reason: str | None = None
    text: str | None = None
    accepted_at: datetime | None = _moment(null=True)
    started_at: datetime | None = _moment(null=True)
    ended_at: datetime | None = _moment(null=True)
    cancel_requested: bool
    exit_code: int | None = Field(default=None, sa_column=Column(BigInteger(), nullable=True))
    result: dict[str, Any] | None = _json(null=True)
    output_bytes: int = _big()
    reported_late: str | None = None
    sent: bool
    pushing: bool
    pushes: int
    deadline: datetime | None = _moment(null=True)
    push_at: datetime | None = _moment(null=True)


class AuditRow(Row, table=True):
    """One entry of the audit; never changed, never deleted."""

    __tablename__ = "audit"

    sequence: int = Field(sa_column=Column(BigInteger(), primary_key=True, autoincrement=False))
    at: datetime = _moment()
    actor: str
    action: str
    decision: str
    subject: str
    detail: dict[str, Any] = _json()
    previous: str
    hash: str


class HeadRow(Row, table=True):
    """How far the audit is, and how far that was said; one row, and whoever appends locks it."""

    __tablename__ = "audit_head"

    one: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    sequence: int = _big()
    hash: str
    anchored: int = _big()


class StreamRow(Row, table=True):
    """One stream of one agent."""

    __tablename__ = "streams"
    __table_args__ = (
        Index("ix_streams_name", "agent", "name", unique=True),
        Index("ix_streams_command", "command_id"),
    )

    id: int | None = _serial()
    agent: str
    name: str
    command_id: UUID = _uuid()
    size: int = _big()
    complete: bool
    sha256: str | None = None


class ChunkRow(Row, table=True):
    """Some bytes of a stream, as they were packed."""

    __tablename__ = "chunks"

    stream_id: int = Field(sa_column=Column(BigInteger(), primary_key=True, autoincrement=False))
    offset: int = Field(sa_column=Column(BigInteger(), primary_key=True, autoincrement=False))
    length: int
    sha256: str
    encoding: str
    data: bytes = Field(sa_column=Column(LargeBinary(), nullable=False))


def _table(row: type[SQLModel]) -> Table:
    return cast("Table", row.__table__)  # type: ignore[attr-defined]


COMMANDS, TARGETS = _table(CommandRow), _table(TargetRow)
AUDIT, HEAD = _table(AuditRow), _table(HeadRow)
STREAMS, CHUNKS = _table(StreamRow), _table(ChunkRow)
OUTBOX = outbox_table(METADATA)
