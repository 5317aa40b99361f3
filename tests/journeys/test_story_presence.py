"""How hosts come and go: each story is told on a Stage in fake time, and on a real broker and Redis."""

from pathlib import Path

import pytest
from story_fleets import Fleet, MemoryFleet, RealFleet

from muster_contracts.agent.v1 import LeaveReason
from muster_contracts.fleet.v1 import DefineGroup, Presence
from muster_testing.wait import until

HOSTS = ("web-1", "web-2", "db-1")
"""Who may appear in a story: a real broker has to know them beforehand."""
ONLINE, LATE, LOST, LEFT = Presence.ONLINE, Presence.LATE, Presence.LOST, Presence.LEFT

in_fake_time = pytest.mark.looptime(noop_cycles=1)


@pytest.fixture(params=[pytest.param("memory", marks=in_fake_time), "real"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    """A fleet not opened yet: it opens in the time of its story."""
    return MemoryFleet() if request.param == "memory" else RealFleet(tmp_path, *HOSTS)


async def test_a_host_that_says_hello_is_online_and_lives_by_the_granted_interval(fleet: Fleet) -> None:
    async with fleet:
        host = await fleet.host("web-1")
        assert host.agent.interval != fleet.interval

        await fleet.hears("web-1", ONLINE)
        await until(lambda: host.agent.counts.welcomes == 1)

        assert host.agent.interval == fleet.interval
        assert await fleet.state("web-1") == ONLINE


async def test_a_silent_host_is_late_then_lost_and_returns_with_its_next_heartbeat(fleet: Fleet) -> None:
    async with fleet:
        host = await fleet.host("web-1")
        await fleet.hears("web-1", ONLINE)
        await until(lambda: host.agent.interval == fleet.interval)

        await host.fall_silent()
        await fleet.hears("web-1", LOST)
        assert await fleet.state("web-1") == LOST

        host.speak()
        await fleet.hears("web-1", ONLINE)
        assert fleet.news("web-1") == [ONLINE, LATE, LOST, ONLINE]
        assert await fleet.history("web-1") == [ONLINE, LATE, LOST, ONLINE]
        assert host.agent.counts.hellos == 1


async def test_who_said_goodbye_has_left_and_is_never_lost(fleet: Fleet) -> None:
    async with fleet:
        host = await fleet.host("web-1")
        await fleet.hears("web-1", ONLINE)

        await host.leave(LeaveReason.SHUTDOWN)
        await fleet.hears("web-1", LEFT)
        await fleet.pass_intervals(3)

        assert await fleet.state("web-1") == LEFT
        assert fleet.news("web-1") == [ONLINE, LEFT]


async def test_a_host_is_found_by_its_labels_and_by_its_group(fleet: Fleet) -> None:
    async with fleet:
        roles = {"web-1": "web", "web-2": "web", "db-1": "db"}
        hosts = [await fleet.host(name, role=role) for name, role in roles.items()]
        await until(lambda: all(host.agent.counts.welcomes for host in hosts))

        await fleet.ask(DefineGroup(occurred_at=fleet.clock.now(), name="front", selector="role=web"))

        assert await fleet.found("role=db") == ["db-1"]
        assert await fleet.found("group=front") == ["web-1", "web-2"]
        assert await fleet.found("group!=front") == ["db-1"]


async def test_history_tells_in_order_what_became_of_a_host(fleet: Fleet) -> None:
    async with fleet:
        for reason in (LeaveReason.RESTART, LeaveReason.UPGRADE):
            host = await fleet.host("web-1")
            await fleet.hears("web-1", ONLINE)
            await host.leave(reason)
            await fleet.hears("web-1", LEFT)

        assert await fleet.history("web-1") == [ONLINE, LEFT, ONLINE, LEFT]


# Only fake time can tell these.


@in_fake_time
async def test_an_hour_of_heartbeats_changes_nothing() -> None:
    async with MemoryFleet() as fleet:
        host = await fleet.host("web-1")
        await fleet.pass_intervals(60)
        assert 60 <= host.agent.counts.heartbeats <= 64
        assert await fleet.history("web-1") == [ONLINE]


@in_fake_time
async def test_an_hour_of_silence_is_one_loss() -> None:
    async with MemoryFleet() as fleet:
        host = await fleet.host("web-1")
        await fleet.hears("web-1", ONLINE)
        await host.fall_silent()
        await fleet.pass_intervals(60)
        assert fleet.news("web-1") == [ONLINE, LATE, LOST]
