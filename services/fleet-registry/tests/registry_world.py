"""A world for the registry's tests: a real broker and Redis, a registry in this process, agents to kill."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, SecretStr

from fleet_registry.main import Registry
from fleet_registry.settings import Presence as PresenceSettings
from fleet_registry.settings import RegistrySettings
from muster_bus import Bus
from muster_contracts.agent.v1 import (
    AdoptInterval,
    AgentKind,
    Heartbeat,
    Hello,
    Introduce,
    LeaveReason,
    Left,
    Welcome,
)
from muster_contracts.fleet.v1 import (
    AgentDetail,
    GetAgent,
    GetConnections,
    GetHistory,
    PresenceChanged,
)
from muster_contracts.ids import make_epoch
from muster_contracts.message import Ask, DurableFact
from muster_runtime import SystemClock
from muster_testing.ground import Ground
from muster_testing.servers import RedisServer
from muster_testing.wait import until

A = TypeVar("A", bound=BaseModel)
F = TypeVar("F", bound=DurableFact)

INTERVAL = 0.3
BOOT = "0a1b2c3d4e5f"
OTHER_BOOT = "ffff2c3d4e5f"


def now() -> datetime:
    return datetime.now(UTC)


class World:
    """Broker, Redis, and whoever lives on them."""

    def __init__(self, ground: Ground, redis: RedisServer, directory: Path, exits: AsyncExitStack) -> None:
        self.ground, self.redis, self.directory = ground, redis, directory
        self.operator: Bus
        self.heard: list[DurableFact] = []
        self._exits = exits

    def settings(self, **changes: Any) -> RegistrySettings:
        presence = {"interval_seconds": INTERVAL, "sweep_seconds": 0.05, "hold_seconds": 0.4}
        presence |= changes.pop("presence", {})
        bus = self.ground.settings("fleet-registry")
        values = {
            "nats_url": bus.servers[0],
            "seed_file": bus.seed_file,
            "system_seed_file": self.ground.settings("system").seed_file,
            "identities_file": self.directory / "identities.json",
            "redis_url": SecretStr(self.redis.url),
            "database_url": SecretStr(f"sqlite+aiosqlite:///{self.directory}/registry.db"),
            "presence": PresenceSettings(**presence),
        }
        return RegistrySettings(**{**values, **changes})

    @asynccontextmanager
    async def registry(self, **changes: Any) -> AsyncIterator[Registry]:
        registry = Registry(self.settings(**changes), SystemClock())
        async with registry.open():
            await until(lambda: registry.index.degraded is None)
            await until(lambda: registry.connections is None or registry.connections.hearing)
            await until(lambda: registry.connections is None or registry.connections.complete)
            yield registry

    async def agent(self, agent_id: str, **habits: Any) -> "FakeAgent":
        agent = FakeAgent(self, agent_id, **habits)
        self._exits.push_async_callback(agent.end)
        await agent.start()
        return agent

    async def agents(self, agent_ids: list[str], **habits: Any) -> list["FakeAgent"]:
        return list(await asyncio.gather(*(self.agent(one, **habits) for one in agent_ids)))

    async def ask(self, question: Ask[A]) -> A:
        return await self.operator.ask(question, timeout=5)

    async def detail(self, agent_id: str) -> AgentDetail:
        return await self.ask(GetAgent(occurred_at=now(), agent_id=agent_id))

    async def state(self, agent_id: str) -> str:
        return (await self.detail(agent_id)).agent.state

    async def history(self, agent_id: str) -> list[tuple[str, str]]:
        """What happened to an agent, oldest first."""
        page = await self.ask(GetHistory(occurred_at=now(), agent_id=agent_id, limit=500))
        return [(event.event.value, event.reason.value) for event in reversed(page.events)]

    async def connections(self, agent_id: str) -> Any:
        return (await self.ask(GetConnections(occurred_at=now(), agent_id=agent_id))).connections

    def said(self, kind: type[F], of: str | None = None) -> list[F]:
        facts = [fact for fact in self.heard if isinstance(fact, kind)]
        return [fact for fact in facts if of is None or getattr(fact, "agent_id", None) == of]

    def last_said(self, agent_id: str) -> str:
        """The state an agent was last said to be in."""
        return next((state for state, _ in reversed(self.story(agent_id))), "")

    def story(self, agent_id: str) -> list[tuple[str, str]]:
        """What was said of an agent, oldest first."""
        return [(fact.now.value, fact.reason.value) for fact in self.said(PresenceChanged, agent_id)]


class FakeAgent:
    """An agent that beats over a connection of its own until it is told otherwise."""

    def __init__(
        self,
        world: World,
        agent_id: str,
        *,
        interval: float = INTERVAL,
        boot: str = BOOT,
        hello: bool = True,
        labels: dict[str, str] | None = None,
        adopts: bool = True,
    ) -> None:
        self.world, self.agent_id, self.interval = world, agent_id, interval
        self.epoch = make_epoch(boot, time.time_ns() // 1_000_000)
        self.labels, self.says_hello, self.adopts = labels or {}, hello, adopts
        self.welcome: Welcome | None = None
        self.last_beat = 0.0
        self.introduced = 0
        self.told = 0
        """How often a heartbeat of it was answered with another interval."""
        self._bus: Bus | None = None
        self._beating: asyncio.Task[None] | None = None
        self._sequence = 0

    async def start(self) -> None:
        self._bus = await Bus.connect(self.world.ground.settings(self.agent_id), first_try_seconds=10)
        await self._bus.hear(AdoptInterval, self._on_adopt, bound_to=self.agent_id)
        await self._bus.hear(Introduce, self._on_introduce, bound_to=self.agent_id)
        if self.says_hello:
            await self.hello()
        self.resume()

    async def hello(self) -> None:
        assert self._bus
        self.welcome = await self._bus.ask(
            Hello(
                occurred_at=now(),
                agent_id=self.agent_id,
                kind=AgentKind.HOST,
                epoch=self.epoch,
                agent_version="1.2.3",
                interval_seconds=self.interval,
                labels=self.labels,
            ),
            timeout=5,
        )

    async def beat(self) -> None:
        assert self._bus
        self._sequence += 1
        await self._bus.say(
            Heartbeat(
                occurred_at=now(),
                agent_id=self.agent_id,
                kind=AgentKind.HOST,
                epoch=self.epoch,
                sequence=self._sequence,
                interval_seconds=self.interval,
            )
        )
        self.last_beat = time.monotonic()

    def resume(self) -> None:
        self._beating = asyncio.create_task(self._beat_for_ever())

    async def fall_silent(self) -> None:
        """Hold the connection open and say nothing."""
        if self._beating:
            self._beating.cancel()
            await asyncio.wait([self._beating])
            self._beating = None

    async def kill(self) -> None:
        """End as by ``kill -9``: the socket closes, nobody says goodbye."""
        await self.fall_silent()
        assert self._bus
        bus, self._bus = self._bus, None
        bus.client.closing = True
        bus.client._abort()
        with contextlib.suppress(OSError):
            await bus.client.close()

    async def leave(self, reason: LeaveReason = LeaveReason.SHUTDOWN) -> None:
        await self.fall_silent()
        assert self._bus
        await self._bus.say_now(
            Left(occurred_at=now(), agent_id=self.agent_id, epoch=self.epoch, reason=reason), timeout=5
        )
        await self.end()

    async def end(self) -> None:
        await self.fall_silent()
        if self._bus:
            bus, self._bus = self._bus, None
            await bus.close(0.5)

    async def _beat_for_ever(self) -> None:
        while True:
            with contextlib.suppress(Exception):
                await self.beat()
            await asyncio.sleep(self.interval)

    async def _on_adopt(self, order: AdoptInterval) -> None:
        self.told += 1
        if self.adopts:
            self.interval = order.interval_seconds
            await self.beat()

    async def _on_introduce(self, _: Introduce) -> None:
        self.introduced += 1


@asynccontextmanager
async def world(directory: Path, *agents: str) -> AsyncIterator[World]:
    """A broker that knows ``agents``, a Redis, and an operator who hears every fact of the fleet."""
    async with AsyncExitStack() as exits:
        redis = exits.enter_context(RedisServer())
        ground = await exits.enter_async_context(Ground(*agents))
        here = World(ground, redis, directory, exits)
        identities = {
            key.public: {"role": "host-agent" if name in agents else name, "name": name}
            for name, key in ground._keys.items()
        }
        (directory / "identities.json").write_text(json.dumps(identities))
        here.operator = await ground.bus("operator")
        await _hear_everything(here)
        yield here


async def _hear_everything(here: World) -> None:
    from muster_contracts.fleet import v1

    known: set[UUID] = set()

    async def keep(fact: DurableFact) -> None:
        # Two registries share an outbox: the stream keeps one copy, a live hearer may get two.
        if fact.message_id not in known:
            known.add(fact.message_id)
            here.heard.append(fact)

    for kind in vars(v1).values():
        if isinstance(kind, type) and issubclass(kind, DurableFact) and kind is not DurableFact:
            await here.operator.hear(kind, keep)
