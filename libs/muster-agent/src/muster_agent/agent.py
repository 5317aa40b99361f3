"""The life every agent shares: hello, heartbeats at the granted interval, goodbye.

Heartbeats do not wait for a registry. They flow from the first connection on at the interval last
granted; hello is repeated with growing, jittered pauses until somebody answers.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import uniform
from uuid import UUID, uuid4

from muster_agent.epoch import new_epoch
from muster_agent.grants import Grants
from muster_agent.identity import AgentIdentity
from muster_agent.ports import AgentBus
from muster_agent.rhythm import Rhythm, sane
from muster_bus.errors import MusterError
from muster_contracts.agent.v1 import (
    AdoptInterval,
    AgentKind,
    Heartbeat,
    Hello,
    Introduce,
    LeaveReason,
    Left,
    Reconfigured,
    Welcome,
)
from muster_runtime.clock import Clock, SystemClock
from muster_runtime.logs import logger

ASK_SECONDS = 2.0
HELLO_SPACING_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0

log = logger(__name__)


@dataclass
class Counts:
    """What the agent did so far; counters for metrics."""

    heartbeats: int = 0
    hellos: int = 0
    welcomes: int = 0


class Agent:
    """One run of one agent: a session, from its first heartbeat to its goodbye.

    Args:
        bus: what it speaks through, connected as ``identity``.
        identity: who it is.
        kind: what it looks after.
        version: of the agent's program.
        labels: told to the registry with each hello.
        interval: seconds between heartbeats until the registry grants another interval.
        grants: remembers the granted interval over restarts; without it each run starts at ``interval``.
        epoch: the name of this run; made of the machine's boot and the present time if not given.
        clock: tells when what is said became true; this machine's if not given.
    """

    def __init__(  # noqa: PLR0917  (in the order of the sentence: who, what, which, how often)
        self,
        bus: AgentBus,
        identity: AgentIdentity,
        kind: AgentKind,
        version: str,
        labels: Mapping[str, str],
        interval: float,
        *,
        grants: Grants | None = None,
        epoch: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.identity = identity
        self.kind = kind
        self.version = version
        self.epoch = epoch or new_epoch()
        self.counts = Counts()
        self._bus = bus
        self._labels = dict(labels)
        self._grants = grants
        self._clock = clock or SystemClock()
        self._rhythm = Rhythm((grants and grants.last()) or interval)
        self._beat_wanted = asyncio.Event()
        self._hello_wanted = asyncio.Event()
        self._hello_wanted.set()
        self._listens = False
        self._leaving = False

    @property
    def agent_id(self) -> str:
        """The name this agent speaks under."""
        return self.identity.agent_id

    @property
    def interval(self) -> float:
        """Seconds between heartbeats just now."""
        return self._rhythm.interval

    async def run(self) -> None:
        """Hear orders, say hello and beat, until cancelled; may be run again after a failure."""
        if not self._listens:
            await self._bus.hear(AdoptInterval, self._on_adopt_interval, bound_to=self.agent_id)
            await self._bus.hear(Introduce, self._on_introduce, bound_to=self.agent_id)
            self._bus.on_reconnect(self._on_reconnect)
            self._listens = True
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat_for_ever(), name="heartbeats")
            group.create_task(self._greet_for_ever(), name="hello")

    async def goodbye(self, reason: LeaveReason, *, timeout: float = 2.0) -> None:  # noqa: ASYNC109  (of the ack)
        """Say that this run ends on purpose; not a single heartbeat follows. A second goodbye is silent.

        The fact is in the spool when the broker has not acked it within ``timeout`` seconds.
        """
        if self._leaving:
            return
        self._leaving = True
        # Its id is drawn at random: one that could be guessed could be said first by another agent, and the
        # stream would take the goodbye for a repeat.
        left = Left(occurred_at=self._clock.now(), agent_id=self.agent_id, epoch=self.epoch, reason=reason)
        await self._bus.say_now(left, timeout=timeout)

    def relabel(self, labels: Mapping[str, str]) -> None:
        """Carry other labels from now on and tell the registry."""
        self._labels = dict(labels)
        self._hello_wanted.set()

    async def reconfigured(
        self, changed: Sequence[str], *, needs_restart: Sequence[str] = (), error: str | None = None
    ) -> None:
        """Say that the configuration changed: dotted keys only, because a value may be a secret."""
        fact = Reconfigured(
            occurred_at=self._clock.now(),
            agent_id=self.agent_id,
            epoch=self.epoch,
            changed=list(changed),
            needs_restart=list(needs_restart),
            error=error,
        )
        await self._bus.say(fact)

    async def _on_adopt_interval(self, order: AdoptInterval) -> None:
        """Adopts the interval at once: the very next heartbeat states it."""
        self._adopt(order.interval_seconds)

    async def _on_introduce(self, _: Introduce) -> None:
        """Says hello again, at most once a second."""
        self._hello_wanted.set()

    def _on_reconnect(self) -> None:
        self._rhythm.hurry()
        self._beat_wanted.set()
        self._hello_wanted.set()

    def _adopt(self, interval: float) -> None:
        if interval == self._rhythm.interval:
            return
        if not sane(interval):
            log.warning("cannot live by this interval", granted=interval, kept=self._rhythm.interval)
            return
        self._rhythm.adopt(interval)
        self._beat_wanted.set()
        if self._grants:
            self._grants.remember(interval)

    async def _beat_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._leaving:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rhythm.wait(loop.time())):
                    await self._beat_wanted.wait()
            self._beat_wanted.clear()
            if self._rhythm.wait(loop.time()) == 0 and not self._leaving:
                await self._beat()
                self._rhythm.beat(loop.time())

    async def _beat(self) -> None:
        # Nothing is said into a broken connection: the client would deliver a heap of stale beats later.
        if not self._bus.connected:
            return
        beat = Heartbeat(
            occurred_at=self._clock.now(),
            agent_id=self.agent_id,
            kind=self.kind,
            epoch=self.epoch,
            sequence=self.counts.heartbeats,
            interval_seconds=self.interval,
        )
        try:
            await self._bus.say(beat)
        except (MusterError, OSError) as error:
            log.warning("cannot say a heartbeat", error=str(error))
        else:
            self.counts.heartbeats += 1

    async def _greet_for_ever(self) -> None:
        while not self._leaving:
            await self._hello_wanted.wait()
            await self._greet()
            await asyncio.sleep(HELLO_SPACING_SECONDS)

    async def _greet(self) -> None:
        """Repeat one hello until it is answered."""
        name = uuid4()
        for pause in _pauses():
            self._hello_wanted.clear()
            try:
                welcome = await self._bus.ask(self._hello(name), timeout=ASK_SECONDS)
            except (MusterError, OSError) as error:
                log.debug("no welcome yet", again_within_seconds=round(pause, 1), error=str(error))
                await self._rest(pause)
            else:
                self._be_welcomed(welcome)
                return

    async def _rest(self, pause: float) -> None:
        """Wait before the next hello; an order to introduce cuts it short, though not below the spacing."""
        try:
            async with asyncio.timeout(pause):
                await self._hello_wanted.wait()
        except TimeoutError:
            return
        await asyncio.sleep(min(pause, HELLO_SPACING_SECONDS))

    def _hello(self, name: UUID) -> Hello:
        self.counts.hellos += 1
        return Hello(
            message_id=name,
            occurred_at=self._clock.now(),
            agent_id=self.agent_id,
            kind=self.kind,
            epoch=self.epoch,
            agent_version=self.version,
            interval_seconds=self.interval,
            labels=self._labels,
        )

    def _be_welcomed(self, welcome: Welcome) -> None:
        self.counts.welcomes += 1
        if welcome.agent_id != self.agent_id:
            log.error("another machine has this id", agent_id=self.agent_id, given=welcome.agent_id)
        self._adopt(welcome.interval_seconds)


def _pauses() -> Iterator[float]:
    """Pauses between hellos: doubling up to 30 s, with full jitter, for ever."""
    longest = FIRST_PAUSE_SECONDS
    while True:
        yield uniform(0, longest)  # noqa: S311  (jitter, not a secret)
        longest = min(2 * longest, LONGEST_PAUSE_SECONDS)
