"""Journeys: agents live and die on a real broker, and the registry says so."""

import asyncio
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from registry_world import INTERVAL, OTHER_BOOT, World, now, world

from fleet_registry.main import Registry
from muster_bus import AskFailed, Bus
from muster_contracts.agent.v1 import LeaveReason
from muster_contracts.fleet.v1 import (
    AgentFlapping,
    AgentStable,
    ExpectAgent,
    GetHistory,
    IdentityConflict,
    PartitionEnded,
    PartitionSuspected,
    PresenceChanged,
    RetireAgent,
)
from muster_testing.wait import until

PATIENT: dict[str, Any] = {"interval": 60.0, "adopts": False}
"""An agent whose silence nobody would notice within a test."""


async def test_a_killed_agent_is_lost_because_its_connection_ended_and_returns_with_its_next_run(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1", **PATIENT)
        await until(lambda: here.story("web-1"))
        await agent.kill()
        await until(lambda: len(here.story("web-1")) == 2)
        assert here.story("web-1")[1] == ("lost", "disconnected")
        await here.agent("web-1")
        await until(lambda: len(here.story("web-1")) == 3)
        assert [state for state, _ in await here.history("web-1")] == ["online", "lost", "online"]
        newest, oldest = await here.connections("web-1")
        assert (oldest.reason, newest.reason) == ("disconnected", None)
        assert oldest.address.startswith("127.0.0.1:")
        page = await here.ask(GetHistory(occurred_at=now(), agent_id="web-1"))
        assert page.events[-1].address == oldest.address


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
        await until(lambda: here.last_said("web-1") == "online")
        assert [state for state, _ in here.story("web-1")] == ["online", "late", "lost", "online"]


async def test_an_agent_that_is_killed_and_restarted_at_once_was_lost_and_is_online(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry(presence={"hold_seconds": 3.0}) as registry:
        first = await here.agent("web-1", **PATIENT)
        # Whatever the first run said has been heard, and that its connection ended: a hello before the one,
        # or a beat after the other, would have the next run replace it without a loss.
        await until(lambda: here.story("web-1") and first.told)
        await first.kill()
        await until(lambda: registry.holds.dropped_at("web-1"))
        await here.agent("web-1", **PATIENT)
        await until(lambda: len(here.story("web-1")) == 3)
        assert here.story("web-1")[1:] == [("lost", "disconnected"), ("online", "hello")]


async def test_an_agent_that_restarts_politely_is_never_lost_however_quick_it_is(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        first = await here.agent("web-1")
        await first.leave(LeaveReason.RESTART)
        await here.agent("web-1")
        await until(lambda: len(here.story("web-1")) == 3)
        assert here.story("web-1") == [("online", "hello"), ("left", "restart"), ("online", "hello")]
        assert [one.reason for one in await here.connections("web-1")] == [None, "restart"]


async def test_a_run_that_only_reconnects_is_not_lost(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry() as registry:
        agent = await here.agent("web-1")
        await until(lambda: here.story("web-1"))
        dropped = registry.connections.on_dropped  # type: ignore[union-attr]
        drops: list[str] = []

        def note(who: str, at: datetime) -> None:
            drops.append(who)
            dropped(who, at)

        registry.connections.on_dropped = note  # type: ignore[union-attr]
        agent._bus.client._abort()  # type: ignore[union-attr]
        await until(lambda: drops)
        await until(lambda: not len(registry.holds), 10)
        assert [state for state, _ in await here.history("web-1")] == ["online"]


async def test_a_flushed_redis_loses_nobody_and_is_filled_again(tmp_path: Path) -> None:
    names = [f"web-{n}" for n in range(8)]
    async with world(tmp_path, *names) as here, here.registry() as registry:
        await here.agents(names)
        for _ in range(3):
            filled = registry.index.rebuilt
            await registry.redis._redis.flushall()
            await until(partial(_is_filled_again, registry, filled))
        await asyncio.sleep(4 * INTERVAL)
        assert registry.index.degraded is None
        assert await registry.redis.watched() == set(names)
        assert {state for name in names for state, _ in await here.history(name)} == {"online"}


def _is_filled_again(registry: Registry, before: int) -> bool:
    return registry.index.rebuilt > before


async def test_without_redis_nobody_is_lost_by_mistake_and_the_dead_are_named_once_it_is_back(
    tmp_path: Path,
) -> None:
    names = [f"web-{n}" for n in range(6)]
    async with world(tmp_path, *names) as here, here.registry() as registry:
        agents = await here.agents(names)
        here.redis.kill()
        await until(lambda: registry.index.degraded is not None)
        assert (await here.detail("web-0")).degraded is not None
        # Silence is not judged now; a broken connection and a goodbye still are.
        await agents[0].fall_silent()
        await agents[1].kill()
        await agents[2].leave()
        await until(lambda: ("lost", "disconnected") in here.story("web-1"))
        await until(lambda: ("left", "shutdown") in here.story("web-2"))
        await asyncio.sleep(4 * INTERVAL)
        assert await here.state("web-0") == "online"
        here.redis.start()
        await until(lambda: registry.index.degraded is None)
        await until(lambda: ("lost", "silence") in here.story("web-0"))
        lost = {fact.agent_id for fact in here.said(PresenceChanged) if fact.now == "lost"}
        assert lost == {"web-0", "web-1"}


async def test_exactly_those_that_died_while_the_registry_was_away_are_lost(tmp_path: Path) -> None:
    names = [f"web-{n}" for n in range(20)]
    async with world(tmp_path, *names) as here:
        async with here.registry():
            agents = await here.agents(names)
        for agent in agents[:4]:
            await agent.kill()
        await asyncio.sleep(4 * INTERVAL)
        async with here.registry():
            await until(lambda: len([f for f in here.said(PresenceChanged) if f.now == "lost"]) >= 4)
            await asyncio.sleep(3 * INTERVAL)
        lost = [fact.agent_id for fact in here.said(PresenceChanged) if fact.now == "lost"]
        assert sorted(lost) == names[:4]


async def test_a_broker_that_restarts_takes_nobody_with_it(tmp_path: Path) -> None:
    names = [f"web-{n}" for n in range(8)]
    async with world(tmp_path, *names) as here, here.registry() as registry:
        agents = await here.agents(names)
        await agents[0].fall_silent()
        here.ground.server.restart()
        await until(lambda: registry.service.bus.connected)
        await until(lambda: ("lost", "silence") in here.story("web-0"), 20)
        lost = {fact.agent_id for fact in here.said(PresenceChanged) if fact.now == "lost"}
        assert lost == {"web-0"}


async def test_two_machines_with_one_id_are_both_visible_and_named_once(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry() as registry:
        one = await here.agent("web-1")
        other = await here.agent("web-1", boot=OTHER_BOOT)
        await until(lambda: here.said(IdentityConflict))
        [conflict] = here.said(IdentityConflict)
        assert (conflict.agent_id, conflict.known_as) == ("web-1", "web-1-clone-ffff")
        await asyncio.sleep(6 * INTERVAL)
        assert (await here.detail("web-1")).agent.epoch == one.epoch
        twin = (await here.detail("web-1-clone-ffff")).agent
        assert (twin.epoch, twin.conflict_with, twin.state) == (other.epoch, "web-1", "online")
        assert len(here.said(IdentityConflict)) == 1
        assert await here.history("web-1") == [("online", "hello")]
        await other.hello()
        assert other.welcome
        assert other.welcome.agent_id == "web-1-clone-ffff"
        assert registry.roll.aliases


async def test_an_agent_that_comes_and_goes_is_named_flapping_once_and_stable_once(tmp_path: Path) -> None:
    policy = {"flapping_window_seconds": 3.0, "hold_seconds": 0.05}
    async with world(tmp_path, "web-1") as here, here.registry(presence=policy):
        for _ in range(5):
            agent = await here.agent("web-1", hello=False)
            await until(lambda: _last_is(here, "online"))
            await agent.kill()
            await until(lambda: _last_is(here, "lost"))
        await until(lambda: here.said(AgentStable), 20)
        assert (len(here.said(AgentFlapping)), len(here.said(AgentStable))) == (1, 1)
        assert len(here.said(PresenceChanged)) == 5
        assert len(await here.history("web-1")) == 10


async def _last_is(here: World, state: str) -> bool:
    try:
        return (await here.history("web-1"))[-1][0] == state
    except AskFailed:
        return False


async def test_a_site_that_is_cut_off_is_one_event_and_its_return_another(tmp_path: Path) -> None:
    names = [f"ams-{n}" for n in range(12)]
    others = [f"fra-{n}" for n in range(3)]
    # Granted a minute, so that of fifteen agents on a busy machine none is late.
    async with world(tmp_path, *names, *others) as here, here.registry(presence={"interval_seconds": 60.0}):
        cut = await here.agents(names, labels={"site": "ams"}, **PATIENT)
        alone = await here.agents(others, labels={"site": "fra"}, **PATIENT)
        await until(lambda: len(here.said(PresenceChanged)) == 15)
        await asyncio.gather(*(agent.kill() for agent in cut[:8]))
        await alone[0].kill()
        await until(lambda: here.said(PartitionSuspected) and here.last_said("fra-0") == "lost")
        await until(lambda: _all_in(here, names[:8], "lost"))
        [suspected] = here.said(PartitionSuspected)
        assert suspected.site == "ams"
        lost = [fact.agent_id for fact in here.said(PresenceChanged) if fact.now == "lost"]
        assert "fra-0" in lost
        assert len(lost) <= 1 + 3  # what went before the third part was missing
        histories = [await here.history(name) for name in names[:8]]
        assert sum(("lost", "partition") in history for history in histories) >= 5
        await here.agents(names[:7], labels={"site": "ams"}, **PATIENT)
        await until(lambda: here.said(PartitionEnded))
        [ended] = here.said(PartitionEnded)
        assert ended.site == "ams"
        await until(lambda: _all_in(here, names[:7], "online"))


async def _all_in(here: World, names: list[str], state: str) -> bool:
    return {await here.state(name) for name in names} == {state}


async def test_two_registries_share_the_work_and_say_everything_once(tmp_path: Path) -> None:
    names = [f"web-{n}" for n in range(10)]
    async with world(tmp_path, *names) as here, here.registry(), here.registry():
        agents = [await here.agent("web-0", **PATIENT), *await here.agents(names[1:])]
        await asyncio.gather(agents[0].kill(), agents[1].leave(), agents[2].fall_silent())
        await until(lambda: ("lost", "disconnected") in here.story("web-0"))
        await until(lambda: ("left", "shutdown") in here.story("web-1"))
        await until(lambda: ("lost", "silence") in here.story("web-2"))
        await asyncio.sleep(4 * INTERVAL)
        for name in names:
            assert await here.history(name) == here.story(name)
        provisioner = await here.ground.bus("provisioner")
        kept = (await provisioner.client.jetstream().stream_info("FLEET")).state.messages
        assert kept == len(here.heard)
        assert [state for state, _ in here.story("web-0")] == ["online", "lost"]
        assert [state for state, _ in here.story("web-2")] == ["online", "late", "lost"]
        assert {name for name in names[3:] if len(here.story(name)) != 1} == set()


async def test_a_registry_that_is_replaced_by_another_leaves_no_gap(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1", "web-2") as here:
        async with here.registry():
            agents = await here.agents(["web-1", "web-2"], **PATIENT)
            async with here.registry():
                pass
            await agents[0].kill()
            await until(lambda: ("lost", "disconnected") in here.story("web-1"))
        assert [state for state, _ in here.story("web-2")] == ["online"]


async def test_an_unknown_agent_that_only_beats_is_online_and_asked_to_introduce_itself(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1", hello=False)
        await until(lambda: agent.introduced)
        assert await here.state("web-1") == "online"
        await asyncio.sleep(3 * INTERVAL)
        assert agent.introduced == 1


async def test_an_agent_that_lives_by_another_interval_is_told_the_granted_one(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        agent = await here.agent("web-1", interval=0.9)
        await until(lambda: agent.interval == INTERVAL)
        assert agent.welcome
        assert agent.welcome.deadline_seconds == 2.5 * INTERVAL


async def test_a_grown_fleet_is_granted_more_time_and_nobody_is_lost_by_it(tmp_path: Path) -> None:
    names = [f"web-{n}" for n in range(10)]
    async with (
        world(tmp_path, *names) as here,
        here.registry(presence={"budget_per_second": 10.0}) as registry,
    ):
        agents = await here.agents(names)
        await until(lambda: registry.grants.interval_seconds == pytest.approx(1.02, abs=0.05))
        await until(lambda: {agent.interval for agent in agents} == {registry.grants.interval_seconds})
        await asyncio.sleep(2)
        assert [fact for fact in here.said(PresenceChanged) if fact.now != "online"] == []


async def test_the_first_heartbeats_after_retiring_change_nothing_until_it_is_expected_again(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, "web-1") as here, here.registry():
        await here.agent("web-1")
        await here.ask(RetireAgent(occurred_at=now(), agent_id="web-1"))
        await asyncio.sleep(3 * INTERVAL)
        assert await here.state("web-1") == "retired"
        await here.ask(ExpectAgent(occurred_at=now(), agent_id="web-1"))
        await until(lambda: here.last_said("web-1") == "online")


async def test_a_key_that_is_not_an_agents_is_nobodys_presence(tmp_path: Path) -> None:
    async with world(tmp_path, "web-1") as here, here.registry() as registry:
        passing = await Bus.connect(here.ground.settings("operator"), first_try_seconds=5)
        await passing.close()
        await here.agent("web-1")
        await until(lambda: registry.connections and registry.connections.is_connected("web-1"))
        assert set(registry.connections._open) == {"web-1"}  # type: ignore[union-attr]
