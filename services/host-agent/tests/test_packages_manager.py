"""The manager of packages: what runs is what is wanted; one package's trouble is no other's."""

import asyncio
from itertools import pairwise

import pytest
from packages_ground import Machine, settle

from host_agent.ports import CannotRun
from host_agent.troubles import Failed, Refused
from muster_contracts.package.v1 import PackageState, StopSignal

pytestmark = pytest.mark.looptime

S = PackageState


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


async def test_what_is_described_is_started_and_said() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        await settle()
        assert machine.state("web") is S.RUNNING
        assert machine.changes("web") == ["starting", "running"]
        assert machine.said[0].was is None


async def test_what_is_not_enabled_waits_for_a_command() -> None:
    machine = Machine()
    machine.files.put("web", enabled=False)
    async with machine.agent() as packages:
        await settle()
        assert machine.state("web") is S.STOPPED
        await packages.start("web")
        assert machine.state("web") is S.RUNNING


async def test_whoever_ends_at_once_is_restarted_at_doubling_pauses_up_to_thirty_seconds() -> None:
    machine = Machine()
    machine.files.put("flaky")
    machine.driver.lasts["flaky"] = 0.0
    async with machine.agent():
        await settle(200)
    pauses = gaps(machine.driver.times("flaky"))
    assert pauses[:9] == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30], rel=0.1)


async def test_a_crash_loop_is_said_once_it_is_one() -> None:
    machine = Machine()
    machine.files.put("flaky", restart={"crash_loop_after": 3})
    machine.driver.lasts["flaky"] = 0.0
    async with machine.agent() as packages:
        await settle(3)
        assert machine.state("flaky") is S.CRASH_LOOP
        (shown, _) = await packages.page()
        assert (shown[0].problem or "").endswith(
            "3 times in a row; see what it printed with: muster packages logs flaky"
        )
    ends = [state for state in machine.changes("flaky") if state != "starting"]
    assert ends == ["backoff", "backoff", "crash_loop"]


async def test_a_stable_run_is_forgiven_and_restarted_at_once() -> None:
    machine = Machine()
    machine.files.put("web")
    machine.driver.lasts["web"] = 0.0
    async with machine.agent():
        await settle(8)  # four short runs, the next start is due at 7.5
        machine.driver.lasts["web"] = 10.0
        await settle(60)
    times = machine.driver.times("web")
    assert gaps(times)[:4] == pytest.approx([0.5, 1, 2, 4], rel=0.1)
    assert gaps(times)[5:8] == pytest.approx([10, 10, 10], rel=0.001)


async def test_after_a_stable_run_the_pauses_begin_anew() -> None:
    machine = Machine()
    machine.files.put("web", restart={"stable_seconds": 5})
    machine.driver.lasts["web"] = 0.0
    async with machine.agent():
        await settle(3.4)
        machine.driver.lasts["web"] = 5.0
        await settle(5)  # the stable run began at 3.5 and ends at 8.5
        machine.driver.lasts["web"] = 0.0
        await settle(20)
    times = machine.driver.times("web")
    assert gaps(times)[:7] == pytest.approx([0.5, 1, 2, 5, 0.5, 1, 2], rel=0.1)


async def test_a_failing_dependency_blocks_its_dependents_once() -> None:
    machine = Machine()
    machine.files.put("a")
    machine.files.put("b", depends_on=["a"])
    machine.files.put("c", depends_on=["b"])
    machine.driver.lasts["b"] = 0.1
    async with machine.agent() as packages:
        await settle(300)
        assert machine.state("a") is S.RUNNING
        assert machine.state("b") is S.CRASH_LOOP
        assert machine.changes("c") == ["starting", "blocked"]
        assert machine.driver.times("c") == []
        (shown, _) = await packages.page()
        assert (
            shown[2].problem == "cannot start package c: it depends on b, which is starting again and again"
        )

        del machine.driver.lasts["b"]
        await settle(40)
        assert machine.state("c") is S.RUNNING
        assert machine.changes("c") == ["starting", "blocked", "starting", "running"]


async def test_a_dependency_that_cannot_be_started_blocks_once_too() -> None:
    machine = Machine()
    machine.files.put("b")
    machine.files.put("c", depends_on=["b"])
    machine.driver.broken["b"] = CannotRun("cannot start package b: no such file", "no-executable")
    async with machine.agent():
        await settle(300)
        assert machine.changes("b") == ["starting", "failed"]
        assert machine.changes("c") == ["starting", "blocked"]


async def test_a_missing_dependency_is_named_and_waited_for() -> None:
    machine = Machine()
    machine.files.put("web", depends_on=["db"])
    async with machine.agent() as packages:
        await settle()
        (shown, _) = await packages.page()
        assert shown[0].state is S.BLOCKED
        assert shown[0].problem == (
            "cannot start package web: there is no package db (/x/web/package.json: key 'depends_on')"
        )
        machine.files.put("db")
        await settle(2)
        assert machine.state("web") is S.RUNNING


async def test_dependents_start_when_what_they_need_is_ready_and_no_earlier() -> None:
    machine = Machine()
    machine.files.put("db", ready={"tcp_port": 5432})
    machine.files.put("web", depends_on=["db"])
    async with machine.agent():
        await settle(5)
        assert machine.driver.times("web") == []
        machine.probe.ports.add(5432)
        await settle()
        assert machine.state("web") is S.RUNNING


async def test_whoever_is_not_ready_in_time_is_stopped_and_has_failed() -> None:
    machine = Machine()
    machine.files.put("db", ready={"file": "up", "timeout_seconds": 3})
    async with machine.agent():
        await settle(3.2)
        assert machine.state("db") is S.FAILED
        assert machine.driver.stops == ["db"]
        assert machine.said[-1].text == (
            "cannot start package db: there is no new file /x/db/up within 3 s "
            "(/x/db/package.json: key 'ready')"
        )


async def test_the_trouble_of_one_package_delays_no_other() -> None:
    machine = Machine()
    machine.slow_voice = 5.0
    for number in range(20):
        machine.files.put(f"good{number}")
    machine.files.put("loop")
    machine.files.put("slow")
    machine.driver.lasts["loop"] = 0.0
    machine.driver.slow["slow"] = 1000.0
    async with machine.agent():
        await settle(20)
        for number in range(20):
            machine.driver.end(f"good{number}")
        await settle(0.001)
        for number in range(20):
            assert gaps(machine.driver.times(f"good{number}"))[0] == pytest.approx(20, abs=0.001)


async def test_a_stop_is_refused_while_dependents_run_and_cascades_when_asked() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("api", depends_on=["db"])
    machine.files.put("web", depends_on=["api"])
    async with machine.agent() as packages:
        await settle(2)
        with pytest.raises(Refused, match="package db: api, web depend on it and run; stop them") as refused:
            await packages.stop("db")
        with pytest.raises(Refused, match="package api: web depends on it and runs; stop it first, or"):
            await packages.stop("api")
        assert refused.value.reason == "dependents"
        assert machine.driver.stops == []
        await packages.stop("db", cascade=True)
        assert machine.driver.stops == ["web", "api", "db"]
        assert [machine.state(name) for name in ("db", "api", "web")] == [S.STOPPED] * 3


async def test_a_stop_holds_over_restarts_of_the_agent_and_a_start_takes_it_back() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        await packages.stop("web")
    async with machine.agent() as packages:
        await settle(5)
        assert machine.state("web") is S.STOPPED
        await packages.start("web")
    async with machine.agent():
        await settle()
        assert machine.state("web") is S.RUNNING
    assert machine.driver.count()["web"] == 2


async def test_nothing_is_done_that_could_not_be_remembered() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        machine.wishes.full = True
        with pytest.raises(Failed, match="cannot remember what is wanted"):
            await packages.stop("web")
        assert machine.state("web") is S.RUNNING


async def test_the_next_agent_finds_the_same_processes_and_restarts_nothing() -> None:
    machine = Machine()
    for number in range(20):
        machine.files.put(f"p{number}")
    async with machine.agent():
        await settle(2)
        await machine.packages.pause("p7")
    before = {name: life.run.pid for name, life in machine.driver.lives.items()}
    machine.said.clear()
    async with machine.agent() as packages:
        await settle(2)
        (shown, _) = await packages.page()
        assert {each.name: each.pid for each in shown} == before
        assert machine.driver.count().total() == 20
        assert machine.state("p7") is S.PAUSED
        assert {(fact.was, fact.reason) for fact in machine.said} == {(None, "adopted")}
        assert shown[0].uptime_seconds == pytest.approx(4, abs=0.5)


async def test_a_stable_run_is_stable_for_the_agent_that_adopted_it_too() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        await settle(20)
    async with machine.agent():
        await settle(0.1)
        machine.driver.end("web")
        await settle(0.01)
        assert len(machine.driver.times("web")) == 2


async def test_a_pending_pause_is_harmlessly_forgotten_by_the_next_agent() -> None:
    machine = Machine()
    machine.files.put("web")
    machine.driver.lasts["web"] = 0.0
    async with machine.agent():
        await settle(5)
    del machine.driver.lasts["web"]
    async with machine.agent():
        await settle()
        assert machine.state("web") is S.RUNNING


async def test_until_it_is_known_whether_it_runs_nothing_is_started() -> None:
    machine = Machine()
    machine.files.put("box")
    machine.driver.blind.add("box")
    async with machine.agent() as packages:
        await settle(5)
        assert machine.state("box") is S.FAILED
        assert machine.driver.times("box") == []
        with pytest.raises(Failed):
            await packages.stop("box")
        machine.wishes.kept.clear()
        machine.driver.blind.clear()
        await settle(31)
        assert machine.state("box") is S.RUNNING


async def test_what_runs_without_anybodys_wish_is_left_alone() -> None:
    machine = Machine()
    loaded = machine.files.put("unit", enabled=False)
    run = machine.driver.start_by_hand(loaded)
    async with machine.agent():
        await settle()
        assert machine.state("unit") is S.RUNNING
        assert machine.driver.lives["unit"].run == run


async def test_a_job_that_is_done_is_not_run_again_by_the_next_agent() -> None:
    machine = Machine()
    machine.files.put("job", restart={"policy": "on-failure"})
    machine.files.put("once", restart={"policy": "never"})
    async with machine.agent():
        await settle()
        machine.driver.end("job", 0)
        machine.driver.end("once", 7)
        await settle()
        assert machine.state("job") is machine.state("once") is S.EXITED
    async with machine.agent() as packages:
        await settle(5)
        assert machine.state("job") is machine.state("once") is S.EXITED
        assert machine.driver.count() == {"job": 1, "once": 1}
        await packages.start("job")
        assert machine.state("job") is S.RUNNING


async def test_a_job_that_failed_is_tried_again() -> None:
    machine = Machine()
    machine.files.put("job", restart={"policy": "on-failure"})
    async with machine.agent():
        await settle()
        machine.driver.end("job", 1)
        await settle()
        assert machine.state("job") is S.RUNNING


async def test_a_restart_takes_another_process_and_leaves_dependents_alone() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent() as packages:
        await settle()
        before = packages.state("db")[1], packages.state("web")[1]
        await packages.restart("db")
        assert packages.state("db")[1] != before[0]
        assert packages.state("web")[1] == before[1]
        await settle()
        assert machine.changes("db") == ["starting", "running", "stopping", "starting", "running"]


async def test_a_restart_with_dependents_takes_them_down_and_up_in_order() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("api", depends_on=["db"])
    machine.files.put("web", depends_on=["api"])
    machine.files.put("idle", depends_on=["db"], enabled=False)
    machine.files.put("other")
    async with machine.agent() as packages:
        await settle()
        pids = {name: packages.state(name)[1] for name in ("db", "api", "web", "other")}
        machine.driver.starts.clear()
        await packages.restart("db", with_dependents=True)
        assert machine.driver.stops == ["web", "api", "db"]
        assert [name for name, _ in machine.driver.starts] == ["db", "api", "web"]
        assert all(machine.state(name) is S.RUNNING for name in pids)
        assert {name for name, pid in pids.items() if packages.state(name)[1] == pid} == {"other"}
        assert machine.state("idle") is S.STOPPED


async def test_a_restart_with_dependents_leaves_what_somebody_holds() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent() as packages:
        await settle()
        await packages.pause("web")
        await packages.restart("db", with_dependents=True)
        assert machine.state("web") is S.PAUSED
        assert machine.driver.stops == ["db"]


async def test_dependents_of_what_cannot_be_started_again_are_still_wanted() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent() as packages:
        await settle()
        machine.driver.broken["db"] = CannotRun("cannot start package db: no executable", "no-executable")
        with pytest.raises(Failed, match="no executable"):
            await packages.restart("db", with_dependents=True)
        await settle()
        assert machine.state("web") is S.BLOCKED
        machine.driver.broken.clear()
        await settle(60)
        assert machine.state("web") is S.RUNNING


async def test_a_dependent_that_cannot_be_stopped_leaves_the_package_as_it_is() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("api", depends_on=["db"])
    machine.files.put("web", depends_on=["api"])
    machine.driver.stubborn.add("api")
    async with machine.agent() as packages:
        await settle()
        pid = packages.state("db")[1]
        with pytest.raises(Failed, match="cannot stop package api"):
            await packages.restart("db", with_dependents=True)
        await settle(10)
        assert packages.state("db")[1] == pid
        assert [machine.state(name) for name in ("api", "web")] == [S.RUNNING, S.RUNNING]


async def test_an_agent_that_ends_amid_a_restart_with_dependents_leaves_none_stopped() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent() as packages:
        await settle()
        machine.driver.slow["db"] = 1000
        task = asyncio.create_task(packages.restart("db", with_dependents=True))
        await settle(5)
        assert "web" not in machine.driver.lives
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    machine.driver.slow.clear()
    async with machine.agent():
        await settle(5)
        assert [machine.state(name) for name in ("db", "web")] == [S.RUNNING, S.RUNNING]


async def test_a_dependent_that_was_stopped_by_command_meanwhile_stays_so() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent() as packages:
        await settle()
        machine.driver.slow["db"] = 20
        task = asyncio.create_task(packages.restart("db", with_dependents=True))
        await settle(5)
        await packages.stop("web")
        await task
        await settle(5)
        assert machine.state("web") is S.STOPPED


async def test_a_start_starts_what_is_needed_and_waits_until_it_is_ready() -> None:
    machine = Machine()
    machine.files.put("db", enabled=False)
    machine.files.put("api", enabled=False, depends_on=["db"])
    machine.files.put("web", enabled=False, depends_on=["api"])
    async with machine.agent() as packages:
        await settle()
        await packages.start("web")
        assert [name for name, _ in machine.driver.starts] == ["db", "api", "web"]
        assert machine.state("web") is S.RUNNING


async def test_a_start_that_fails_says_why() -> None:
    machine = Machine()
    machine.files.put("web", enabled=False)
    trouble = CannotRun("cannot start package web: there is no program /bin/nix", "no-executable")
    machine.driver.broken["web"] = trouble
    async with machine.agent() as packages:
        await settle()
        with pytest.raises(Failed) as failed:
            await packages.start("web")
        assert str(failed.value) == (
            "cannot start package web: there is no program /bin/nix (/x/web/package.json: key 'command')"
        )
        assert failed.value.reason == "failed"


async def test_a_start_of_something_that_ends_at_once_fails_with_its_code() -> None:
    machine = Machine()
    machine.files.put("web", enabled=False)
    machine.driver.lasts["web"] = 0.0
    async with machine.agent() as packages:
        await settle()
        with pytest.raises(Failed, match="ended with exit code 1") as failed:
            await packages.start("web")
        assert (failed.value.reason, failed.value.exit_code) == ("backoff", 1)


async def test_a_port_in_use_is_named_with_its_key() -> None:
    machine = Machine()
    machine.probe.ports.add(8080)
    machine.files.put("web", ready={"tcp_port": 8080})
    async with machine.agent() as packages:
        await settle()
        (shown, _) = await packages.page()
        assert shown[0].state is S.FAILED
        assert shown[0].problem == (
            "cannot start package web: port 8080 is in use by another program "
            "(/x/web/package.json: key 'ready.tcp_port')"
        )


async def test_what_is_held_stays_where_it_is_until_it_may_go_on() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        await packages.pause("web")
        assert machine.state("web") is S.PAUSED
        with pytest.raises(CannotRun, match="cannot pause package web: it is paused, not running"):
            await packages.pause("web")
        await packages.resume("web")
        assert machine.state("web") is S.RUNNING
        with pytest.raises(CannotRun, match="not paused"):
            await packages.resume("web")
        await packages.signal("web", StopSignal.HUP)
        assert machine.driver.lives["web"].signals == [StopSignal.HUP]


async def test_a_change_restarts_whom_it_concerns_and_nobody_else() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    machine.files.put("other")
    async with machine.agent() as packages:
        await settle()
        pids = {name: packages.state(name)[1] for name in ("db", "web", "other")}
        machine.files.put("db", environment={"A": "1"})
        await settle(2)
        now = {name: packages.state(name)[1] for name in pids}
        assert now.pop("db") != pids.pop("db")
        assert now == pids


async def test_a_change_that_means_nothing_to_a_process_restarts_nothing() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        pid = packages.state("web")[1]
        machine.files.put("web", description="new", restart={"policy": "never"}, stop={"timeout_seconds": 1})
        await settle(2)
        assert packages.state("web")[1] == pid
        machine.driver.end("web", 3)
        await settle()
        assert machine.state("web") is S.EXITED  # the new policy holds all the same


async def test_what_became_unusable_runs_on_by_its_last_good_file_and_says_so() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        pid = packages.state("web")[1]
        machine.files.spoil("web", "cannot use /x/web/package.json: line 1, column 2: nonsense")
        await settle(2)
        (shown, _) = await packages.page()
        assert (shown[0].state, shown[0].pid) == (S.RUNNING, pid)
        assert shown[0].problem == "cannot use /x/web/package.json: line 1, column 2: nonsense"
        machine.driver.end("web")
        await settle()
        assert machine.state("web") is S.RUNNING
        await packages.stop("web")
        assert machine.state("web") is S.INVALID
        with pytest.raises(Refused) as refused:
            await packages.start("web")
        assert refused.value.reason == "invalid"
        machine.files.put("web")
        await settle()
        await packages.start("web")
        assert machine.state("web") is S.RUNNING


async def test_what_never_could_be_used_is_shown_as_invalid() -> None:
    machine = Machine()
    machine.files.spoil("web", "cannot use /x/web/package.json: key 'name': is missing")
    async with machine.agent() as packages:
        await settle()
        assert machine.state("web") is S.INVALID
        assert machine.said[0].text == "cannot use /x/web/package.json: key 'name': is missing"
        with pytest.raises(Refused):
            packages.loaded("web")


async def test_a_removed_package_is_stopped_and_forgotten() -> None:
    machine = Machine()
    machine.files.put("web")
    machine.files.put("other")
    async with machine.agent() as packages:
        await settle()
        machine.files.remove("web")
        await settle(2)
        with pytest.raises(Refused, match="cannot find package web"):
            packages.state("web")
        assert machine.driver.stops == ["web"]
        assert machine.said[-1].now is None
        machine.files.put("web")
        await settle(2)
        assert machine.state("web") is S.RUNNING


async def test_all_are_stopped_dependents_first_and_are_wanted_still() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("api", depends_on=["db"])
    machine.files.put("web", depends_on=["api"])
    async with machine.agent() as packages:
        await settle(2)
        await packages.stop_all()
        assert machine.driver.stops == ["web", "api", "db"]
    async with machine.agent():
        await settle(2)
        assert machine.state("web") is S.RUNNING


async def test_what_cannot_be_stopped_says_so_and_is_tried_again() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        machine.driver.stubborn.add("web")
        with pytest.raises(Failed, match="cannot stop package web: it is not permitted"):
            await packages.stop("web")
        assert machine.state("web") is S.RUNNING
        machine.driver.stubborn.clear()
        await settle(6)
        assert machine.state("web") is S.STOPPED


async def test_cpu_is_measured_from_look_to_look() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent() as packages:
        await settle()
        (first, _) = await packages.page()
        await settle(10)
        (second, _) = await packages.page()
    assert (first[0].cpu_percent, second[0].cpu_percent) == (None, 50.0)


async def test_many_packages_are_told_page_by_page() -> None:
    machine = Machine()
    for number in range(150):
        machine.files.put(f"p{number:03}", enabled=False)
    async with machine.agent() as packages:
        await settle()
        first, following = await packages.page()
        second, end = await packages.page(following)
    assert [each.name for each in first + second] == [f"p{number:03}" for number in range(150)]
    assert end is None
