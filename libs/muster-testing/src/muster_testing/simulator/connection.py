"""A connection that keeps itself up: bounded connect rate, unlimited reconnects with full jitter."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from muster_testing.simulator.roster import Member
from muster_testing.simulator.stats import Stats
from muster_testing.simulator.wire import Wire

_CONNECT_SECONDS = 10.0
"""How long one attempt may take, TCP and the broker's answer together."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
"""Seconds; a wait is drawn evenly from zero to a bound that doubles from the first to the longest."""


class Pace:
    """Turns at ``rate`` per second at most, in the order of asking."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._free = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = asyncio.get_running_loop().time()
        mine = max(now, self._free)
        self._free = mine + self._gap
        await asyncio.sleep(mine - now)


@dataclass
class Network:
    """What all connections of a fleet share."""

    host: str
    port: int
    pace: Pace
    stats: Stats
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def spawn(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done, and end it with the fleet."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Connection:
    """One TCP connection as ``member``; subscribes ``subjects`` and calls ``up`` each time it comes up."""

    __slots__ = ("_hear", "_network", "_subjects", "_up", "_wanted", "_wire", "member")

    def __init__(
        self,
        network: Network,
        member: Member,
        subjects: Sequence[str],
        up: Callable[[], None],
        hear: Callable[[str, bytes], None],
    ) -> None:
        self._network = network
        self.member = member
        self._subjects = subjects
        self._up = up
        self._hear = hear
        self._wire: Wire | None = None
        self._wanted = False

    @property
    def wire(self) -> Wire | None:
        """The wire, while there is one to speak on."""
        return self._wire if self._wire and self._wire.open else None

    async def open(self) -> None:
        """Connect, trying until it works or ``abort`` or ``close`` is called."""
        self._wanted = True
        wait = _FIRST_WAIT
        while self._wanted and not self.wire:
            await self._network.pace.turn()
            try:
                await self._attempt()
            except (OSError, TimeoutError) as error:
                self._network.stats.error(f"cannot connect: {type(error).__name__}")
                # Full jitter: after a broker's restart the attempts of a fleet spread over the whole wait.
                await asyncio.sleep(random.uniform(0, wait))  # noqa: S311  (jitter is no secret)
                wait = min(_LONGEST_WAIT, wait * 2)

    async def _attempt(self) -> None:
        async with asyncio.timeout(_CONNECT_SECONDS):
            wire = await self._dial()
        if not self._wanted or self.wire:  # killed meanwhile, or killed and restarted
            wire.abort()
            return
        self._wire = wire
        self._network.stats.connects += 1
        wire.subscribe(*self._subjects)
        self._up()

    async def _dial(self) -> Wire:
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(self._make_wire, self._network.host, self._network.port)
        try:
            await wire.ready
        except BaseException:
            wire.abort()
            raise
        return wire

    def _make_wire(self) -> Wire:
        return Wire(self.member, self._hear, self._gone, self._network.stats.error)

    def _gone(self) -> None:
        if not self._wanted or self._wire is None or self._wire.open:
            return
        self._wire = None
        self._network.stats.connections_lost += 1
        self._network.spawn(asyncio.ensure_future(self._again()))

    async def _again(self) -> None:
        await asyncio.sleep(random.uniform(0, _FIRST_WAIT))  # noqa: S311  (jitter is no secret)
        await self.open()
        self._network.stats.reconnects += 1

    def abort(self) -> None:
        """Gone with no goodbye, for good."""
        self._wanted = False
        if self._wire:
            self._wire.abort()
        self._wire = None

    def close(self) -> None:
        """Send what is buffered and close, for good."""
        self._wanted = False
        if self._wire:
            self._wire.close()
        self._wire = None
