"""A health-recovery on a real broker, with a registry and agents that say what a test has them say."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel

from health_recovery.main import HealthRecovery
from health_recovery.settings import HealthSettings
from muster_bus import AskError, AskFailed, Bus, NoAnswer
from muster_contracts.fleet.v1 import AgentPage, AgentRow, FindAgents
from muster_contracts.health.v1 import ExplainHealth, Explanation
from muster_contracts.message import Ask, Message
from muster_runtime import SystemClock
from muster_testing.ground import Ground
from muster_testing.wait import until

A = TypeVar("A", bound=BaseModel)
M = TypeVar("M", bound=Message)


def now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """Lists its agents; ``away`` it does not answer."""

    def __init__(self) -> None:
        self.agents: dict[str, AgentRow] = {}
        self.away = False
        self.asked = 0

    async def listen(self, bus: Bus) -> None:
        await bus.answer(FindAgents, self._find)

    async def _find(self, ask: FindAgents) -> AgentPage:
        self.asked += 1
        if self.away:
            raise AskError("unavailable", "cannot tell just now")
        found = [one for name, one in sorted(self.agents.items()) if ask.after is None or name > ask.after]
        page = found[: ask.limit]
        return AgentPage(
            agents=page, total=len(self.agents), next=page[-1].id if len(found) > len(page) else None
        )


class World:
    """The ground and everybody on it; ``replica`` runs in this process."""

    operator: Bus

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.registry = Registry()
        self.heard: list[Message] = []

    async def open(self) -> None:
        self.operator = await self.ground.bus("operator")
        await self.registry.listen(await self.ground.bus("fleet-registry"))

    def settings(self, **changes: Any) -> HealthSettings:
        fields = {
            "nats_url": self.ground.server.url,
            "seed_file": self.ground.seed_file("health-recovery"),
            "database_url": f"sqlite+aiosqlite:///{self.ground.directory}/health.db",
            "judging": {"refresh_seconds": 0.2},
            **changes,
        }
        return HealthSettings.model_validate(fields)

    @asynccontextmanager
    async def replica(self, **changes: Any) -> AsyncIterator[HealthRecovery]:
        """One that leads, or waits to."""
        replica = HealthRecovery(self.settings(**changes), SystemClock())
        async with replica.open():
            yield replica

    async def listen(self, *contracts: type[Message]) -> None:
        """Keep what is said of these in ``heard``."""

        async def keep(message: Message) -> None:
            self.heard.append(message)

        for contract in contracts:
            await self.operator.hear(contract, keep)

    def told(self, kind: type[M]) -> list[M]:
        return [one for one in self.heard if isinstance(one, kind)]

    async def ask(self, question: Ask[A]) -> A:
        """Ask until there is an answer."""

        async def answer() -> A | None:
            try:
                return await self.operator.ask(question, timeout=2)
            except NoAnswer:
                return None

        found = await until(answer, 20)
        assert found is not None
        return found

    async def explained(self, name: str, good: Callable[[Explanation], object]) -> Explanation:
        """How ``web@web-1`` is, once it is as wanted."""
        package, _, agent = name.partition("@")

        async def seen() -> Explanation | None:
            question = ExplainHealth(occurred_at=now(), agent_id=agent, package=package)
            try:
                told = await self.operator.ask(question, timeout=2)
            except (AskFailed, NoAnswer):
                return None
            return told if good(told) else None

        found = await until(seen, 20)
        assert found is not None
        return found


@asynccontextmanager
async def world(*agents: str) -> AsyncIterator[World]:
    async with Ground(*agents) as ground:
        here = World(ground)
        await here.open()
        yield here
