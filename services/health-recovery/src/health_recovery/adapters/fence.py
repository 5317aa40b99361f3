"""The fence: a leader that was stopped and is not the leader any more writes nothing (decision 2).

Each transaction of a leader begins by raising the fence to its epoch, and there is no lower one: the row
is locked until the commit, so that of two leaders one is entirely before the other. One that is stopped in
the middle of a transaction would lock the next one out for as long: PostgreSQL ends its session after
``IDLE_SECONDS``. SQLite has no such thing, so replicas need PostgreSQL.
"""

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from health_recovery.adapters.recovery_tables import FENCE
from health_recovery.ports import Fenced
from muster_contracts.health.v1 import HEALTH

IDLE_SECONDS = 3.0
"""A transaction in which nothing happens for so long has no living leader; shorter than the lease."""


class Fence:
    """The fence as one leader finds it."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.seen = epoch
        """The greatest epoch that was met; a lease has to outgrow it."""

    async def pass_in(self, connection: AsyncConnection) -> None:
        """Return if no later leader has begun.

        Raises:
            Fenced: one has.
        """
        if connection.dialect.name == "postgresql":
            idle = f"SET LOCAL idle_in_transaction_session_timeout = {int(IDLE_SECONDS * 1000)}"
            await connection.execute(text(idle))
        mine = update(FENCE).where(FENCE.c.name == HEALTH, FENCE.c.epoch <= self._epoch)
        if (await connection.execute(mine.values(epoch=self._epoch))).rowcount:
            return
        found = await connection.scalar(select(FENCE.c.epoch).where(FENCE.c.name == HEALTH))
        self.seen = max(self.seen, found or 0)
        raise Fenced(f"cannot write as the leader of epoch {self._epoch}: one of epoch {found} has begun")
