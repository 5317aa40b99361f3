"""Ends on their way from the journal into the bus' spool, in the order their commands came."""

import asyncio

from muster_agent.obedience.journal import Journal
from muster_agent.ports import ObedientBus
from muster_bus.errors import MusterError
from muster_bus.metrics import Counters
from muster_contracts.command.v1 import Ended
from muster_contracts.ids import Epoch
from muster_runtime import failpoints
from muster_runtime.clock import Clock
from muster_runtime.logs import logger

AT_ONCE = 200
WINDOW = 1000
"""So many wait in the spool at most, which others use too and which drops its oldest; the rest waits here."""
SETTLE_SECONDS = 10.0
PAUSE_SECONDS = 1.0

log = logger(__name__)


class Outcomes:
    """Says every end that no spool has yet; one said twice has the same message id."""

    def __init__(
        self, bus: ObedientBus, journal: Journal, epoch: Epoch, clock: Clock, counts: Counters
    ) -> None:
        self._bus = bus
        self._journal = journal
        self._epoch = epoch
        self._clock = clock
        self._counts = counts
        self._news = asyncio.Event()
        self._news.set()
        self._fresh: list[Ended] = []
        """Ends that came just now: in the journal, which need not be read for them."""
        self._to_look = True
        """Whether the journal may have others."""
        self._connected = asyncio.Event()
        self._in_spool = 0
        """Said since the spool was last seen empty."""

    def put(self, ended: Ended) -> None:
        """This end is in the journal by now."""
        if len(self._fresh) < WINDOW:
            self._fresh.append(ended)
        else:
            self._to_look = True
        self._news.set()

    def wake(self) -> None:
        """The journal may have an end to say."""
        self._to_look = True
        self._news.set()

    def connected(self) -> None:
        """The broker is back."""
        self._connected.set()

    async def run(self) -> None:
        """Say ends for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                while await self.say_some():
                    await self._let_go()
            except MusterError as error:
                log.warning("cannot say what became of commands yet", error=str(error))
                self._news.set()
                await asyncio.sleep(PAUSE_SECONDS)

    async def say_some(self) -> int:
        """Put the oldest ends into the spool; how many.

        Raises:
            MusterError: the journal or the spool failed; nothing is lost, some may be said again.
        """
        ends = await self._some()
        if not ends:
            return 0
        try:
            await self._bus.say(*(self._of_this_run(one) for one in ends))
        except MusterError:
            self._to_look = True  # the journal still has them
            raise
        failpoints.reached("result-outboxed")
        self._journal.said([one.command_id for one in ends], self._clock.now())
        self._counts.add("ends_said", count=len(ends))
        self._in_spool += len(ends)
        return len(ends)

    async def _some(self) -> list[Ended]:
        """The next ends to say: from the journal where it may have others, else what came just now."""
        if self._to_look:
            self._to_look = False
            try:
                ends = await self._journal.unsaid(AT_ONCE)
            except MusterError:
                self._to_look = True
                raise
            self._to_look |= len(ends) == AT_ONCE
        else:
            ends = self._fresh[:AT_ONCE]
        ids = {one.message_id for one in ends}
        self._fresh = [one for one in self._fresh if one.message_id not in ids]
        return ends

    def _of_this_run(self, end: Ended) -> Ended:
        """As it was, in the name of the run that says it: an end of another run would be a stranger's."""
        return end.model_copy(update={"epoch": self._epoch})

    async def _let_go(self) -> None:
        """Wait for the spool where it holds as much of ours as it should."""
        while self._in_spool >= WINDOW:
            self._connected.clear()
            if not self._bus.connected:
                await self._connected.wait()
            try:
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._bus.settled()
            except TimeoutError:
                if not self._bus.connected:
                    continue
                # Others hold the spool up. What it drops for want of room, the ledger will ask for again.
            self._in_spool = 0
