"""The outbox: letters written in the same transaction as the rows they tell of, until the bus has them."""

import json
import logging
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    all_,
    bindparam,
    delete,
    event,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_bus.spool import Letter
from muster_sql.batches import CHUNK_ROWS
from muster_sql.database import Database
from muster_sql.types import UtcDateTime

PROCESSES = 8
"""So many may fill one outbox at a time without a look at how full it is."""

log = logging.getLogger(__name__)


def outbox_table(metadata: MetaData, name: str = "outbox") -> Table:
    """The table of an outbox; declare it beside the service's own tables, and in a migration."""
    return Table(
        name,
        metadata,
        Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("id", Text, nullable=False, unique=True),
        Column("subject", Text, nullable=False),
        Column("headers", postgresql.JSONB().with_variant(sqlite.JSON(), "sqlite"), nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("put_at", UtcDateTime(), nullable=False),
        sqlite_autoincrement=True,  # positions are never given twice, also after the last row is gone
    )


class Outbox:
    """A spool in a service's own database: fact and row are one transaction, never one without the other.

    ``put_in`` is for handlers; the courier of the bus uses the rest. At most ``capacity`` letters wait; then
    the oldest are dropped and counted.
    """

    def __init__(self, database: Database, table: Table, capacity: int = 1_000_000) -> None:
        self._database, self._table = database, table
        self._capacity = capacity
        self._dropped = 0
        self._unlooked = 0
        """So many more letters may be put before there may be too many."""
        dialect = sqlite if database.is_sqlite else postgresql
        self._insert = dialect.insert(table).on_conflict_do_nothing(index_elements=["id"])
        self._delete = delete(table).where(table.c.id == bindparam("gone"))

    @property
    def capacity(self) -> int:
        """How many letters it holds at most."""
        return self._capacity

    @property
    def dropped(self) -> int:
        """How many letters this process dropped because the outbox was full."""
        return self._dropped

    async def put_in(self, connection: AsyncConnection, letters: Iterable[Letter]) -> None:
        """Write the letters in the transaction of ``connection``; a known id is kept once."""
        now = datetime.now(UTC)
        rows = [{**_row(letter), "put_at": now} for letter in letters]
        if not rows:
            return
        for start in range(0, len(rows), CHUNK_ROWS):
            await connection.execute(self._insert, rows[start : start + CHUNK_ROWS])
        self._unlooked -= len(rows)
        if self._unlooked <= 0:
            await self._make_room(connection)

    async def put(self, *letters: Letter) -> None:
        """Write the letters in a transaction of their own; they survive a power cut once this returns."""
        async with self._database.begin() as connection:
            await self.put_in(connection, letters)

    async def take(self, limit: int, *, without: Collection[str] = ()) -> list[Letter]:
        """The oldest letters of other subjects than ``without``, oldest first; they stay until done."""
        columns = self._table.c
        query = select(columns.id, columns.subject, columns.payload, columns.headers)
        if without:
            query = query.where(self._is_none_of(list(without)))
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(columns.position).limit(limit))
            return [Letter(row.id, row.subject, row.payload, row.headers) for row in found]

    async def done(self, ids: Iterable[str]) -> None:
        """Forget the letters the broker has acknowledged."""
        wanted = [{"gone": one} for one in ids]
        if wanted:
            await self._database.transact_at_one_go(
                lambda connection: connection.execute(self._delete, wanted)
            )

    async def forget_in(self, connection: AsyncConnection, ids: Iterable[str]) -> None:
        """As ``done``, in the transaction of ``connection``: for a spool that has more to write with it."""
        wanted = [{"gone": one} for one in ids]
        if wanted:
            await connection.execute(self._delete, wanted)

    async def size(self) -> int:
        """How many letters wait."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(self._table))).scalar_one()

    async def oldest(self) -> datetime | None:
        """When the letter that waits longest was put; ``None`` if none waits."""
        query = select(self._table.c.put_at).order_by(self._table.c.position).limit(1)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    def _is_none_of(self, subjects: list[str]) -> ColumnElement[bool]:
        """All of them in one parameter, since a statement may have only so many."""
        subject = self._table.c.subject
        if self._database.is_sqlite:
            return subject.not_in(select(func.json_each(json.dumps(subjects)).table_valued("value").c.value))
        return subject != all_(literal(subjects, postgresql.ARRAY(Text)))

    async def _make_room(self, connection: AsyncConnection) -> None:
        """Drop the oldest letters above the capacity; they are counted only when there may be too many."""
        position = self._table.c.position
        # Positions have gaps, so their span is never smaller than the number of letters; and it is cheap.
        span = (await connection.execute(select(func.max(position) - func.min(position) + 1))).scalar_one()
        if (room := self._capacity - (span or 0)) >= 0:
            # A part of the room, since other processes may fill it too.
            self._unlooked = room // PROCESSES
            return
        held = (await connection.execute(select(func.count()).select_from(self._table))).scalar_one()
        if held <= self._capacity:
            return
        oldest = select(position).order_by(position).limit(held - self._capacity)
        gone = await connection.execute(delete(self._table).where(position.in_(oldest)))
        _once_committed(connection, lambda: self._count_dropped(gone.rowcount))

    def _count_dropped(self, letters: int) -> None:
        self._dropped += letters
        log.error("outbox full: dropped its %d oldest letters to hold %d", letters, self._capacity)


def _once_committed(connection: AsyncConnection, then: Callable[[], None]) -> None:
    """Run ``then`` if and when the transaction of this connection is committed."""
    event.listen(connection.sync_connection, "commit", lambda _: then(), once=True)


def _row(letter: Letter) -> dict[str, object]:
    return {
        "id": letter.id,
        "subject": letter.subject,
        "headers": letter.headers,
        "payload": letter.payload,
    }
