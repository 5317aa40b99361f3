"""Nobody of a package's tree escapes its end, nobody else is hit, and no zombie stays."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from driver_grounds import ProcessGround

from host_agent.adapters import process_tree
from host_agent.adapters.process_driver import ProcessDriver
from host_agent.adapters.process_tree import Process
from host_agent.domain.package import Loaded
from muster_contracts.package.v1 import StopSignal
from muster_testing.wait import until

FOREVER = "while :; do sleep 0.1; done"
ESCAPES = {
    "a new session": f"setsid sh -c '{FOREVER}' & ",
    "a double fork": f"(sh -c '{FOREVER}' &) ; ",
    "a double fork into a new session": f"(setsid sh -c '{FOREVER}' &) ; ",
    "a new session without its environment": f"env -i /usr/bin/setsid /bin/sh -c '{FOREVER}' & ",
    "deaf to TERM": f"setsid sh -c \"trap '' TERM HUP INT; {FOREVER}\" & ",
    "held": f"setsid sh -c 'kill -STOP $$; {FOREVER}' & ",
}


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncGenerator[ProcessGround]:
    made = ProcessGround(tmp_path)
    yield made
    await made.clean_up()


async def printed(driver: ProcessDriver, package: Loaded, line: str, seconds: float = 10) -> None:
    async def is_there() -> bool:
        return line in (await driver.read_log(package, 1000, None))[0]

    await until(is_there, seconds)


async def tend_for_ever(driver: ProcessDriver) -> None:
    while True:
        await driver.tend()
        await asyncio.sleep(0.1)


def alive(process: Process) -> bool:
    status = process.status()
    return status is not None and status.alive


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
async def test_a_stop_ends_who_escaped(ground: ProcessGround, escape: str, *, adopted: bool) -> None:
    package, driver = ground.package(f"{escape} sleep 0.2; echo begun; {FOREVER}"), ground.driver()
    run = await driver.start(package)
    await printed(driver, package, "begun")
    if adopted:
        driver = ground.driver()
        found = await driver.find(package)
        assert found
        run = found
    held = driver._lives[package.name].held
    tree = [status.process for status in held.members()]
    assert len(tree) >= 2
    await driver.stop(package, run)
    assert not [process for process in tree if alive(process)]


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES.keys())
async def test_nobody_is_left_when_the_main_process_ends_by_itself(
    ground: ProcessGround, escape: str
) -> None:
    package = ground.package(f"{escape} sleep 0.2; echo begun; trap 'exit 3' USR1; {FOREVER}")
    driver = ground.driver()
    run = await driver.start(package)
    await printed(driver, package, "begun")
    tree = [status.process for status in driver._lives[package.name].held.members()]
    await driver.signal(package, run, StopSignal.USR1)
    assert (await driver.wait(package, run)).code == 3
    assert not [process for process in tree if alive(process)]


async def test_killing_the_process_group_alone_would_leave_escapees(ground: ProcessGround) -> None:
    """The twin: what supervisors do that know of groups only."""
    package = ground.package(f"setsid sh -c '{FOREVER}' & sleep 0.2; echo begun; {FOREVER}")
    driver = ground.driver()
    run = await driver.start(package)
    await printed(driver, package, "begun")
    held = driver._lives[package.name].held
    tree = [status.process for status in held.members()]
    assert run.pid
    held.close()
    os.killpg(run.pid, signal.SIGKILL)
    os.waitpid(run.pid, 0)  # noqa: ASYNC222  (it is dead at once)
    left = [process for process in tree if alive(process)]
    assert left
    for process in left:
        process.send(signal.SIGKILL)


async def test_what_an_agent_did_not_see_end_is_ended_before_the_next_start(ground: ProcessGround) -> None:
    package = ground.package(f"setsid sh -c '{FOREVER}' & sleep 0.2; echo begun; {FOREVER}")
    driver = ground.driver()
    run = await driver.start(package)
    await printed(driver, package, "begun")
    tree = [status.process for status in driver._lives[package.name].held.members()]
    driver.close()
    assert run.pid
    os.kill(run.pid, signal.SIGKILL)
    os.waitpid(run.pid, 0)  # noqa: ASYNC222  (it is dead at once)
    assert [process for process in tree if alive(process)]
    await ground.driver().start(package)
    assert not [process for process in tree if alive(process)]


async def test_the_kill_comes_at_the_deadline(ground: ProcessGround) -> None:
    package = ground.package(f"trap '' TERM; echo begun; {FOREVER}", stop={"timeout_seconds": 0.5})
    driver = ground.driver()
    run = await driver.start(package)
    await printed(driver, package, "begun")
    stopping = asyncio.create_task(driver.stop(package, run))
    done, _ = await asyncio.wait([stopping], timeout=0.4)
    assert not done
    assert (await stopping).code == -9


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_no_zombie_stays_of_double_forks_and_many_short_children(
    ground: ProcessGround, count: int
) -> None:
    script = f"i=0; while [ $i -lt {count} ]; do i=$((i+1)); (setsid true &) ; done; echo done"
    package, driver = ground.package(f"{script}; {FOREVER}"), ground.driver()
    run = await driver.start(package)
    # An agent tends all the time: who ends meanwhile does not wait for the others.
    tending = asyncio.create_task(tend_for_ever(driver))
    await printed(driver, package, "done", 100)
    tending.cancel()

    async def none() -> bool:
        await driver.tend()
        return zombies(run.pid or 0) == []

    await until(none)
    await driver.stop(package, run)
    await until(none)


def zombies(spare: int) -> list[int]:
    """Dead children of ours that are orphans of a package."""
    ours = os.getsid(0)
    return [
        pid
        for pid in process_tree.children(os.getpid())
        if pid != spare
        and (status := process_tree.look(pid))
        and status.state == "Z"
        and status.session != ours
    ]


async def test_exit_codes_of_other_children_are_not_stolen(ground: ProcessGround) -> None:
    driver = ground.driver()
    package = ground.package("i=0; while [ $i -lt 100 ]; do i=$((i+1)); (setsid true &) ; done; sleep 1000")
    await driver.start(package)
    for code in range(20):
        other = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}", start_new_session=True)
        await driver.tend()
        assert await other.wait() == code


def test_a_process_that_got_a_pid_later_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        status = process_tree.look(other.pid)
        assert status
        Process(other.pid, status.began - 1).send(signal.SIGKILL)
        assert Process(other.pid, status.began - 1).opened() is None
        assert alive(status.process)
        other.kill()


REUSE = """
import os, signal, subprocess, time
from host_agent.adapters import process_tree
from host_agent.adapters.process_tree import Process

def born(pid):
    for _ in range(200):
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(pid - 1))
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        if child.pid == pid:
            return child
        child.kill(); child.wait()
    raise SystemExit("cannot get the pid again")

first = born(4000)
known = process_tree.look(4000).process
first.kill(); first.wait()
time.sleep(0.03)
second = born(4000)
known.send(signal.SIGKILL)
assert process_tree.members("a-run", known) == [], "another's session was taken for ours"
assert second.poll() is None, "another process was killed"
os.kill(known.pid, signal.SIGKILL)
assert second.wait() == -9, "by its pid alone it would have been"
print("well")
"""


@pytest.mark.needs("root", "unshare")
def test_a_pid_that_was_forced_to_come_again_is_not_signalled() -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REUSE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("well\n", "")


async def test_an_end_is_noticed_at_once(ground: ProcessGround) -> None:
    package, driver = ground.package(FOREVER), ground.driver()
    run = await driver.start(package)
    ending = asyncio.create_task(driver.wait(package, run))
    await asyncio.sleep(0)
    began = time.monotonic()
    await driver.signal(package, run, StopSignal.KILL)
    assert (await ending).code == -9
    assert time.monotonic() - began < 10  # an agent that polls each second is seen by the benchmarks
    with contextlib.suppress(ProcessLookupError):
        os.kill(run.pid or 0, 0)
        pytest.fail("it was not buried")
