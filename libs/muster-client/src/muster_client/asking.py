"""A connection to the fleet: questions that are repeated until they are answered, and what happens."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, TypeVar
from weakref import WeakSet

from pydantic import BaseModel

from muster_bus.bus import Bus
from muster_bus.errors import AskFailed, NoAnswer
from muster_bus.settings import BusSettings
from muster_bus.streams import stream_of
from muster_client.connection import connection
from muster_client.decode import Heard
from muster_client.taps import read_all
from muster_client.watching import Listening, Watch, address, moment, taps_of
from muster_contracts.message import Ask, DurableFact, Message

A = TypeVar("A", bound=BaseModel)
M = TypeVar("M", bound=Message)
L = TypeVar("L", bound=Listening)

TRY_SECONDS = 2.0
"""An answer that takes longer than this is asked for again."""


class Asking:
    """A connection to the fleet: questions that are repeated, facts that are watched."""

    def __init__(self, bus: Bus, *, patience: float = 10.0) -> None:
        self.bus = bus
        self.patience = patience
        self.closing = False
        self._watches: WeakSet[Listening] = WeakSet()
        bus.on_reconnect(self._came_back)

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        settings: BusSettings | None = None,
        *,
        directory: Path | None = None,
        within: float = 5.0,
        patience: float = 10.0,
    ) -> AsyncIterator[Self]:
        """The fleet of ``settings``, of ``directory``, or the one this environment names.

        ``within`` bounds the first connection; afterwards it mends itself for as long as it takes.
        ``patience`` is how many seconds a question is repeated for.

        Raises:
            NoFleet: none is set up there.
            CannotConnect: its broker cannot be reached ``within`` seconds.
        """
        bus = await Bus.connect(settings or connection(directory), first_try_seconds=within)
        fleet = cls(bus, patience=patience)
        try:
            yield fleet
        finally:
            await fleet.close()

    async def close(self) -> None:
        """End every watch and the connection."""
        self.closing = True
        for watch in list(self._watches):
            await watch.close()
        await self.bus.close()

    async def ask(self, question: Ask[A], *, within: float | None = None, slow: float | None = None) -> A:
        """Any question of the catalogue, repeated until it is answered or ``within`` seconds are over.

        An answer that may take its time is given ``slow`` seconds, however soon the patience ends.

        Raises:
            AskFailed: it was refused; ``code`` says why.
            NoAnswer: nobody answered in time; whether it took effect is unknown, asking again is safe.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self.patience if within is None else within)
        pause = 0.05
        while True:
            left = max(deadline - clock(), 0.01)
            try:
                return await self.bus.ask(question, timeout=slow or min(left, TRY_SECONDS))
            except (NoAnswer, AskFailed) as error:
                if _is_final(error) or clock() + pause >= deadline:
                    raise
            # Full jitter: a thousand askers do not return in step.
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311
            pause = min(pause * 2, 1.0)

    # What happens --------------------------------------------------------------------------------

    def watch(
        self, *contracts: type[M], agent: str | None = None, since: datetime | timedelta | None = None
    ) -> Watch[M]:
        """Facts as they become known, of one agent or of all.

        Durable facts come in order and none is missed, over reconnects too; with ``since`` those that
        the stream still keeps come first. A fact may come twice, with the same ``message_id``. Live
        ones come as they go by. ``async for`` begins listening at its first step; ``async with``
        begins at once, for who is about to cause what it wants to see.
        """
        taps = taps_of(self.bus.client, contracts, agent, moment(since), live=False)
        return self._remember(Watch[M](taps))

    def overhear(
        self, *contracts: type[Message], agent: str | None = None, since: datetime | timedelta | None = None
    ) -> Listening:
        """Raw messages as they go by, of any version and whether or not they can be read."""
        return self._remember(Listening(taps_of(self.bus.client, contracts, agent, moment(since), live=True)))

    async def recall(
        self, contract: type[DurableFact], since: datetime | timedelta, *, agent: str | None = None
    ) -> AsyncIterator[Heard]:
        """What the stream keeps of a durable contract since a moment, oldest first; ends at the last."""
        start = moment(since)
        assert start
        async for heard in read_all(self.bus.client, stream_of(contract), address(contract, agent), start):
            yield heard

    def _remember(self, watch: L) -> L:
        self._watches.add(watch)
        return watch

    def _came_back(self) -> None:
        for watch in list(self._watches):
            watch.look_again()


def now() -> datetime:
    """When a question is asked."""
    return datetime.now(UTC)


def _is_final(error: NoAnswer | AskFailed) -> bool:
    """Whether asking again would be told the same."""
    return isinstance(error, AskFailed) and error.code != "unavailable"
