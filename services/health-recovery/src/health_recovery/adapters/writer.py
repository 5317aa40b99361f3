"""The leader's transactions: each begins with the fence, so that a leader of yesterday writes nothing."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from health_recovery.adapters.trouble import passes, unavailable
from health_recovery.ports import Fenced
from muster_sql import Database

T = TypeVar("T")


class Fence(Protocol):
    """Says whether this replica still leads, within the transaction that depends on it."""

    async def pass_in(self, connection: AsyncConnection) -> None:
        """Return if no later leader has begun; raises ``Fenced`` otherwise."""
        ...


class Writer:
    """All that the leader writes goes through here; ``on_commit`` is called after each commit."""

    def __init__(self, database: Database, fence: Fence) -> None:
        self._database, self._fence = database, fence
        self.on_commit: Callable[[], None] = lambda: None
        self.on_fenced: Callable[[], None] = lambda: None

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` in one fenced transaction; it may run several times, and has no effect but there.

        Raises:
            Fenced: another replica leads; nothing was written. ``on_fenced`` was called.
            Unavailable: the database cannot be used just now; nothing was written.
        """

        async def fenced(connection: AsyncConnection) -> T:
            await self._fence.pass_in(connection)
            return await work(connection)

        try:
            done = await self._database.transact(fenced)
        except Fenced:
            self.on_fenced()
            raise
        except Exception as error:
            if passes(error):
                raise unavailable(error) from error
            raise
        self.on_commit()
        return done
