"""Journeys: agents live and die on a real broker, and the registry says so."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from muster_bus import AskFailed
from muster_contracts.fleet.v1 import PresenceChanged
from muster_testing.wait import until

sys.path.insert(0, str(Path(__file__).parent))
from registry_world import BOOT, INTERVAL, World, now, world  # noqa: E402


async def test_a_killed_agent_is_lost_because_its_connection_ended_and_returns_with_its_next_run(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1", interval=60.0, adopts=False)
        await until(lambda: here.story("web-1") == [("online", "hello")] or here.story("web-1"))
        await agent.kill()
        await until(lambda: len(here.story("web-1")) == 2)
        assert here.story("web-1")[1] == ("lost", "disconnected")
        await here.agent("web-1")
        await until(lambda: len(here.story("web-1")) == 3)
        assert [state for state, _ in await here.history("web-1")] == ["online", "lost", "online"]
        newest, oldest = await here.connections("web-1")
        assert (oldest.reason, newest.reason) == ("disconnected", None)
        assert oldest.address.startswith("127.0.0.1:")


async def test_an_agent_that_says_goodbye_has_left_and_is_never_lost(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1")
        await agent.leave()
        await until(lambda: ("left", "shutdown") in here.story("web-1"))
        # Longer than the hold of a broken connection and than every deadline.
        await asyncio.sleep(4 * INTERVAL)
        assert [state for state, _ in here.story("web-1")] == ["online", "left"]
        assert [state for state, _ in await here.history("web-1")] == ["online", "left"]


async def test_a_silent_agent_is_late_then_lost_at_its_deadline_and_not_before(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry() as registry:
        agent = await here.agent("web-1")
        await until(lambda: here.story("web-1"))
        await agent.fall_silent()
        await until(lambda: ("late", "overdue") in here.story("web-1"))
        await until(lambda: ("lost", "silence") in here.story("web-1"))
        assert time.monotonic() - agent.last_beat >= 2.5 * INTERVAL
        assert registry.connections
        assert registry.connections.is_connected("web-1")
        agent.resume()
        await until(lambda: here.story("web-1")[-1][0] == "online")
        assert [state for state, _ in here.story("web-1")] == ["online", "late", "lost", "online"]
