"""What may fail without an agent being wronged: Redis flushed, killed and gone; the registry stopped."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from signal import SIGTERM

import pytest
import redis.asyncio

from muster_contracts.fleet.v1 import FindAgents, GetSummary, Presence, Summary
from muster_testing.control_plane import ControlPlane
from muster_testing.simulator import Fleet, Roster, Settings
from muster_testing.wait import until

INTERVAL = 1.0
SETTINGS = {"FLEET_REGISTRY_PRESENCE__INTERVAL_SECONDS": str(INTERVAL)}
LONG = [pytest.mark.soak, pytest.mark.timeout(900)]


@asynccontextmanager
async def fleet_of(count: int) -> AsyncIterator[tuple[ControlPlane, Fleet]]:
    """A control plane and ``count`` agents, each with its own connection, all online."""
    roster = Roster.fresh(count)
    settings = Settings(interval=INTERVAL, sites=10)
    async with (
        ControlPlane(others=roster.identities, settings=SETTINGS) as plane,
        Fleet(roster, plane.server.url, settings) as fleet,
    ):
        await fleet.connect()
        await until(lambda: _online(plane, count), 60, every=0.2)
        yield plane, fleet


async def summary(plane: ControlPlane) -> Summary:
    """The fleet in numbers, as the registry tells."""
    return await plane.operator.ask(GetSummary(occurred_at=datetime.now(UTC)), timeout=5)


async def _online(plane: ControlPlane, count: int) -> bool:
    return (await summary(plane)).by_state.get(Presence.ONLINE, 0) == count


def ever_lost(plane: ControlPlane) -> set[str]:
    """Every agent the history has a loss of."""
    with contextlib.closing(sqlite3.connect(f"file:{plane.database}?mode=ro", uri=True, timeout=10)) as db:
        return {row[0] for row in db.execute("SELECT agent_id FROM history WHERE now = 'lost'")}


async def last_seen(plane: ControlPlane) -> list[datetime]:
    """When each agent was seen last, as the registry tells; the first 500."""
    page = await plane.operator.ask(FindAgents(occurred_at=datetime.now(UTC), limit=500), timeout=5)
    assert page.degraded is None
    return [agent.last_seen for agent in page.agents if agent.last_seen]


@pytest.mark.parametrize(
    ("count", "absent_seconds"), [(200, 4), pytest.param(1000, 60, marks=LONG)], ids=["200", "1000"]
)
async def test_redis_flushed_killed_and_absent_makes_nobody_lost_and_is_correct_after_one_interval(
    count: int, absent_seconds: float
) -> None:
    async with fleet_of(count) as (plane, fleet):
        async with redis.asyncio.from_url(plane.redis.url) as client:
            await client.flushall()
        await asyncio.sleep(3 * INTERVAL)
        plane.redis.restart()
        await asyncio.sleep(3 * INTERVAL)
        plane.redis.kill()
        silent = [agent.agent_id for agent in fleet][::50]
        for agent_id in silent:
            fleet[agent_id].mute()
        await asyncio.sleep(absent_seconds)
        assert (await summary(plane)).degraded
        assert ever_lost(plane) == set(), "lost while nothing could be known"
        plane.redis.start()
        back = datetime.now(UTC)
        await until(lambda: _whole(plane), 30, every=0.1)
        await until(lambda: ever_lost(plane) == set(silent), 10 * INTERVAL, every=0.1)
        # One interval in which all may speak, and the sweep's own rhythm.
        print(f"the silent ones were known {(datetime.now(UTC) - back).total_seconds():.1f} s after Redis")
        assert await _online(plane, count - len(silent))


async def _whole(plane: ControlPlane) -> bool:
    return (await summary(plane)).degraded is None


@pytest.mark.parametrize(
    ("count", "stopped_seconds"), [(200, 8), pytest.param(1000, 300, marks=LONG)], ids=["200", "1000"]
)
async def test_after_a_stopped_registry_exactly_those_that_died_meanwhile_are_lost(
    count: int, stopped_seconds: float
) -> None:
    async with fleet_of(count) as (plane, fleet):
        plane.registry.kill(SIGTERM)
        dead = [agent.agent_id for agent in fleet][::20]
        leavers = [agent.agent_id for agent in fleet][1::100]
        for agent_id in dead:
            fleet[agent_id].kill()
        for agent_id in leavers:
            await fleet[agent_id].leave()
        await asyncio.sleep(stopped_seconds)
        plane.registry.start()
        await plane.served()
        served = asyncio.get_running_loop().time()
        await until(lambda: ever_lost(plane) == set(dead), 20 * INTERVAL, every=0.1)
        print(f"all were known {asyncio.get_running_loop().time() - served:.1f} s after the registry served")
        # A false loss would come within the next deadlines.
        await asyncio.sleep(4 * INTERVAL)
        assert ever_lost(plane) == set(dead)
        told = await summary(plane)
        assert told.by_state[Presence.LOST] == len(dead)
        assert told.by_state[Presence.LEFT] == len(leavers)
        assert told.by_state[Presence.ONLINE] == count - len(dead) - len(leavers)
