"""What packages and scripts can be told to do, and what the machine's policy lets them be told."""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from memory_driver import MemoryDriver
from packages_ground import EPOCH, Machine, settle
from plain_runner import PlainRunner

from host_agent.adapters.configuration_files import ConfinedConfigurationFiles
from host_agent.adapters.policy_file import PolicyFile
from host_agent.domain.policy import Policy
from host_agent.verbs import BODIES, Verbs
from muster_agent.obedience import Refused, Result, Work
from muster_contracts.command.v1 import CommandState, Precondition, Terms
from muster_contracts.package.v1 import PackageBody, PackageState, StopSignal
from muster_testing.loop_time import NOON
from muster_testing.wait import until

S = PackageState
C = CommandState


class Rules:
    """A policy in memory."""

    problem: str | None = None

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def now(self) -> Policy:
        return self.policy


class Paper:
    """As much of ``Work`` as verbs need."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.printed = b""

    async def write(self, data: bytes) -> None:
        self.printed += data

    def progress(self, text: str, percent: float | None = None) -> None:
        pass


def order(verb: str, **body: Any) -> Terms:
    precondition = body.pop("precondition", Precondition())
    return Terms(
        command_id=uuid4(), issuer="ann", submitted_at=NOON, verb=verb, body={"verb": verb, **body},
        not_after=NOON + timedelta(hours=1), start_seconds=60, run_seconds=60, precondition=precondition,
    )  # fmt: skip


class Orders:
    """A machine that is told what to do."""

    def __init__(self, machine: Machine, **policy: Any) -> None:
        self.rules = Rules(Policy.model_validate(policy))
        self.runner = PlainRunner()
        self.verbs = Verbs(
            machine.packages, ConfinedConfigurationFiles(self.runner), self.runner, self.rules, EPOCH
        )
        self.printed = b""

    async def do(self, verb: str, **body: Any) -> Result:
        terms = order(verb, **body)
        self.verbs.admit(terms)
        await self.verbs.check(terms)
        paper = Paper(terms)
        try:
            return await self.verbs.perform(cast("Work", paper))
        finally:
            self.printed = paper.printed


def test_every_verb_of_the_contract_is_known() -> None:
    verbs = {kind.model_fields["verb"].default for kind in PackageBody.__args__} | {"script.run"}
    assert set(BODIES) == verbs


@pytest.mark.looptime
async def test_each_verb_does_what_it_says_and_tells_pid_and_state() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        await settle()
        orders = Orders(machine)
        assert await orders.do("package.pause", package="web") == Result(
            result={"pid": 1001, "state": "paused"}
        )
        assert (await orders.do("package.resume", package="web")).result == {"pid": 1001, "state": "running"}
        assert (await orders.do("package.signal", package="web", signal="USR1")).state is C.SUCCEEDED
        assert machine.driver.lives["web"].signals == [StopSignal.USR1]
        assert (await orders.do("package.restart", package="web")).result == {"pid": 1002, "state": "running"}
        assert (await orders.do("package.stop", package="web")).result == {"pid": None, "state": "stopped"}
        assert (await orders.do("package.start", package="web")).result == {"pid": 1003, "state": "running"}


@pytest.mark.looptime
async def test_a_restart_takes_dependents_along_only_if_it_says_so() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent():
        await settle()
        orders = Orders(machine)
        await orders.do("package.restart", package="db")
        assert machine.driver.stops == ["db"]
        assert (await orders.do("package.restart", package="db", with_dependents=True)).state is C.SUCCEEDED
        assert machine.driver.stops == ["db", "web", "db"]
        assert machine.state("web") is S.RUNNING


@pytest.mark.looptime
async def test_several_commands_in_a_row_leave_the_last_word() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        await settle()
        orders = Orders(machine)
        for verb in ("stop", "start", "pause", "resume", "restart", "restart", "stop", "start", "stop"):
            assert (await orders.do(f"package.{verb}", package="web")).state is C.SUCCEEDED
        assert machine.state("web") is S.STOPPED


@pytest.mark.looptime
async def test_a_stop_that_dependents_forbid_is_rejected_and_does_nothing() -> None:
    machine = Machine()
    machine.files.put("db")
    machine.files.put("web", depends_on=["db"])
    async with machine.agent():
        await settle()
        orders = Orders(machine)
        result = await orders.do("package.stop", package="db")
        assert (result.state, result.reason) == (C.REJECTED, "dependents")
        assert machine.driver.stops == []
        assert (await orders.do("package.stop", package="db", cascade=True)).state is C.SUCCEEDED


@pytest.mark.looptime
async def test_a_package_that_ends_at_once_fails_its_start_with_its_exit_code() -> None:
    machine = Machine()
    machine.files.put("web", enabled=False)
    machine.driver.lasts["web"] = 0.0
    async with machine.agent():
        await settle()
        result = await Orders(machine).do("package.start", package="web")
        assert (result.state, result.reason, result.exit_code) == (C.FAILED, "backoff", 1)


@pytest.mark.looptime
async def test_what_is_not_there_is_rejected_before_it_begins() -> None:
    machine = Machine()
    async with machine.agent():
        with pytest.raises(Refused, match="cannot find package web") as refused:
            await Orders(machine).do("package.start", package="web")
        assert refused.value.reason == "not-found"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("verb", "body", "reason"),
    [
        ("package.explode", {"package": "web"}, "unknown-verb"),
        ("package.start", {}, "invalid"),
        ("package.start", {"package": "../web"}, "invalid"),
        ("package.signal", {"package": "web", "signal": "STOP"}, "invalid"),
        ("script.run", {"script": "report"}, "policy"),
    ],
)
async def test_what_is_no_order_is_refused_at_once(verb: str, body: dict[str, Any], reason: str) -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        with pytest.raises(Refused) as refused:
            Orders(machine).verbs.admit(order(verb, **body))
        assert refused.value.reason == reason


@pytest.mark.looptime
async def test_a_malformed_order_is_refused_without_repeating_what_may_be_secret() -> None:
    machine = Machine()
    async with machine.agent():
        body = {"package": "web", "file": "a", "content": "hunter2" * 10_000}
        with pytest.raises(Refused) as refused:
            Orders(machine).verbs.admit(order("package.apply-configuration", **body))
        assert "hunter2" not in str(refused.value)


@pytest.mark.looptime
async def test_the_policy_is_a_veto_at_admission_and_again_at_the_start() -> None:
    machine = Machine()
    machine.files.put("web")
    async with machine.agent():
        await settle()
        orders = Orders(machine, deny=["package.st*"])
        with pytest.raises(Refused, match=r"this machine's policy does not allow package\.stop"):
            orders.verbs.admit(order("package.stop", package="web"))
        terms = order("package.pause", package="web")
        orders.verbs.admit(terms)
        orders.rules.policy = Policy(allow=[])
        with pytest.raises(Refused) as refused:
            await orders.verbs.check(terms)
        assert refused.value.reason == "policy"


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("precondition", "met"),
    [
        (Precondition(), True),
        (Precondition(epoch=EPOCH), True),
        (Precondition(epoch="0" * 12 + "-" + "0" * 12), False),
        (Precondition(package_version="2"), True),
        (Precondition(package_version="1"), False),
        (Precondition(package_states=[S.RUNNING, S.PAUSED]), True),
        (Precondition(package_states=[S.STOPPED]), False),
    ],
)
async def test_a_precondition_that_does_not_hold_rejects(precondition: Precondition, met: bool) -> None:
    machine = Machine()
    machine.files.put("web", version="2")
    async with machine.agent():
        await settle()
        orders = Orders(machine)
        terms = order("package.restart", package="web", precondition=precondition)
        if met:
            await orders.verbs.check(terms)
            return
        with pytest.raises(Refused) as refused:
            await orders.verbs.check(terms)
        assert refused.value.reason == "precondition"
        assert machine.driver.count() == {"web": 1}


async def _configured(machine: Machine, directory: Path) -> Orders:
    """A package that runs and has a configuration file on a real disk."""
    loaded = machine.files.put("web", configuration={"settings": {"path": str(directory / "s.json")}})
    (directory / "s.json").write_text("{}")
    await until(lambda: "running" in machine.changes("web"))
    assert loaded.name == "web"
    return Orders(machine)


@pytest.mark.parametrize(
    ("then", "signals", "starts"),
    [("nothing", [], 1), ("reload", [StopSignal.HUP], 1), ("restart", [], 2)],
)
async def test_a_configuration_is_put_in_place_before_the_package_is_told(
    tmp_path: Path, then: str, signals: list[StopSignal], starts: int
) -> None:
    machine = Machine()
    async with machine.agent():
        orders = await _configured(machine, tmp_path)
        result = await orders.do(
            "package.apply-configuration", package="web", file="settings", content="{1}", then=then
        )
        assert result.state is C.SUCCEEDED
        assert result.result
        assert result.result["changed"] is True
        assert (tmp_path / "s.json").read_text() == "{1}"
        assert machine.driver.lives["web"].signals == signals
        assert machine.driver.count() == {"web": starts}


async def test_a_configuration_that_is_refused_restarts_nothing(tmp_path: Path) -> None:
    machine = Machine()
    async with machine.agent():
        orders = await _configured(machine, tmp_path)
        result = await orders.do(
            "package.apply-configuration", package="web", file="settings", content="1", then="restart",
            expected_sha256="0" * 64,
        )  # fmt: skip
        assert (result.state, result.reason) == (C.REJECTED, "precondition")
        assert machine.driver.count() == {"web": 1}


# Scripts -----------------------------------------------------------------------------------------------

ECHO = {"command": [sys.executable, "-c", "import sys; print(sys.argv[1:])", "fixed"]}
FAIL = {"command": [sys.executable, "-c", "raise SystemExit(7)"]}
SLEEP = {"command": [sys.executable, "-c", "import time; time.sleep(600)"], "run_seconds": 0.3}


async def test_a_listed_script_runs_and_what_it_prints_is_kept() -> None:
    machine = Machine()
    async with machine.agent():
        orders = Orders(machine, scripts={"echo": {**ECHO, "arguments": True}})
        result = await orders.do("script.run", script="echo", arguments=["a", "; b"])
        assert (result.state, result.exit_code) == (C.SUCCEEDED, 0)
        assert orders.printed == b"['fixed', 'a', '; b']\n"


async def test_a_script_that_fails_tells_its_exit_code() -> None:
    machine = Machine()
    async with machine.agent():
        result = await Orders(machine, scripts={"fail": FAIL}).do("script.run", script="fail")
        assert (result.state, result.reason, result.exit_code) == (C.FAILED, "exit", 7)


async def test_a_script_that_runs_longer_than_its_policy_allows_is_ended() -> None:
    machine = Machine()
    async with machine.agent():
        result = await Orders(machine, scripts={"sleep": SLEEP}).do("script.run", script="sleep")
        assert (result.state, result.reason) == (C.TIMED_OUT, "run-time")


async def test_a_script_that_cannot_be_executed_says_so() -> None:
    machine = Machine()
    async with machine.agent():
        orders = Orders(machine, scripts={"gone": {"command": ["/no/such/program"]}})
        result = await orders.do("script.run", script="gone")
        assert (result.state, result.reason) == (C.FAILED, "no-executable")


@pytest.mark.parametrize("said", [{}, {"arguments": False}])
async def test_arguments_are_refused_unless_the_policy_takes_them(said: dict[str, bool]) -> None:
    machine = Machine()
    async with machine.agent():
        orders = Orders(machine, scripts={"echo": {**ECHO, **said}})
        assert (await orders.do("script.run", script="echo")).state is C.SUCCEEDED
        with pytest.raises(Refused, match="lets script echo take no arguments; set arguments: true"):
            await orders.do("script.run", script="echo", arguments=["a"])


# The policy's file -------------------------------------------------------------------------------------


def test_without_a_file_all_is_allowed_but_scripts(tmp_path: Path) -> None:
    rules = PolicyFile(tmp_path / "policy.yaml")
    assert rules.now() == Policy()
    assert rules.problem is None


def test_a_policy_is_followed_while_the_agent_runs(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    rules = PolicyFile(path)
    assert rules.now().allows("package.stop")
    path.write_text("deny: [package.stop]\nscripts:\n  report:\n    command: [/bin/true]\n")
    assert not rules.now().allows("package.stop")
    assert list(rules.now().scripts) == ["report"]
    path.unlink()
    assert rules.now().allows("package.stop")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("deny: [", "while parsing"),
        ("denied: []", "key 'denied': Extra inputs are not permitted"),
        ("deny: []\ndeny: [x]", "key 'deny' is given twice"),
        ("scripts:\n  a:\n    command: /bin/true", "key 'scripts.a.command': Input should be a valid list"),
        ("scripts:\n  ../a:\n    command: [x]", "String should match pattern"),
        ("scripts:\n  a:\n    command: []", "key 'scripts.a.command'"),
        ("- a", "Input should be"),
        ("allow: ['*;id']", "key 'allow.0'"),
        ("allow: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_a_policy_that_cannot_be_read_allows_nothing(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    rules = PolicyFile(path)
    assert not rules.now().allows("package.list")
    assert rules.problem is not None
    assert rules.problem.startswith(f"cannot use {path}: ")
    assert problem in rules.problem
    path.write_text("{}")
    assert rules.now().allows("package.list")
    assert rules.problem is None


def test_a_policy_that_is_no_yaml_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("allow: []\ndeny: [\n")
    rules = PolicyFile(path)
    rules.now()
    assert f'in "{path}", line 3' in (rules.problem or "")
    assert "byte string" not in (rules.problem or "")


def test_root_takes_no_policy_that_everybody_may_write(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("{}")
    path.chmod(0o666)
    assert not PolicyFile(path, as_root=True).now().allows("package.list")
    assert PolicyFile(path, as_root=False).now().allows("package.list")


def test_the_memory_driver_is_a_driver() -> None:
    from host_agent.ports import Driver

    driver: Driver = MemoryDriver()
    assert driver


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_policy_that_another_user_owns_allows_nothing_where_the_agent_is_root(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("{}")
    os.chown(path, 1234, -1)
    strict = PolicyFile(path, as_root=True)
    assert not strict.now().allows("package.list")
    assert strict.problem == f"cannot use {path}: it belongs to user 1234; run 'chown root {path}'"
    assert PolicyFile(path, as_root=False).now().allows("package.list")


@pytest.mark.parametrize("written", [True, False])
def test_root_goes_by_no_policy_where_everybody_could_take_it_away(tmp_path: Path, written: bool) -> None:
    path = tmp_path / "etc" / "policy.yaml"
    path.parent.mkdir()
    if written:
        path.write_text("{}")
        path.chmod(0o644)
    path.parent.chmod(0o755)
    strict, careless = PolicyFile(path, as_root=True), PolicyFile(path, as_root=False)
    assert strict.now().allows("package.list")
    path.parent.chmod(0o777)
    assert not strict.now().allows("package.list")
    assert strict.problem == (
        f"cannot use {path}: everybody may write to its directory; run 'chmod o-w {path.parent}'"
    )
    assert careless.now().allows("package.list")
    path.parent.chmod(0o1777)  # nobody can take away there what is root's
    assert strict.now().allows("package.list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["policy.yaml", "."])
def test_root_goes_by_no_policy_that_a_group_may_write(tmp_path: Path, what: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("{}")
    shared = tmp_path / what
    shared.chmod(0o775)
    strict = PolicyFile(path, as_root=True)
    assert strict.now().allows("package.list")
    os.chown(shared, -1, 1234)
    assert not strict.now().allows("package.list")
    assert strict.problem
    assert strict.problem.startswith(f"cannot use {path}: group 1234 may write to it")
    assert PolicyFile(path, as_root=False).now().allows("package.list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_goes_by_no_policy_in_a_directory_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "policy.yaml"
    path.parent.mkdir()
    os.chown(path.parent, 1234, -1)
    strict = PolicyFile(path, as_root=True)
    assert not strict.now().allows("package.list")
    assert strict.problem == (
        f"cannot use {path}: its directory belongs to user 1234; run 'chown root {path.parent}'"
    )


def test_root_goes_by_no_policy_that_is_a_circle_or_a_link_to_where_everybody_may_write(
    tmp_path: Path,
) -> None:
    path, elsewhere = tmp_path / "policy.yaml", tmp_path / "shared" / "policy.yaml"
    path.symlink_to("policy.yaml")
    strict = PolicyFile(path, as_root=True)
    assert not strict.now().allows("package.list")
    path.unlink()
    elsewhere.parent.mkdir()
    elsewhere.write_text("{}")
    elsewhere.chmod(0o644)
    elsewhere.parent.chmod(0o777)
    path.symlink_to(elsewhere)
    assert not strict.now().allows("package.list")
    assert PolicyFile(path, as_root=False).now().allows("package.list")
