"""An agent on a real broker with accounts and permissions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster_agent import Agent, AgentIdentity
from muster_bus.bus import Bus
from muster_bus.identity import Keypair
from muster_bus.spool import FileSpool
from muster_contracts.agent.v1 import AdoptInterval, AgentKind, Heartbeat, Hello, LeaveReason, Left, Welcome
from muster_testing.ground import Ground
from muster_testing.wait import until


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("web-1") as ground:
        yield ground


class Registry:
    """Grants 0.2 s to whoever says hello, and keeps what it hears."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.hellos: list[Hello] = []
        self.beats: list[Heartbeat] = []

    async def listen(self) -> None:
        await self.bus.answer(Hello, self.on_hello)
        await self.bus.hear(Heartbeat, self.on_beat)

    async def on_hello(self, hello: Hello) -> Welcome:
        self.hellos.append(hello)
        return Welcome(agent_id=hello.agent_id, interval_seconds=0.2, deadline_seconds=0.5)

    async def on_beat(self, beat: Heartbeat) -> None:
        self.beats.append(beat)


@asynccontextmanager
async def an_agent(ground: Ground, directory: Path, interval: float = 0.1) -> AsyncIterator[Agent]:
    seed = ground.settings("web-1").seed_file
    assert seed
    spool = FileSpool(directory / "spool.db")
    bus = await ground.bus("web-1", spool=spool)
    agent = Agent(bus, AgentIdentity("web-1", Keypair.load(seed), seed), AgentKind.HOST, "1", {}, interval)
    task = asyncio.create_task(agent.run())
    yield agent
    task.cancel()
    await asyncio.wait([task])
    await bus.close()
    spool.close()


async def test_an_agent_is_welcomed_and_obeys_its_registry(ground: Ground, tmp_path: Path) -> None:
    registry = Registry(await ground.bus("fleet-registry"))
    async with an_agent(ground, tmp_path) as agent:
        await until(lambda: agent.counts.heartbeats > 2)
        await registry.listen()
        await until(lambda: registry.beats and registry.beats[-1].interval_seconds == 0.2)
        assert registry.hellos[0].epoch == agent.epoch
        order = AdoptInterval(
            occurred_at=datetime.now(UTC), agent_id="web-1", interval_seconds=0.3, deadline_seconds=1
        )
        await registry.bus.say(order)
        await until(lambda: registry.beats[-1].interval_seconds == 0.3)


async def test_a_goodbye_is_in_its_stream_when_the_agent_is_done_with_it(
    ground: Ground, tmp_path: Path
) -> None:
    stream = (await ground.bus("provisioner")).client.jetstream()
    async with an_agent(ground, tmp_path) as agent:
        await until(lambda: agent.counts.heartbeats)
        await agent.goodbye(LeaveReason.RESTART)
        kept = await stream.get_last_msg("AGENT", "muster.agent.v1.web-1.left")
        assert kept.data
        left = Left.model_validate_json(kept.data)
        assert (left.epoch, left.reason) == (agent.epoch, LeaveReason.RESTART)


async def test_a_goodbye_to_a_dead_broker_is_delivered_by_the_next_run(
    ground: Ground, tmp_path: Path
) -> None:
    async with an_agent(ground, tmp_path) as first:
        await until(lambda: first.counts.heartbeats)
        ground.server.kill()
        await first.goodbye(LeaveReason.SHUTDOWN, timeout=0.2)
    ground.server.start()
    async with an_agent(ground, tmp_path):
        stream = (await ground.bus("provisioner")).client.jetstream()

        async def kept() -> str:
            try:
                message = await stream.get_last_msg("AGENT", "muster.agent.v1.web-1.left")
            except Exception:  # noqa: BLE001  (not there yet)
                return ""
            assert message.data
            return Left.model_validate_json(message.data).epoch

        epoch: str = await until(kept)
        assert epoch == first.epoch


async def test_an_agent_beats_and_says_hello_again_after_the_broker_was_killed(
    ground: Ground, tmp_path: Path
) -> None:
    async with an_agent(ground, tmp_path) as agent:
        await until(lambda: agent.counts.heartbeats > 2)
        before = agent.counts.heartbeats, agent.counts.hellos
        ground.server.restart()
        await until(lambda: agent.counts.heartbeats > before[0] + 2, 15)
        await until(lambda: agent.counts.hellos > before[1], 15)
