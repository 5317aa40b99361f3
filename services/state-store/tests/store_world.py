"""A state-store on a real broker, with a registry and agents that do as a test says."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from muster_bus import AskError, Bus
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.chunk.v1 import Chunk, Encoding
from muster_contracts.command.v1 import (
    Accepted,
    Backlog,
    Cancel,
    CommandState,
    Ended,
    Execute,
    FindTargets,
    GetBacklog,
    Settled,
    Submit,
    Target,
)
from muster_contracts.fleet.v1 import AgentPage, AgentRow, FindAgents, Presence
from muster_contracts.ids import make_epoch
from muster_contracts.package.v1 import RestartPackage
from muster_contracts.selector import Facts, parse
from muster_runtime import SystemClock
from muster_testing.ground import Ground
from muster_testing.wait import until
from state_store.main import StateStore
from state_store.settings import Orders, StoreSettings

EPOCH = make_epoch("a" * 12, 1)


def now() -> datetime:
    return datetime.now(UTC)


def soon(seconds: float) -> datetime:
    return now() + timedelta(seconds=seconds)


def submit(selector: str = "id=a1", **changes: Any) -> Submit:
    fields = {
        "occurred_at": now(),
        "issuer": "ann@laptop",
        "selector": selector,
        "body": RestartPackage(package="web"),
        "not_after": soon(600),
        **changes,
    }
    return Submit(**fields)


def ended(command_id: UUID, agent: str = "a1", **changes: Any) -> Ended:
    fields = {
        "occurred_at": now(),
        "agent_id": agent,
        "epoch": EPOCH,
        "command_id": command_id,
        "verb": "package.restart",
        "state": CommandState.SUCCEEDED,
        "reason": "done",
        **changes,
    }
    return Ended(**fields)


def chunk(content: bytes, offset: int = 0, packed: bytes | None = None, **changes: Any) -> Chunk:
    fields = {
        "offset": offset,
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "encoding": Encoding.GZIP if packed else Encoding.IDENTITY,
        "data": base64.b64encode(packed or content).decode(),
        **changes,
    }
    return Chunk(**fields)


class Registry:
    """Answers which agents match, from a list; ``away`` it answers that it cannot."""

    def __init__(self, agents: list[str]) -> None:
        self.agents, self.away, self.asked = agents, False, 0

    async def listen(self, bus: Bus) -> None:
        await bus.answer(FindAgents, self._find)

    async def _find(self, ask: FindAgents) -> AgentPage:
        self.asked += 1
        if self.away:
            raise AskError("unavailable", "cannot tell just now")
        wanted = parse(ask.selector)
        matching = [
            one
            for one in sorted(self.agents)
            if wanted.matches(Facts(id=one, kind=AgentKind.HOST, state=Presence.ONLINE, labels={}))
        ]
        later = [one for one in matching if ask.after is None or one > ask.after]
        page = later[: ask.limit]
        return AgentPage(
            agents=[_row(one) for one in page],
            total=len(matching),
            next=page[-1] if len(later) > len(page) else None,
        )


def _row(agent: str) -> AgentRow:
    return AgentRow(
        id=agent, kind=AgentKind.HOST, state=Presence.ONLINE, since=now(), labels={}, reason="heartbeat"
    )


class Agent:
    """An agent that is told what to do, and does nothing by itself."""

    def __init__(self, bus: Bus, agent_id: str) -> None:
        self.bus, self.id = bus, agent_id
        self.orders: list[Execute] = []
        self.cancels: list[UUID] = []
        self.answers: Callable[[Execute], Awaitable[Accepted]] = self._accept

    async def listen(self) -> None:
        await self.bus.answer(Execute, self._on_execute, bound_to=self.id)
        await self.bus.hear(Cancel, self._on_cancel, bound_to=self.id)

    async def _on_execute(self, order: Execute) -> Accepted:
        self.orders.append(order)
        return await self.answers(order)

    async def _accept(self, order: Execute) -> Accepted:
        return Accepted(command_id=order.terms.command_id, state=CommandState.ACCEPTED)

    async def keep_silent(self, order: Execute) -> Accepted:
        await asyncio.Event().wait()
        raise AssertionError

    async def _on_cancel(self, cancel: Cancel) -> None:
        self.cancels.append(cancel.command_id)

    async def end(self, command_id: UUID, **changes: Any) -> Ended:
        report = ended(command_id, self.id, **changes)
        await self.bus.say(report)
        return report

    async def backlog(self, after: UUID | None = None) -> Backlog:
        ask = GetBacklog(occurred_at=now(), agent_id=self.id, epoch=EPOCH, after=after)
        return await self.bus.ask(ask, timeout=5)


class World:
    """The ground and everybody on it."""

    store: StateStore
    operator: Bus
    registry: Registry

    def __init__(self, ground: Ground, settings: StoreSettings) -> None:
        self.ground, self.settings = ground, settings
        self.settled: list[Settled] = []

    async def agent(self, agent_id: str) -> Agent:
        agent = Agent(await self.ground.bus(agent_id), agent_id)
        await agent.listen()
        return agent

    async def order(self, selector: str = "id=a1", **changes: Any) -> UUID:
        answer = await self.operator.ask(submit(selector, **changes), timeout=5)
        return answer.command_id

    async def targets(self, command_id: UUID) -> list[Target]:
        page = await self.operator.ask(FindTargets(occurred_at=now(), command_id=command_id), timeout=5)
        return page.targets

    async def target(self, command_id: UUID) -> Target:
        [target] = await self.targets(command_id)
        return target

    async def reaches(self, command_id: UUID, *states: CommandState, seconds: float = 15) -> Target:
        async def there() -> Target | None:
            target = await self.target(command_id)
            return target if target.state in states else None

        found = await until(there, seconds)
        assert found
        return found

    async def settles(self, command_id: UUID) -> list[Settled]:
        """What was said of its ends; waits for the first."""
        await until(lambda: [one for one in self.settled if one.target.id == command_id])
        return [one for one in self.settled if one.target.id == command_id]


def settings_on(ground: Ground, database: Path | None = None, **orders: Any) -> StoreSettings:
    quick = {"sweep_seconds": 0.05, "grace_seconds": 1.0, "push_seconds": 0.3, "cancel_again_seconds": 0.3}
    return StoreSettings(
        nats_url=ground.server.url,
        seed_file=ground.seed_file("state-store"),
        database_url=f"sqlite+aiosqlite:///{database or ground.directory / 'store.db'}",
        orders=Orders(**{**quick, **orders}),
    )


@asynccontextmanager
async def world(*agents: str, run: bool = True, **orders: Any) -> AsyncIterator[World]:
    """``agents`` are known to the registry; they listen once ``World.agent`` is called."""
    async with Ground(*agents) as ground:
        made = World(ground, settings_on(ground, **orders))
        made.registry = Registry(list(agents))
        await made.registry.listen(await ground.bus("fleet-registry"))
        made.operator = await ground.bus("operator")

        async def hear(settled: Settled) -> None:
            made.settled.append(settled)

        await made.operator.hear(Settled, hear)
        if not run:
            yield made
            return
        made.store = StateStore(made.settings, SystemClock())
        async with made.store.open():
            yield made


def new_id() -> UUID:
    return uuid4()
