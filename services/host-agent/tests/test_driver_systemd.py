"""What only units do, and how systemd's refusals are told."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from driver_grounds import SystemdGround

from host_agent.adapters import cgroup_processes, commands, pidfd
from host_agent.adapters.systemd_driver import SystemdDriver
from host_agent.domain.package import Loaded, Run
from host_agent.ports import CannotRun
from muster_contracts.package.specification import Specification
from muster_contracts.package.v1 import StopSignal
from muster_testing.systemd_machine import SystemdMachine
from muster_testing.wait import until


def package(unit: str = "web.service") -> Loaded:
    spec = Specification.model_validate({"name": "web", "driver": "systemd", "unit": unit})
    return Loaded(spec, Path("/etc/muster/packages/web/package.json"), "d")


def saying(text: str, code: int = 1) -> SystemdDriver:
    """A driver whose systemctl only complains."""
    script = f"import sys; sys.stderr.write({text!r}); sys.exit({code})"
    return SystemdDriver((sys.executable, "-c", script))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("System has not been booted with systemd as init system (PID 1). Can't operate.", "no-driver"),
        ("Failed to connect to bus: No such file or directory", "no-driver"),
        ("Failed to connect to bus: Permission denied", "not-permitted"),
        ("Failed to start web.service: Access denied", "not-permitted"),
        ("Failed to start web.service: Interactive authentication required.", "not-permitted"),
        ("Failed to start web.service: Unit web.service not found.", "no-unit"),
        ("Job for web.service failed because a timeout was exceeded.", "failed"),
    ],
)
async def test_what_systemctl_says_becomes_a_reason_and_names_the_unit(text: str, reason: str) -> None:
    with pytest.raises(CannotRun, match=r"web\.service of package web") as told:
        await saying(text).find(package())
    assert told.value.reason == reason


async def test_a_machine_without_systemd_is_told_to_use_another_driver() -> None:
    with pytest.raises(CannotRun, match="use another driver") as told:
        await SystemdDriver(("/nowhere/systemctl",)).find(package())
    assert told.value.reason == "no-driver"


async def test_a_command_that_hangs_is_killed() -> None:
    with pytest.raises(TimeoutError):
        await commands.run(sys.executable, "-c", "import time; time.sleep(1000)", seconds=0.2)


async def test_a_pid_that_has_another_owner_by_now_is_not_waited_for() -> None:
    assert await pidfd.ended(os.getpid(), lambda: False)


async def test_a_pid_whose_owner_is_right_is_waited_for() -> None:
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    ended = asyncio.create_task(pidfd.ended(process.pid, lambda: True))
    assert process.stdin
    process.stdin.close()
    assert await ended
    await process.wait()


def test_a_group_that_does_not_exist_has_no_processes() -> None:
    assert cgroup_processes.processes("/nowhere") == []
    assert cgroup_processes.processes("/") == []
    assert cgroup_processes.here(1, "") is None


@pytest.fixture
async def ground(machine: SystemdMachine, tmp_path: Path) -> AsyncGenerator[SystemdGround]:
    made = SystemdGround(tmp_path, machine, user=False)
    yield made
    await made.clean_up()


@pytest.mark.needs("systemd-machine")
async def test_a_unit_named_like_an_option_is_a_unit(ground: SystemdGround) -> None:
    plain = ground.unit("[Service]\nExecStart=/bin/true")
    # The specification refuses such a name; this is the second guard.
    strange = replace(plain, spec=plain.spec.model_copy(update={"unit": "--version.service"}))
    with pytest.raises(CannotRun) as told:
        await ground.driver().start(strange)
    assert told.value.reason == "no-unit"


@pytest.mark.needs("systemd-machine")
def test_without_a_guard_it_would_be_an_option(machine: SystemdMachine) -> None:
    with pytest.raises(RuntimeError, match="unrecognized option"):
        machine.run("systemctl", "start", "--version.service")


@pytest.mark.needs("systemd-machine")
async def test_a_unit_that_systemd_starts_again_has_ended_and_runs_anew(ground: SystemdGround) -> None:
    one = ground.unit("[Service]\nRestart=always\nRestartSec=0\nExecStart=/bin/sleep 1000")
    driver = ground.driver()
    run = await driver.start(one)
    end = asyncio.create_task(driver.wait(one, run))
    await driver.signal(one, run, StopSignal.KILL)
    assert (await end).code in {-9, None}
    found = await until(lambda: driver.find(one))
    assert found
    assert found.id != run.id

    await driver.stop(one, found)
    assert await driver.find(one) is None


@pytest.mark.needs("systemd-machine")
async def test_a_unit_with_its_own_way_to_stop_is_stopped_that_way(ground: SystemdGround) -> None:
    stop = "/bin/sh -c 'echo by its own way; kill -KILL $MAINPID'"
    one = ground.unit(f"[Service]\nExecStart=/bin/sleep 1000\nExecStop={stop}")
    driver = ground.driver()
    await driver.stop(one, await driver.start(one))

    async def printed() -> bool:
        return (await driver.read_log(one, 10, None))[0] == ["by its own way"]

    await until(printed)


@pytest.mark.needs("systemd-machine")
async def test_a_unit_whose_user_does_not_exist_is_told_so(ground: SystemdGround) -> None:
    one = ground.unit("[Service]\nUser=nobody-at-all\nExecStart=/bin/sleep 1000")
    with pytest.raises(CannotRun, match="User=") as told:
        await ground.driver().start(one)
    assert told.value.reason == "no-user"


@pytest.mark.needs("systemd-machine")
async def test_an_offset_beyond_a_journal_that_was_begun_anew_reads_from_its_start(
    ground: SystemdGround,
) -> None:
    one = ground.package("echo here; sleep 1000")
    driver = ground.driver()
    await driver.start(one)

    async def printed() -> list[str]:
        return (await driver.read_log(one, 10, None))[0]

    assert await until(printed) == ["here"]
    lines, offset, _ = await driver.read_log(one, 10, 1 << 40)
    assert lines == ["here"]
    assert offset < 1 << 40


@pytest.mark.needs("systemd-machine")
async def test_a_unit_that_runs_after_its_file_was_removed_is_still_found_and_stopped(
    ground: SystemdGround, machine: SystemdMachine
) -> None:
    one = ground.package("sleep 1000")
    driver = ground.driver()
    run = await driver.start(one)
    machine.run("rm", f"/etc/systemd/system/{one.spec.unit}")
    machine.run("systemctl", "daemon-reload")
    found = await driver.find(one)
    assert found
    assert found.id == run.id
    await driver.stop(one, found)
    assert await driver.find(one) is None


@pytest.mark.needs("systemd-machine")
async def test_a_run_of_before_uses_nothing_and_is_not_signalled(ground: SystemdGround) -> None:
    one = ground.package("sleep 1000")
    driver = ground.driver()
    run = await driver.start(one)
    before = Run("0" * 32, run.started_at, run.pid, "")
    assert (await driver.usage(one, before)).pids == ()
    with pytest.raises(CannotRun):
        await driver.signal(one, before, StopSignal.KILL)
    assert await driver.find(one)
