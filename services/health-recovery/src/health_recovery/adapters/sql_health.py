"""What the leader writes of the fleet's health, and how it finds all of it again when it takes over."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping, Table, and_, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from health_recovery.adapters.rows import event_row, host_of, host_row, package_of, package_row
from health_recovery.adapters.tables import HISTORY, HOSTS, PACKAGES, SITES, WINDOWS
from health_recovery.adapters.trouble import reading
from health_recovery.adapters.writer import Writer
from health_recovery.domain.assessing import Changes
from health_recovery.domain.keys import Key
from health_recovery.domain.maintenance import Window
from health_recovery.domain.picture import Picture
from muster_bus import letter_of
from muster_contracts.health.v1 import Maintenance
from muster_contracts.selector import parse
from muster_sql import Database, Outbox, insert_rows, upsert

ROWS_AT_ONCE = 2000
FORGOTTEN_AT_ONCE = 5000

_GONE = delete(PACKAGES).where(
    and_(PACKAGES.c.agent == bindparam("of_agent"), PACKAGES.c.package == bindparam("of_name"))
)
_ENDED = update(HISTORY).where(HISTORY.c.id == bindparam("of_id")).values(ended_at=bindparam("moment"))


class SqlHealth:
    """See ``ports.Store``; the leader also begins with ``raise_fence``."""

    def __init__(self, database: Database, writer: Writer, outbox: Outbox) -> None:
        self._database, self._writer, self._outbox = database, writer, outbox

    async def raise_fence(self) -> None:
        """From here on no leader before this one can write.

        Raises:
            Fenced: a later leader has begun.
            Unavailable: the database cannot be used just now.
        """

        async def nothing(_: AsyncConnection) -> None:
            return None

        await self._writer.transact(nothing)

    async def load(self) -> Picture:
        """The whole picture as it was last written.

        Raises:
            Unavailable: the database cannot be used just now.
        """
        picture = Picture()
        async with reading(self._database) as connection:
            for one in await connection.execute(select(SITES)):
                picture.sites[one.site] = one.since
            picture.windows = {one.id: one for one in await _windows(connection)}
            async for row in _rows(connection, HOSTS):
                picture.put_host(host_of(row))
            async for row in _rows(connection, PACKAGES):
                picture.put(package_of(row))
            last = await connection.scalar(select(func.max(HISTORY.c.id)))
        picture.shaken()
        picture.next_event = (last or 0) + 1
        return picture

    async def write(self, changes: Changes) -> None:
        """Write what a batch changed, with what is to be said of it, in one fenced transaction.

        Raises:
            Fenced, Unavailable: nothing was written.
        """
        letters = [letter_of(fact) for fact in changes.facts]

        async def work(connection: AsyncConnection) -> None:
            kept = [package_row(one) for one in changes.packages.values() if one]
            await upsert(connection, PACKAGES, kept, ["agent", "package"])
            await self._gone(connection, (key for key, one in changes.packages.items() if one is None))
            await upsert(connection, HOSTS, [host_row(one) for one in changes.hosts.values()], ["agent"])
            await _write_history(connection, changes)
            if changes.sites is not None:
                await connection.execute(delete(SITES))
                sites = [{"site": site, "since": since} for site, since in changes.sites.items()]
                await insert_rows(connection, SITES, sites)
            await self._outbox.put_in(connection, letters)

        await self._writer.transact(work)

    async def add_window(self, told: Maintenance) -> None:
        """Keep a maintenance window; one that is there already stays as it is. Raises as ``write``."""
        row = {name: getattr(told, name) for name in WINDOWS.c.keys()}  # noqa: SIM118  (a collection)

        async def work(connection: AsyncConnection) -> None:
            await upsert(connection, WINDOWS, [row], ["id"], update=[])

        await self._writer.transact(work)

    async def end_window(self, window: UUID, at: datetime) -> None:
        """Let a window end now, if it has not. Raises as ``write``."""
        statement = update(WINDOWS).where(and_(WINDOWS.c.id == window, WINDOWS.c.until > at)).values(until=at)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._writer.transact(work)

    async def forget(self, before: datetime) -> bool:
        """Delete some history that ended before, and maintenance; returns whether there may be more.

        Raises as ``write``.
        """
        old = select(HISTORY.c.id).where(HISTORY.c.at < before, HISTORY.c.ended_at < before)
        some = old.order_by(HISTORY.c.at).limit(FORGOTTEN_AT_ONCE)

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(delete(WINDOWS).where(WINDOWS.c.until < before))
            return (await connection.execute(delete(HISTORY).where(HISTORY.c.id.in_(some)))).rowcount

        return await self._writer.transact(work) == FORGOTTEN_AT_ONCE

    async def _gone(self, connection: AsyncConnection, keys: Iterable[Key]) -> None:
        if rows := [{"of_agent": key.agent, "of_name": key.package} for key in keys]:
            await connection.execute(_GONE, rows)


async def _write_history(connection: AsyncConnection, changes: Changes) -> None:
    await insert_rows(connection, HISTORY, [event_row(one, changes.ended) for one in changes.events])
    fresh = {one.id for one in changes.events}
    ended = [{"of_id": number, "moment": at} for number, at in changes.ended.items() if number not in fresh]
    if ended:
        await connection.execute(_ENDED, ended)


async def _windows(connection: AsyncConnection) -> list[Window]:
    told = [Maintenance(**one) for one in (await connection.execute(select(WINDOWS))).mappings()]
    return [Window(one, parse(one.selector)) for one in told]


async def _rows(connection: AsyncConnection, table: Table) -> AsyncIterator[RowMapping]:
    """Every row, some at a time, so that the loop is not held for long."""
    async with connection.stream(select(table)) as found:
        async for some in found.mappings().partitions(ROWS_AT_ONCE):
            for row in some:
                yield row
