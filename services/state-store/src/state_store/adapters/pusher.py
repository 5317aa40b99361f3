"""Pushing orders to agents: asked, so that 'nobody there' is told from 'no word came back' (decision 1)."""

import asyncio
from collections import deque
from collections.abc import Iterable

from muster_bus import AskFailed, Bus, NoAnswer, NobodyAnswers, NotPermitted
from muster_contracts.command.v1 import Cancel, CommandState, Execute
from muster_runtime import Clock, Count, logger
from state_store.domain.target import Outcome
from state_store.ports import Ledger, Push, Unavailable

log = logger(__name__)

PUSHES = Count("muster_store_pushes_total", "Orders pushed to agents, by what became of it.", ("outcome",))
DROPPED = Count("muster_store_pushes_dropped_total", "Pushes that had no room; the rounds make up for them.")

CAPACITY = 200_000


class Pusher:
    """Works as one task, ``run``; at most ``at_once`` questions are under way.

    An attempt whose outcome could not be kept counts as one that may have arrived, also after a crash: each
    target was noted as being pushed before it came here.
    """

    def __init__(
        self, ledger: Ledger, bus: Bus, clock: Clock, *, at_once: int, answer_seconds: float
    ) -> None:
        self._ledger, self._bus, self._clock = ledger, bus, clock
        self._places = asyncio.Semaphore(at_once)
        self._answer_seconds = answer_seconds
        self._queue: deque[Push] = deque()
        self._some = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    def put(self, pushes: Iterable[Push]) -> None:
        """Push these soon, in their order; what does not fit is left to the rounds."""
        for push in pushes:
            if len(self._queue) >= CAPACITY:
                DROPPED.add()
            else:
                self._queue.append(push)
        self._some.set()

    async def run(self) -> None:
        """For ever: push what comes."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._some.wait()
                while self._queue:
                    await self._places.acquire()
                    group.create_task(self._one(self._queue.popleft()))
                self._some.clear()

    async def _one(self, push: Push) -> None:
        try:
            outcome = await self._in_its_place(push)
            if outcome:
                PUSHES.add(outcome.value)
                await self._ledger.pushed((push.terms.command_id, push.agent), outcome)
        except Unavailable as error:
            log.warning("cannot keep what became of a push; it will be tried again", why=str(error))
        except Exception as error:  # one push must not cost the others
            log.exception("cannot push", agent=push.agent, command=str(push.terms.command_id), exc_info=error)

    async def _in_its_place(self, push: Push) -> Outcome | None:
        try:
            return await self._push(push)
        finally:
            # Whoever waits for a place waits for agents, not for the disk as well.
            self._places.release()

    async def _push(self, push: Push) -> Outcome | None:
        command_id = push.terms.command_id
        # What waits here was surely not sent; asking without a broker could not tell.
        await self._bus.wait_connected()
        if push.cancel:
            stop = Cancel(occurred_at=self._clock.now(), agent_id=push.agent, command_id=command_id)
            await self._bus.say(stop)
        return await self._ask(push) if push.execute else None

    async def _ask(self, push: Push) -> Outcome:
        order = Execute(occurred_at=self._clock.now(), agent_id=push.agent, terms=push.terms)
        try:
            answer = await self._bus.ask(order, timeout=self._answer_seconds)
        except (NobodyAnswers, NotPermitted):
            return Outcome.UNREACHABLE
        except NoAnswer:
            return Outcome.UNKNOWN
        except AskFailed as error:
            log.warning("an agent cannot take an order", agent=push.agent, why=str(error))
            return Outcome.UNKNOWN
        # Of one that has ended its end is on its way; till then it is at least accepted.
        return Outcome.RUNNING if answer.state is CommandState.RUNNING else Outcome.ACCEPTED
