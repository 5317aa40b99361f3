"""Each protection and its twin: the same story with the protection off has to end in the harm it prevents."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from registry_world import INTERVAL, World, world

from fleet_registry.adapters.goodbyes import StreamGoodbyes
from fleet_registry.adapters.presence_index import PresenceIndex
from fleet_registry.adapters.redis_index import RedisIndex
from fleet_registry.ear import Ear
from fleet_registry.hearing import Hearing
from muster_bus.link import Link
from muster_testing.wait import until

guarded_or_not = pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "twin"])
AGENTS = [f"web-{n}" for n in range(6)]


async def ever_lost(here: World, agent_ids: list[str]) -> set[str]:
    """The agents whose history has a loss."""
    return {one for one in agent_ids if "lost" in {state for state, _ in await here.history(one)}}


@guarded_or_not
async def test_silence_counts_only_while_the_registry_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    claim = RedisIndex.claim

    async def claim_by_all_silence(self: RedisIndex, limit: int, expected: float, _: float) -> Any:
        return await claim(self, limit, expected, 1e9)

    if not guarded:
        monkeypatch.setattr(RedisIndex, "claim", claim_by_all_silence)
    async with world(tmp_path, *AGENTS) as here:
        async with here.registry():
            agents = await here.agents(AGENTS)
            for agent in agents:
                await agent.fall_silent()  # of which the registry will not hear before it is back
        await asyncio.sleep(4 * INTERVAL)
        async with here.registry():
            for agent in agents:
                agent.resume()
            await asyncio.sleep(4 * INTERVAL)
            assert await ever_lost(here, AGENTS) == (set() if guarded else set(AGENTS))


@guarded_or_not
async def test_a_goodbye_on_its_way_is_looked_for_before_a_broken_connection_is_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    left = Hearing.left

    async def slow(self: Hearing, goodbye: Any) -> None:
        await asyncio.sleep(1.5)
        await left(self, goodbye)

    async def blind(*_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(Hearing, "left", slow)
    if not guarded:
        monkeypatch.setattr(StreamGoodbyes, "last", blind)
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1")
        await until(lambda: here.story("web-1"))
        await agent.leave()
        await until(lambda: here.last_said("web-1") == "left")
        assert await ever_lost(here, ["web-1"]) == (set() if guarded else {"web-1"})


@guarded_or_not
async def test_an_agent_that_falls_silent_as_redis_is_flushed_is_lost_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if not guarded:
        monkeypatch.setattr(PresenceIndex, "_degrade", lambda *_: None)
    async with world(tmp_path, "web-1") as here, here.registry() as registry:
        agent = await here.agent("web-1")
        await until(lambda: here.story("web-1"))
        await agent.fall_silent()
        await registry.redis._redis.flushall()
        await asyncio.sleep(6 * INTERVAL)
        assert await ever_lost(here, ["web-1"]) == ({"web-1"} if guarded else set())


@guarded_or_not
async def test_a_connection_that_is_replaced_at_once_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    monkeypatch.setattr(Link, "_wait", lambda *_: 0.5)
    async with (
        world(tmp_path, "web-1") as here,
        # Granted what it lives by: an agent that adopts a shorter interval would be lost by its silence.
        here.registry(presence={"hold_seconds": 3.0 if guarded else 0.0, "interval_seconds": 5.0}),
    ):
        agent = await here.agent("web-1", interval=5.0)
        await until(lambda: here.story("web-1"))
        assert agent._bus
        back = asyncio.Event()
        agent._bus.on_reconnect(back.set)
        agent._bus.client._abort()
        await back.wait()
        await agent.beat()
        await asyncio.sleep(3.5 if guarded else 0.0)
        assert await ever_lost(here, ["web-1"]) == (set() if guarded else {"web-1"})


@guarded_or_not
async def test_silence_counts_only_while_the_broker_proves_that_it_delivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    if not guarded:
        monkeypatch.setattr(Ear, "hears", lambda _: True)
    async with world(tmp_path, *AGENTS) as here, here.registry():
        await here.agents(AGENTS)
        here.ground.server.pause()  # the connections stay, and nothing comes through them
        await asyncio.sleep(4 * INTERVAL)
        here.ground.server.resume()
        await asyncio.sleep(4 * INTERVAL)
        assert await ever_lost(here, AGENTS) == (set() if guarded else set(AGENTS))
