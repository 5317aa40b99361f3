"""Checks of packages that come, go, stop, hang and change: what is looked at, and what is said of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from checks_ground import CheckedMachine, script, tcp
from packages_ground import EPOCH, settle

from host_agent import handlers, metrics
from host_agent.checked import LOOK_SECONDS, LOOKS, SKIPPED
from host_agent.checking import Limits
from host_agent.domain.attention import ATTENTION, Attention
from host_agent.domain.look import critical, unknown, warning
from host_agent.domain.policy import Policy
from host_agent.domain.speaker import Speaker
from muster_bus.bus import Bus
from muster_bus.errors import AskError
from muster_contracts.health.v1 import CheckChanged, CheckList, ChecksRan, Health, ListChecks
from muster_contracts.package.v1 import PackageState
from muster_runtime.metrics import Gauge
from muster_testing.loop_time import NOON

pytestmark = pytest.mark.looptime

DOWN = critical("refused", "nobody accepts connections on port 1")


def test_every_state_of_a_package_says_what_is_done_about_its_checks() -> None:
    assert set(ATTENTION) == set(PackageState)
    assert {state for state, what in ATTENTION.items() if what is Attention.LOOK} == {PackageState.RUNNING}


async def test_a_package_that_runs_is_looked_at_and_what_holds_first_is_said() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    async with machine.checks():
        await settle(12)
        assert machine.holds("web") == ["unknown", "ok"]
        first, second = machine.heard(CheckChanged)
        assert (first.reason, first.was) == ("stopped", None)
        assert (second.reason, second.text, second.looks) == ("ok", "fine", 1)


async def test_after_a_restart_of_the_agent_each_check_is_said_once_it_holds_something() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(failures=2)])
    async with machine.checks():
        await settle(20)
    machine.facts.clear()
    machine.sees["web/port"] = DOWN
    async with machine.checks():
        await settle(30)
        assert machine.holds("web") == ["critical"]
        assert machine.heard(CheckChanged)[0].was is None
        assert machine.heard(CheckChanged)[0].looks == 2


async def test_illness_is_said_once_within_interval_times_failures_and_so_is_its_end() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(failures=3, successes=2)])
    async with machine.checks():
        await settle(41)
        machine.sees["web/port"] = DOWN
        began = asyncio.get_running_loop().time()
        await settle(60)
        assert machine.holds("web")[1:] == ["ok", "critical"]
        ill = machine.heard(CheckChanged)[-1]
        assert (ill.reason, ill.text, ill.looks) == (DOWN.reason, DOWN.text, 3)
        after = [at for at in machine.times("web") if at >= began]
        assert after[2] - began <= 3 * 10.0
        del machine.sees["web/port"]
        await settle(30)
        assert machine.holds("web")[1:] == ["ok", "critical", "ok"]


async def test_what_was_stopped_is_not_looked_at_and_leaves_nothing_critical_behind() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    machine.sees["web/port"] = DOWN
    async with machine.checks():
        await settle(15)
        assert machine.holds("web")[-1] == "critical"
        await machine.packages.stop("web")
        await settle()
        last = machine.heard(CheckChanged)[-1]
        assert (last.now, last.reason, last.text) == (Health.UNKNOWN, "stopped", "package web is stopped")
        looks = len(machine.looks)
        await settle(100)
        assert len(machine.looks) == looks
        assert machine.check("web").waiting
        assert machine.holds("web")[-1] == "unknown"


async def test_at_a_restart_checks_begin_anew_with_the_start_period() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(start_seconds=60)])
    async with machine.checks():
        await settle(70)
        assert machine.holds("web")[-1] == "ok"
        machine.sees["web/port"] = DOWN
        await machine.packages.restart("web")
        await settle(55)
        assert machine.holds("web")[-1] == "unknown"
        assert machine.check("web").waiting
        assert machine.check("web").seen is Health.CRITICAL
        await settle(20)
        assert machine.holds("web")[-1] == "critical"
        assert not machine.check("web").waiting


async def test_without_a_start_period_a_slow_start_is_an_illness() -> None:
    """The twin: what the start period protects from."""
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    machine.sees["web/port"] = DOWN
    async with machine.checks():
        await settle(12)
        assert machine.holds("web")[-1] == "critical"


async def test_the_start_period_of_a_package_taken_over_began_with_its_process() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(start_seconds=60)])
    async with machine.checks():
        await settle(58)
    machine.sees["web/port"] = DOWN
    machine.facts.clear()
    async with machine.checks():
        await settle(14)
        assert machine.holds("web") == ["critical"]


async def test_what_is_paused_is_not_looked_at_and_holds_what_it_held() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    async with machine.checks():
        await settle(25)
        await machine.packages.pause("web")
        machine.sees["web/port"] = DOWN
        looks = len(machine.looks)
        await settle(100)
        assert len(machine.looks) == looks
        assert machine.holds("web")[-1] == "ok"
        assert machine.check("web").waiting
        await machine.packages.resume("web")
        await settle(15)
        assert machine.holds("web")[-1] == "critical"


async def test_what_is_restarted_is_not_ill_because_it_stops() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(every_seconds=0.1)])
    async with machine.checks():
        await settle(5)
        await machine.packages.restart("web")
        await settle(5)
        assert machine.holds("web") == ["unknown", "ok", "unknown", "ok"]


async def test_a_check_that_changed_begins_anew_and_no_other_does() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp("a"), tcp("b")])
    async with machine.checks():
        await settle(25)
        made, pid = list(machine.made), machine.packages.state("web")[1]
        machine.facts.clear()
        machine.sees["web/a"] = DOWN
        machine.files.put("web", checks=[tcp("a", failures=2), tcp("b")], recovery={"restarts": 1})
        await settle(30)
        assert machine.holds("web", "a") == ["unknown", "critical"]
        assert machine.heard(CheckChanged)[0].reason == "changed"
        assert machine.holds("web", "b") == []
        assert machine.packages.state("web")[1] == pid, "a changed check or policy is no reason to restart"
        assert machine.made[len(made) :].count("web/a") == 1


async def test_a_check_that_is_gone_is_said_to_be_and_so_are_those_of_a_package_that_is() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp("a"), tcp("b")])
    async with machine.checks():
        await settle(25)
        machine.files.put("web", checks=[tcp("b")])
        await settle(5)
        assert machine.holds("web", "a")[-1] == "gone"
        machine.files.remove("web")
        await settle(5)
        assert machine.holds("web", "b")[-2:] == ["unknown", "gone"]
        assert machine.checking.page(None, None) == ([], None)
        looks = len(machine.looks)
        await settle(50)
        assert len(machine.looks) == looks


async def test_checks_of_a_file_that_was_spoilt_go_on_as_it_last_was() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    async with machine.checks():
        await settle(15)
        machine.files.spoil("web")
        looks = len(machine.looks)
        await settle(30)
        assert len(machine.looks) == looks + 3
        assert machine.holds("web")[-1] == "ok"


async def test_a_look_that_goes_on_is_ended_when_its_package_stops_and_nothing_is_believed_of_it() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(timeout_seconds=1000)])
    machine.takes["web/port"] = 500
    machine.sees["web/port"] = DOWN
    async with machine.checks():
        await settle(20)
        await machine.packages.stop("web")
        await settle(100)
        assert machine.cancelled == ["web/port"]
        assert machine.holds("web") == ["unknown"]
        assert machine.samples() == 0


async def test_a_look_that_does_not_end_by_itself_is_critical_in_time_and_skips_beats() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(timeout_seconds=2)])
    machine.takes["web/port"] = 10_000
    machine.ends_slowly["web/port"] = 35
    async with machine.checks():
        await settle(10)
        assert machine.holds("web")[-1] == "critical"
        assert machine.heard(CheckChanged)[-1].text == "no answer within 2 s"
        await settle(90)
        assert len(machine.times("web")) == 3


async def test_a_look_that_breaks_is_unknown_and_named() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    machine.broken["web/port"] = ValueError("what?")
    async with machine.checks():
        await settle(15)
        assert machine.holds("web") == ["unknown", "unknown"]
        stopped, failed = machine.heard(CheckChanged)
        assert (stopped.reason, stopped.text) == ("stopped", "package web is starting")
        assert (failed.reason, failed.text) == ("failed", "cannot look: ValueError: what?")


async def test_scripts_that_hang_leave_other_checks_their_time_and_starved_ones_unknown() -> None:
    machine = CheckedMachine()
    machine.limits = Limits(heavy_at_once=1)
    machine.files.put("web", checks=[tcp(), script("hung", timeout_seconds=3600), script("starved")])
    async with machine.checks():
        await settle(30)
        machine.takes["web/hung"] = 3600
        await settle(60)
        assert machine.check("web", "starved").health is Health.UNKNOWN
        assert machine.check("web", "starved").reason == "busy"
        assert machine.holds("web") == ["unknown", "ok"]
        assert len(machine.times("web")) == 9


async def test_looks_beyond_the_limit_are_unknown_until_there_is_room() -> None:
    machine = CheckedMachine()
    machine.limits = Limits(most=2)
    machine.files.put("a", checks=[tcp("one"), tcp("two")])
    machine.files.put("b", checks=[tcp("three"), tcp("four")])
    async with machine.checks():
        await settle(15)
        refused = machine.check("b", "three")
        assert (refused.health, refused.reason) == (Health.UNKNOWN, "too-many")
        assert "raise most_checks" in refused.text
        machine.files.put("a", checks=[tcp("one")])
        await settle(15)
        assert machine.check("b", "three").health is Health.OK
        assert machine.check("b", "four").health is Health.UNKNOWN
        await machine.packages.stop("a")
        await settle(15)
        assert machine.check("b", "four").health is Health.OK


async def test_looks_are_said_once_a_second_and_at_most_fifty_in_one_message() -> None:
    machine = CheckedMachine()
    for number in range(12):
        machine.files.put(f"p{number}", checks=[tcp(f"c{each}", every_seconds=1.0) for each in range(5)])
    async with machine.checks():
        await settle(5)
        machine.facts.clear()
        await settle(3)
        said = machine.heard(ChecksRan)
        assert [len(each.results) for each in said] == [50, 10] * 3


async def test_long_texts_take_more_messages_none_of_them_too_large() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(f"c{each}") for each in range(64)])
    for each in range(64):
        machine.sees[f"web/c{each}"] = warning("status", '"€' * 250)
    async with machine.checks():
        await settle(15)
        said = machine.heard(ChecksRan)
        assert machine.samples() >= 64
        assert max(len(each.model_dump_json().encode()) for each in said) <= ChecksRan.MAX_BYTES


async def test_checks_are_listed_by_package_and_name_page_by_page() -> None:
    machine = CheckedMachine()
    names = [f"c{each:02}" for each in range(60)]
    machine.files.put("a", checks=[tcp(name) for name in names])
    machine.files.put("a-b", checks=[tcp("x")])
    machine.files.put("b", checks=[tcp(name) for name in names])
    async with machine.checks():
        await settle(5)
        shown, after, pages = [], None, 0
        while pages == 0 or after:
            page, after = machine.checking.page(None, after)
            shown += [(each.package, each.check) for each in page]
            pages += 1
        assert shown == [("a", name) for name in names] + [("a-b", "x")] + [("b", name) for name in names]
        assert pages == 3
        assert len(machine.checking.page("a-b", None)[0]) == 1


async def test_looks_that_cannot_tell_are_no_illness() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp(failures=3)])
    async with machine.checks():
        await settle(25)
        machine.sees["web/port"] = unknown("no-user", "cannot look: there is no user nobody2")
        await settle(25)
        assert machine.check("web").health is Health.OK
        assert machine.check("web").seen is Health.UNKNOWN
        await settle(10)
        assert machine.holds("web")[-2:] == ["ok", "unknown"]


class Desk:
    """As much of a bus and a policy as the handlers need."""

    problem: str | None = None

    def __init__(self, **policy: Any) -> None:
        self.policy = Policy.model_validate(policy)
        self.handler: Callable[[ListChecks], Awaitable[CheckList]]

    def now(self) -> Policy:
        return self.policy

    async def answer(self, kind: type, handler: Any, *, bound_to: str) -> None:
        assert (kind, bound_to) == (ListChecks, "m1")
        self.handler = handler


async def test_checks_are_told_to_whom_the_policy_lets_ask() -> None:
    machine, desk, strict = CheckedMachine(), Desk(), Desk(deny=["check.*"])
    machine.files.put("web", checks=[tcp()])
    question = ListChecks(agent_id="m1", package="web", occurred_at=NOON)
    async with machine.checks() as checking:
        await settle(20)
        for one in (desk, strict):
            await handlers.listen_checks(cast("Bus", one), Speaker("m1", EPOCH, "1"), checking, one)
        answer = await desk.handler(question)
        assert (answer.agent_id, answer.epoch, answer.next) == ("m1", EPOCH, None)
        shown = answer.checks[0]
        assert (shown.check, shown.health, shown.seen, shown.every_seconds) == ("port", "ok", "ok", 10)
        assert shown.looks >= 2
        assert not shown.waiting
        with pytest.raises(AskError, match=r"check\.list: this machine's policy does not allow"):
            await strict.handler(question)


async def test_a_scrape_shows_how_many_checks_hold_what_and_how_they_look() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp("a"), tcp("b", timeout_seconds=0.5), script("c")])
    machine.sees["web/a"] = DOWN
    machine.takes["web/b"] = 25.0
    before = LOOKS.get("tcp", "critical"), SKIPPED.get("tcp", "running")
    async with machine.checks() as checking:
        await settle(50)
        metrics.show_checks(checking)
        assert Gauge.all["muster_host_agent_checks"].read() == {("critical",): 2, ("ok",): 1}
    assert LOOKS.get("tcp", "critical") >= before[0] + 8
    assert SKIPPED.get("tcp", "running") == before[1]
    assert LOOK_SECONDS.get("tcp") > 0


async def test_what_a_check_saw_last_is_said_though_the_agent_ends() -> None:
    machine = CheckedMachine()
    machine.files.put("web", checks=[tcp()])
    machine.slow_voice = 0.5
    async with machine.checks():
        await settle(8)
        machine.sees["web/port"] = DOWN
        while machine.check("web").health is not Health.CRITICAL:
            await settle(0.1)
        assert machine.holds("web")[-1] == "ok"
    assert machine.holds("web")[-1] == "critical"
