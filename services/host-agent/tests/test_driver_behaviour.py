"""What every driver does, told once: on processes, on systemd units, on containers."""

import asyncio
from pathlib import Path

import pytest
from driver_grounds import DriverGround

from host_agent.domain.package import Loaded
from host_agent.ports import CannotRun, Driver
from muster_contracts.package.v1 import StopSignal
from muster_testing.wait import until

FOREVER = "while :; do sleep 0.1; done"
WELL_BEHAVED = f"trap 'echo bye; exit 0' TERM; echo begun; {FOREVER}"
STUBBORN = f"trap '' TERM; echo begun; {FOREVER}"
HEARING = f"trap 'echo heard' USR1; echo begun; {FOREVER}"
TICKING = "while :; do echo tick; sleep 0.05; done"


async def printed(driver: Driver, package: Loaded, line: str) -> None:
    """Return once the package has printed a line."""

    async def is_there() -> bool:
        return line in (await driver.read_log(package, 1000, None))[0]

    await until(is_there, every=0.05)


async def test_a_start_runs_it_and_says_who_it_is(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(WELL_BEHAVED)
    run = await driver.start(package)
    await printed(driver, package, "begun")
    assert (run.adopted, run.digest) == (False, package.digest)
    assert run.id
    assert run.pid
    assert alive(run.pid)


async def test_starting_what_runs_finds_it(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(WELL_BEHAVED)
    first = await driver.start(package)
    second = await driver.start(package)
    assert (second.id, second.pid, second.adopted) == (first.id, first.pid, True)


async def test_another_driver_finds_the_same_run_and_the_same_pid(
    ground: DriverGround, driver: Driver
) -> None:
    package = ground.package(WELL_BEHAVED)
    run = await driver.start(package)
    found = await ground.driver().find(package)
    assert found
    assert (found.id, found.pid, found.adopted) == (run.id, run.pid, True)
    assert abs(found.started_at - run.started_at) < 1


async def test_what_was_never_started_is_not_found(ground: DriverGround, driver: Driver) -> None:
    assert await driver.find(ground.package(WELL_BEHAVED)) is None


@pytest.mark.parametrize("code", [0, 3])
async def test_its_exit_code_is_told(ground: DriverGround, driver: Driver, code: int) -> None:
    package = ground.package(f"exit {code}")
    run = await driver.start(package)
    assert (await driver.wait(package, run)).code == code
    assert await driver.find(package) is None


async def test_the_signal_that_killed_it_is_told(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(WELL_BEHAVED)
    run = await driver.start(package)
    end = asyncio.create_task(driver.wait(package, run))
    await driver.signal(package, run, StopSignal.KILL)
    assert (await end).code == -9


async def test_an_adopted_run_is_waited_for_like_a_started_one(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(WELL_BEHAVED)
    await driver.start(package)
    other = ground.driver()
    found = await other.find(package)
    assert found
    end = asyncio.create_task(other.wait(package, found))
    await driver.signal(package, found, StopSignal.KILL)
    assert not (await end).well


async def test_a_stop_is_by_its_signal_so_that_it_can_say_goodbye(
    ground: DriverGround, driver: Driver
) -> None:
    package = ground.package(WELL_BEHAVED)
    run = await driver.start(package)
    await printed(driver, package, "begun")
    assert (await driver.stop(package, run)).code == 0
    await printed(driver, package, "bye")
    assert await driver.find(package) is None


async def test_a_stop_signal_of_its_own_is_sent(ground: DriverGround, driver: Driver) -> None:
    script = f"trap 'echo quit; exit 0' INT; echo begun; {FOREVER}"
    package = ground.package(script, stop={"signal": "INT", "timeout_seconds": 10})
    run = await driver.start(package)
    await printed(driver, package, "begun")
    assert (await driver.stop(package, run)).code == 0
    await printed(driver, package, "quit")


async def test_who_ignores_the_stop_signal_is_killed(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(STUBBORN, stop={"timeout_seconds": 0.3})
    run = await driver.start(package)
    await printed(driver, package, "begun")
    assert (await driver.stop(package, run)).code == -9
    assert await driver.find(package) is None


async def test_a_stop_ends_the_whole_tree(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(f"setsid sh -c '{FOREVER}' & {STUBBORN}", stop={"timeout_seconds": 0.3})
    run = await driver.start(package)
    await printed(driver, package, "begun")
    pids = (await driver.usage(package, run)).pids
    assert len(pids) >= 2
    await driver.stop(package, run)
    await until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


async def test_stopping_what_is_gone_returns(ground: DriverGround, driver: Driver) -> None:
    package = ground.package("exit 3")
    run = await driver.start(package)
    await driver.wait(package, run)
    assert (await driver.stop(package, run)).code == 3


async def test_a_paused_package_is_stopped_too(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(WELL_BEHAVED)
    run = await driver.start(package)
    await printed(driver, package, "begun")
    await driver.pause(package, run)
    await driver.stop(package, run)
    assert await driver.find(package) is None


async def test_a_pause_holds_it_and_a_resume_lets_it_go_on(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(TICKING)
    run = await driver.start(package)
    await printed(driver, package, "tick")
    await driver.pause(package, run)
    await driver.pause(package, run)
    await until(lambda: driver.is_paused(package, run))
    _, offset, _ = await driver.read_log(package, 1, None)
    await asyncio.sleep(0.3)  # six ticks long, nothing may happen
    assert await driver.read_log(package, 1, offset) == ([], offset, False)

    await driver.resume(package, run)
    await driver.resume(package, run)
    await until(lambda: after(driver, package, offset))
    assert not await driver.is_paused(package, run)


async def after(driver: Driver, package: Loaded, offset: int) -> list[str]:
    return (await driver.read_log(package, 10, offset))[0]


async def test_who_was_paused_before_the_agent_died_is_known_to_be(
    ground: DriverGround, driver: Driver
) -> None:
    package = ground.package(WELL_BEHAVED)
    await driver.pause(package, await driver.start(package))
    other = ground.driver()
    found = await other.find(package)
    assert found
    await until(lambda: other.is_paused(package, found))


async def test_a_signal_reaches_it(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(HEARING)
    run = await driver.start(package)
    await printed(driver, package, "begun")
    await driver.signal(package, run, StopSignal.USR1)
    await printed(driver, package, "heard")


async def test_a_signal_to_what_has_ended_is_refused(ground: DriverGround, driver: Driver) -> None:
    package = ground.package("exit 0")
    run = await driver.start(package)
    await driver.wait(package, run)
    with pytest.raises(CannotRun, match=package.name):
        await driver.signal(package, run, StopSignal.HUP)


async def test_what_it_uses_is_plausible(ground: DriverGround, driver: Driver) -> None:
    package = ground.package("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000")
    run = await driver.start(package)
    await printed(driver, package, "done")
    usage = await driver.usage(package, run)
    assert run.pid in usage.pids
    assert usage.memory_bytes
    assert 50_000 < usage.memory_bytes < 50_000_000
    assert usage.cpu_seconds is not None
    assert 0 < usage.cpu_seconds < 30


async def test_its_last_lines_are_read_and_then_those_that_follow(
    ground: DriverGround, driver: Driver
) -> None:
    package = ground.package(
        f"for i in 1 2 3 4 5; do echo line $i; done; trap 'echo later; echo more' USR1; echo begun; {FOREVER}"
    )
    run = await driver.start(package)
    await printed(driver, package, "begun")
    lines, offset, truncated = await driver.read_log(package, 3, None)
    assert (lines, truncated) == (["line 4", "line 5", "begun"], True)

    await driver.signal(package, run, StopSignal.USR1)
    await printed(driver, package, "more")
    assert (await driver.read_log(package, 100, offset))[0] == ["later", "more"]


async def test_a_log_read_page_by_page_is_whole(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(f"i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i; done; echo end; {FOREVER}")
    await driver.start(package)
    await printed(driver, package, "end")
    offset, truncated, read = 0, True, []
    while truncated:
        lines, offset, truncated = await driver.read_log(package, 60, offset)
        read += lines
    assert read == [*(str(number) for number in range(1, 501)), "end"]


async def test_long_and_strange_lines_come_whole(ground: DriverGround, driver: Driver) -> None:
    package = ground.package(
        "a=0123456789; for i in 1 2 3 4 5 6 7 8 9 10 11; do a=$a$a; done; echo $a; "
        "printf 'caf\\303\\251 \\377\\n'; echo end; while :; do sleep 0.1; done"
    )
    await driver.start(package)
    await printed(driver, package, "end")
    lines, _, _ = await driver.read_log(package, 10, None)
    assert lines == ["0123456789" * 2048, "café \ufffd", "end"]


async def test_the_log_of_the_life_before_is_still_there(ground: DriverGround, driver: Driver) -> None:
    package = ground.package("echo once; sleep 0.3; exit 3")
    run = await driver.start(package)
    await driver.wait(package, run)
    await driver.wait(package, await driver.start(package))

    async def both() -> bool:
        return (await driver.read_log(package, 10, None))[0] == ["once", "once"]

    await until(both)


async def test_a_new_start_is_another_run(ground: DriverGround, driver: Driver) -> None:
    package = ground.package("exit 3")
    first = await driver.start(package)
    await driver.wait(package, first)
    second = await driver.start(package)
    assert second.id != first.id


async def test_it_can_be_started_again_and_again(ground: DriverGround, driver: Driver) -> None:
    package = ground.package("exit 3")
    codes = [(await driver.wait(package, await driver.start(package))).code for _ in range(6)]
    assert codes == [3] * 6


async def test_what_is_missing_is_told(ground: DriverGround, driver: Driver) -> None:
    package = ground.absent()
    with pytest.raises(CannotRun, match=package.name) as told:
        await driver.start(package)
    assert told.value.reason == ground.missing
    assert ground.traces(package) == ""


async def test_a_start_that_fails_leaves_nothing_behind(ground: DriverGround, driver: Driver) -> None:
    package = ground.broken()
    with pytest.raises(CannotRun, match=package.name) as told:
        await driver.start(package)
    assert told.value.reason == "no-executable"
    assert ground.traces(package) == ""
    assert await driver.find(package) is None


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.1])
async def test_a_start_that_is_called_off_leaves_nothing_running(
    ground: DriverGround, driver: Driver, seconds: float
) -> None:
    package = ground.package(WELL_BEHAVED)
    try:
        run = await asyncio.wait_for(driver.start(package), seconds)
    except TimeoutError:
        assert await driver.find(package) is None
    else:  # a fast machine had started it
        await driver.stop(package, run)
