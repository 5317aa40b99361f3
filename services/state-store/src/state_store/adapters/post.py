"""The post: what the courier takes letters from. What was just committed here need not be read back.

The outbox in SQL is the truth: it has each letter from its commit on until its stream has it, whoever dies.
The post remembers what waits there, as long as that is little and surely all; otherwise, and every few
seconds in any case, it looks. What is delivered leaves the outbox with the next commit of the ledger: should
the process die before, it is sent again, as after any death between an acknowledgement and its commit.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from muster_bus import Letter
from muster_runtime import logger
from muster_sql import Outbox

REMEMBERED = 2000
LOOK_SECONDS = 5.0
"""So long it relies on what it remembers: another process that died may have left something."""

log = logger(__name__)


class Post:
    """A ``muster_bus.spool.Spool`` over an ``Outbox``.

    Args:
        outbox: where the letters are.
        delivered: takes letters out of it, some time soon.
    """

    def __init__(self, outbox: Outbox, delivered: Callable[[list[str]], "asyncio.Future[None]"]) -> None:
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something new."""
        self._outbox, self._delivered = outbox, delivered
        self._waiting: dict[str, Letter] | None = None
        """All that waits, oldest first; None where that is not known."""
        self._looked_at = float("-inf")
        self._posted = 0
        self._gone: set[str] = set()
        """Delivered, though the outbox may still have them."""

    @property
    def capacity(self) -> int:
        """How many letters the outbox holds at most."""
        return self._outbox.capacity

    @property
    def dropped(self) -> int:
        """How many letters this process dropped because the outbox was full."""
        return self._outbox.dropped

    def posted(self, letters: Iterable[Letter]) -> None:
        """These were put into the outbox, and committed."""
        self._posted += 1
        if self._waiting is not None:
            self._waiting |= {one.id: one for one in letters}
            if len(self._waiting) > REMEMBERED:
                self._waiting = None
        self.wake()

    async def put(self, *letters: Letter) -> None:
        """Write the letters in a transaction of their own; they survive a power cut once this returns."""
        await self._outbox.put(*letters)
        self.posted(letters)

    async def take(self, limit: int, *, without: Collection[str] = ()) -> list[Letter]:
        """The oldest letters of other subjects than ``without``, oldest first; they stay until done."""
        if self._waiting is None or without or time.monotonic() - self._looked_at > LOOK_SECONDS:
            return await self._look(limit, without)
        return list(islice(self._waiting.values(), limit))

    async def done(self, ids: Iterable[str]) -> None:
        """Forget the letters the broker has acknowledged."""
        gone, waiting = list(ids), self._waiting or {}
        self._gone.update(gone)
        for one in gone:
            waiting.pop(one, None)
        self._delivered(gone).add_done_callback(lambda told: self._forgotten(gone, told))

    async def size(self) -> int:
        """How many letters wait."""
        return max(0, await self._outbox.size() - len(self._gone))

    async def _look(self, limit: int, without: Collection[str]) -> list[Letter]:
        posted, gone, now = self._posted, set(self._gone), time.monotonic()
        found = await self._outbox.take(limit + len(gone), without=without)
        # What was delivered before the look, or meanwhile, may be in it.
        waiting = [one for one in found if one.id not in gone and one.id not in self._gone]
        if not without:
            all_of_it = len(found) < limit + len(gone) and posted == self._posted
            self._waiting = {one.id: one for one in waiting} if all_of_it else None
            self._looked_at = now
        return waiting[:limit]

    def _forgotten(self, gone: list[str], told: "asyncio.Future[None]") -> None:
        self._gone.difference_update(gone)
        if not told.cancelled() and (error := told.exception()):
            self._waiting = None
            log.warning("cannot forget letters that were delivered; they are sent again", why=str(error))
