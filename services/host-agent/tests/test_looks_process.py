"""Looks at processes: that the main one is there and goes on, and what all of them use."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driver_grounds import DriverGround, ProcessGround
from looks_ground import check, context
from memory_driver import MemoryDriver

from host_agent.adapters.looks import make_look
from host_agent.adapters.looks.process import ProcessLook
from host_agent.domain.look import Seen
from host_agent.domain.package import Loaded, Run, Usage
from host_agent.domain.processes import Load, judge
from host_agent.ports import Driver
from muster_contracts.health.v1 import Health
from muster_contracts.package.specification import ProcessCheck
from muster_testing.wait import until

FOREVER = "while :; do sleep 0.1; done"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[ProcessGround]:
    """Plain processes; nothing of them is left at the end."""
    made = ProcessGround(tmp_path)
    yield made
    await made.clean_up()


async def looked(package: Loaded, driver: Driver, run: Run | None, **limits: Any) -> Seen:
    return await make_look(check("process", **limits), context(package, driver, run)).look()


async def test_a_package_that_runs_is_well_and_one_that_is_held_is_not(
    ground: DriverGround, driver: Driver
) -> None:
    package = ground.package(FOREVER)
    run = await driver.start(package)
    assert (await looked(package, driver, run)).health is Health.OK
    await driver.stop(package, run)
    assert (await looked(package, driver, run)).reason == "gone"


async def test_a_main_process_that_is_stopped_is_critical(here: ProcessGround) -> None:
    package, driver = here.package("exec sleep 600"), here.driver()
    run = await driver.start(package)
    assert run.pid
    os.kill(run.pid, signal.SIGSTOP)

    async def stopped() -> bool:
        return (await looked(package, driver, run)).reason == "stopped"

    await until(stopped)
    os.kill(run.pid, signal.SIGCONT)
    await until(lambda: _is_well(package, driver, run))


async def _is_well(package: Loaded, driver: Driver, run: Run) -> bool:
    return (await looked(package, driver, run)).health is Health.OK


async def test_a_package_that_does_not_run_is_critical(here: ProcessGround) -> None:
    assert (await looked(here.package(FOREVER), here.driver(), None)).reason == "gone"


async def test_a_zombie_is_critical(here: ProcessGround) -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})  # noqa: ASYNC221  (it returns at once)
    await until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    found = await looked(here.package(FOREVER), Fixed(Usage()), Run("r", 0, child, ""))
    os.waitpid(child, 0)  # noqa: ASYNC222  (it is dead)
    assert (found.health, found.reason) == (Health.CRITICAL, "zombie")


async def test_open_files_of_the_main_process_are_counted(here: ProcessGround) -> None:
    package, driver = here.package("exec 7</dev/null 8</dev/null; exec sleep 600"), here.driver()
    run = await driver.start(package)

    async def told() -> bool:
        found = await looked(package, driver, run, files_warning=4, files_critical=100)
        return (found.health, found.reason) == (Health.WARNING, "files")

    await until(told)


class Fixed(MemoryDriver):
    """A driver that says what a test wants."""

    def __init__(self, *usages: Usage) -> None:
        super().__init__()
        self.usages = list(usages)

    async def usage(self, package: Loaded, run: Run) -> Usage:
        return self.usages.pop(0)


async def test_the_cpu_is_that_since_the_look_before_and_of_one_run(here: ProcessGround) -> None:
    me, times = os.getpid(), iter([0.0, 10.0, 20.0, 30.0])
    driver = Fixed(*(Usage((me,), 1, seconds) for seconds in (100.0, 109.0, 108.0, 200.0)))
    run = Run("one", 0, me, "")
    runs = iter([run, run, run, replace(run, id="two")])
    told = context(here.package(FOREVER), driver)
    look = ProcessLook(
        ProcessCheck(kind="process", cpu_critical_percent=80),
        replace(told, run=lambda: next(runs)),
        lambda: next(times),
    )
    assert [(await look.look()).reason for _ in range(4)] == ["ok", "cpu", "ok", "ok"]


@pytest.mark.parametrize("limit", ["memory_critical_bytes", "cpu_warning_percent", "files_warning"])
async def test_what_cannot_be_seen_is_unknown_where_it_is_limited(here: ProcessGround, limit: str) -> None:
    package = here.loaded("far", {"driver": "docker", "image": "any"})
    driver = Fixed(Usage(), Usage())
    run = driver.start_by_hand(package)
    assert (await looked(package, driver, run)).health is Health.OK
    found = await looked(package, driver, run, **{limit: 1})
    assert (found.health, found.reason) == (Health.UNKNOWN, "not-visible")
    here.packages.clear()


def test_the_worst_limit_decides_and_all_are_told() -> None:
    limits = ProcessCheck(
        kind="process", memory_warning_bytes=1 << 20, cpu_critical_percent=50, files_warning=10
    )
    assert judge(limits, Load(3, 1 << 20, 50, 10)) == Seen(
        Health.OK, "ok", "3 processes, 1.0 MiB of memory, 50 % of a CPU, 10 open files"
    )
    assert judge(limits, Load(3, 2 << 20, 60, 11)) == Seen(
        Health.CRITICAL,
        "cpu",
        "60 % of a CPU, more than 50 % of a CPU; 2.0 MiB of memory, more than 1.0 MiB of memory; "
        "11 open files, more than 10 open files",
    )


async def test_memory_of_the_whole_tree_counts(here: ProcessGround) -> None:
    package, driver = here.package("sleep 600 & sleep 600 & wait"), here.driver()
    run = await driver.start(package)

    async def grown() -> bool:
        found = await looked(package, driver, run, memory_warning_bytes=1)
        return found.reason == "memory" and len((await driver.usage(package, run)).pids) == 3

    await until(grown)
    await asyncio.sleep(0)
