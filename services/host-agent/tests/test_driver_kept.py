"""The manager of packages over real drivers: what crashes is started again, what runs is taken over."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from driver_grounds import DriverGround
from packages_ground import EPOCH, Machine

from host_agent.adapters.probing import SystemProbe
from host_agent.domain.speaker import Speaker
from host_agent.packages import Packages
from muster_contracts.package.v1 import Package, PackageState
from muster_runtime import SystemClock
from muster_testing.wait import until

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def kept() -> Machine:
    return Machine()


def put(ground: DriverGround, kept: Machine, name: str, script: str, **more: Any) -> None:
    """Describe a package of this ground to the manager."""
    keys = ground.specify(name, script) | {"restart": {"delay_seconds": 0.05}} | more
    ground.packages.append(kept.files.put(name, **keys))


@asynccontextmanager
async def agent(ground: DriverGround, kept: Machine) -> AsyncGenerator[Packages]:
    """An agent with a driver of its own; at the end it is gone, and packages run on."""
    kept.files.forget_looks()
    driver, speaker = ground.driver(), Speaker("m1", EPOCH, "1")
    async with Packages(
        lambda _: driver, kept.files, kept.wishes, SystemProbe(), speaker, kept, SystemClock()
    ) as packages:
        yield packages


async def running(packages: Packages, name: str, not_pid: int | None = None) -> Package:
    """The package once it runs, as another process than ``not_pid``."""

    async def shown() -> Package | None:
        package = (await packages.detail(name)).package
        return package if package.state is PackageState.RUNNING and package.pid != not_pid else None

    package = await until(shown, seconds=20, every=0.05)
    assert package
    return package


async def test_what_crashes_is_started_again(ground: DriverGround, kept: Machine) -> None:
    put(ground, kept, ground.name(), FOREVER)
    name = ground.packages[0].name
    async with agent(ground, kept) as packages:
        before = await running(packages, name)
        assert before.pid
        os.kill(before.pid, signal.SIGKILL)
        after = await running(packages, name, not_pid=before.pid)
        assert after.restarts == 1


async def test_the_next_agent_takes_over_what_runs(ground: DriverGround, kept: Machine) -> None:
    put(ground, kept, ground.name(), FOREVER)
    name = ground.packages[0].name
    async with agent(ground, kept) as packages:
        before = await running(packages, name)
    async with agent(ground, kept) as packages:
        after = await running(packages, name)
        assert (after.pid, after.restarts) == (before.pid, 0)
        assert after.processes >= 1
        await packages.stop(name)
        assert packages.state(name)[0] is PackageState.STOPPED
    assert await ground.driver().find(ground.packages[0]) is None


async def test_what_was_held_is_still_held_for_the_next_agent(ground: DriverGround, kept: Machine) -> None:
    put(ground, kept, ground.name(), FOREVER)
    name = ground.packages[0].name
    async with agent(ground, kept) as packages:
        await running(packages, name)
        await packages.pause(name)
        run = await ground.driver().find(ground.packages[0])
        assert run
        await until(lambda: ground.driver().is_paused(ground.packages[0], run))
    async with agent(ground, kept) as packages:
        await until(lambda: packages.state(name)[0] is PackageState.PAUSED)
        await packages.resume(name)
        await running(packages, name)


async def test_a_change_of_its_file_makes_other_processes(ground: DriverGround, kept: Machine) -> None:
    name = ground.name()
    put(ground, kept, name, FOREVER)
    async with agent(ground, kept) as packages:
        before = await running(packages, name)
        put(ground, kept, name, FOREVER, version="2")
        packages.look()
        await running(packages, name, not_pid=before.pid)
