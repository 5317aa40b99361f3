"""Asking the ledger what there is to do: at the start, after each connect, and now and then."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import UUID

from muster_agent.ports import ObedientBus
from muster_bus.errors import MusterError
from muster_contracts.command.v1 import Backlog, GetBacklog, Terms
from muster_contracts.ids import Epoch
from muster_runtime.clock import Clock
from muster_runtime.logs import logger

ASK_SECONDS = 5.0
EVERY_SECONDS = 300.0
"""Also while nothing seems to have been missed."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0

Take = Callable[[list[Terms]], Awaitable[None]]
Cancel = Callable[[UUID], Awaitable[None]]

log = logger(__name__)


class CatchingUp:
    """Takes whatever the ledger has for this agent, until all of it was taken."""

    def __init__(  # noqa: PLR0917  (who asks, and whom to tell)
        self, bus: ObedientBus, agent_id: str, epoch: Epoch, clock: Clock, take: Take, cancel: Cancel
    ) -> None:
        self._bus = bus
        self._agent_id = agent_id
        self._epoch = epoch
        self._clock = clock
        self._take = take
        self._cancel = cancel
        self._behind = asyncio.Event()

    def wake(self) -> None:
        """Something may have been missed."""
        self._behind.set()

    async def run(self) -> None:
        """Catch up for ever; while the ledger does not answer, with growing pauses."""
        failures = 0
        while True:
            self._behind.clear()
            try:
                await self._catch_up()
            except (MusterError, OSError) as error:
                failures += 1
                log.debug("cannot read the backlog yet", error=str(error))
            else:
                failures = 0
            await self._rest(failures)

    async def _rest(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
        pause = longest if failures else EVERY_SECONDS
        try:
            async with asyncio.timeout(random.uniform(pause / 2, pause)):  # noqa: S311  (jitter, no secret)
                await self._behind.wait()
        except TimeoutError:
            return

    async def _catch_up(self) -> None:
        after: UUID | None = None
        while True:
            page = await self._page(after)
            # What is cancelled first, so that it does not begin in between.
            for command_id in page.cancelled:
                await self._cancel(command_id)
            await self._take(page.orders)
            if page.next is None:
                return
            after = page.next

    async def _page(self, after: UUID | None) -> Backlog:
        question = GetBacklog(
            occurred_at=self._clock.now(), agent_id=self._agent_id, epoch=self._epoch, after=after
        )
        return await self._bus.ask(question, timeout=ASK_SECONDS)
