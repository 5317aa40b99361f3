"""One fleet, two substrates: what a story may do to it and ask of it is the same in memory and for real."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel
from registry_world import BOOT, world
from staged_registry import staged_registry

from muster_agent import Agent, AgentIdentity
from muster_agent.ports import AgentBus
from muster_bus import Keypair
from muster_contracts.agent.v1 import AgentKind, LeaveReason
from muster_contracts.fleet.v1 import FindAgents, GetAgent, GetHistory, Presence, PresenceChanged
from muster_contracts.ids import make_epoch
from muster_contracts.message import Ask
from muster_runtime import Clock, SystemClock
from muster_testing.loop_time import LoopClock
from muster_testing.stage import Stage
from muster_testing.wait import until

A = TypeVar("A", bound=BaseModel)


class Host:
    """A machine with the real agent of every Muster machine on it."""

    def __init__(self, agent: Agent, tasks: set[asyncio.Task[None]]) -> None:
        self.agent = agent
        self._tasks = tasks
        self._running: asyncio.Task[None] | None = None

    def speak(self) -> None:
        """Say hello if that was not done yet, and beat."""
        self._running = asyncio.create_task(self.agent.run())
        self._tasks.add(self._running)

    async def fall_silent(self) -> None:
        """Say nothing any more, and keep the connection open: a machine that hangs."""
        assert self._running
        self._running.cancel()
        await asyncio.wait([self._running])
        self._tasks.discard(self._running)

    async def leave(self, reason: LeaveReason = LeaveReason.SHUTDOWN) -> None:
        """Say goodbye and end."""
        await self.agent.goodbye(reason)
        await self.fall_silent()


class Fleet(ABC):
    """A registry and whoever lives under it; ``async with`` it, because it opens in the time of its story."""

    interval: float
    """Seconds between heartbeats that the registry grants."""
    clock: Clock

    def __init__(self) -> None:
        self.exits = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        async with self.exits:
            await self.open()
            self.exits.push_async_callback(self._silence)
            self.exits = self.exits.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.exits.aclose()

    @abstractmethod
    async def open(self) -> None:
        """Start everything, and have ``exits`` end it."""

    @abstractmethod
    async def bus(self, agent_id: str) -> AgentBus:
        """What an agent speaks through."""

    @abstractmethod
    async def ask(self, question: Ask[A]) -> A:
        """Ask the registry, as an operator."""

    @abstractmethod
    def news(self, agent_id: str) -> list[str]:
        """What operators heard of an agent's presence, oldest first."""

    async def host(self, agent_id: str, **labels: str) -> Host:
        """A machine that speaks, at first by an interval of its own."""
        identity = AgentIdentity(agent_id, Keypair.generate(), Path("unused"))
        epoch = make_epoch(BOOT, int(self.clock.now().timestamp() * 1000))
        agent = Agent(
            await self.bus(agent_id), identity, AgentKind.HOST, "1.0", labels, 2 * self.interval,
            epoch=epoch, clock=self.clock,
        )  # fmt: skip
        host = Host(agent, self._tasks)
        host.speak()
        return host

    async def hears(self, agent_id: str, presence: Presence) -> None:
        """Wait until the newest word on an agent is ``presence``; a little more than a verdict takes."""
        await until(lambda: self.news(agent_id)[-1:] == [presence], 8 * self.interval, self.interval / 50)

    async def pass_intervals(self, how_many: float) -> None:
        """Let time pass."""
        await asyncio.sleep(how_many * self.interval)

    async def state(self, agent_id: str) -> str:
        """An agent's presence, as its registry answers."""
        return (await self.ask(GetAgent(occurred_at=self.clock.now(), agent_id=agent_id))).agent.state

    async def history(self, agent_id: str) -> list[str]:
        """What became of an agent, oldest first, as the registry answers."""
        page = await self.ask(GetHistory(occurred_at=self.clock.now(), agent_id=agent_id))
        moments = [event.at for event in page.events]
        assert moments == sorted(moments, reverse=True), "history is out of order"
        return [event.event for event in reversed(page.events)]

    async def found(self, selector: str) -> list[str]:
        """The ids of the agents that match."""
        page = await self.ask(FindAgents(occurred_at=self.clock.now(), selector=selector))
        return [agent.id for agent in page.agents]

    async def _silence(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class MemoryFleet(Fleet):
    """On a Stage, in fake time: an interval of a minute costs no more than any other."""

    interval = 60.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = LoopClock()
        self.stage = Stage()
        self._heard: list[PresenceChanged] = []

    async def open(self) -> None:
        async def keep(fact: PresenceChanged) -> None:
            self._heard.append(fact)

        await self.stage.bus("operator").hear(PresenceChanged, keep)
        registry = staged_registry(
            self.stage, self.clock, interval_seconds=self.interval, sweep_seconds=self.interval / 20
        )
        await self.exits.enter_async_context(registry.open())

    async def bus(self, agent_id: str) -> AgentBus:
        return self.stage.bus(agent_id)

    async def ask(self, question: Ask[A]) -> A:
        return await self.stage.bus("operator").ask(question)

    def news(self, agent_id: str) -> list[str]:
        return [fact.now for fact in self._heard if fact.agent_id == agent_id]


class RealFleet(Fleet):
    """On a broker and a Redis that run for this story, in the time of everybody."""

    interval = 0.8

    def __init__(self, directory: Path, *agents: str) -> None:
        super().__init__()
        self.clock = SystemClock()
        self._directory, self._agents = directory, agents

    async def open(self) -> None:
        self._world = await self.exits.enter_async_context(world(self._directory, *self._agents))
        presence = {"interval_seconds": self.interval}
        await self.exits.enter_async_context(self._world.registry(presence=presence))

    async def bus(self, agent_id: str) -> AgentBus:
        return await self._world.ground.bus(agent_id)

    async def ask(self, question: Ask[A]) -> A:
        return await self._world.ask(question)

    def news(self, agent_id: str) -> list[str]:
        return [state for state, _ in self._world.story(agent_id)]
