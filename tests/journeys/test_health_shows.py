"""The shows of Health: real packages fall ill on a real agent; they are named, healed or not, told of once.

Each test has packages of its own on one machine that all share; what befalls them is seen from outside: by
the facts an operator hears, by what is asked, by a webhook receiver and by a mail server.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import pytest_asyncio

from muster_bus import AskFailed, NoAnswer
from muster_contracts.audit.v1 import ReadAudit
from muster_contracts.command.v1 import FindTargets
from muster_contracts.health.v1 import (
    HEALTH,
    LONGEST_TEXT,
    CheckChanged,
    EndMaintenance,
    ExplainHealth,
    Explanation,
    FindRecoveries,
    GetAvailability,
    GetHealthHistory,
    GetRecoveryStatus,
    Health,
    Hold,
    Incident,
    IncidentOpened,
    IncidentResolved,
    PackageHealthChanged,
    PauseRecovery,
    RecoveryAct,
    ResumeRecovery,
    SetMaintenance,
    Step,
    TestNotification,
)
from muster_contracts.message import Ask
from muster_contracts.package.v1 import PackageChanged, PackageState
from muster_testing.control_plane import ControlPlane
from muster_testing.hosts import host_agent
from muster_testing.receivers import MailSink, WebhookReceiver
from muster_testing.servers import free_port
from muster_testing.wait import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHO = "web-1"
BY = "ann@laptop"
MUSTER = str(Path(sys.executable).parent / "muster")
PATIENCE = 60.0
SLEEPER = ["/bin/sleep", "1000"]
PAGE = """
import http.server, pathlib, socket, sys
port, needs = int(sys.argv[1]), int(sys.argv[2])
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        code, body = 200, pathlib.Path("body").read_bytes()
        if needs:
            try:
                socket.create_connection(("127.0.0.1", needs), timeout=2).close()
            except OSError:
                code = 503
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
"""
LEAK = """
import pathlib, time
while True:
    if pathlib.Path("leak").exists():
        pathlib.Path("leak").unlink()
        kept = b"x" * (96 << 20)
    time.sleep(0.05)
"""
LIMIT = 64 << 20
QUICK = {"every_seconds": 0.4, "timeout_seconds": 20, "failures": 2, "successes": 5}
POLICY = {
    "restarts": 2, "with_dependents": 0, "delay_seconds": 0.2, "longest_delay_seconds": 0.5,
    "stable_seconds": 1, "cooldown_seconds": 3600,
}  # fmt: skip

T = TypeVar("T")
A = TypeVar("A")


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Stand:
    """A control plane, a machine, and whoever is told."""

    plane: ControlPlane
    packages: Path
    hook: WebhookReceiver
    sink: MailSink
    changes: list[CheckChanged] = field(default_factory=list)
    states: list[PackageChanged] = field(default_factory=list)
    health: list[PackageHealthChanged] = field(default_factory=list)
    opened: list[Incident] = field(default_factory=list)
    resolved: list[tuple[Incident, str]] = field(default_factory=list)

    async def listen(self) -> None:
        """Hear what an operator may."""
        bus = self.plane.operator
        await bus.hear(CheckChanged, self._keep(self.changes))
        await bus.hear(PackageChanged, self._keep(self.states))
        await bus.hear(PackageHealthChanged, self._keep(self.health))

        async def opened(fact: IncidentOpened) -> None:
            self.opened.append(fact.incident)

        async def resolved(fact: IncidentResolved) -> None:
            self.resolved.append((fact.incident, fact.why))

        await bus.hear(IncidentOpened, opened)
        await bus.hear(IncidentResolved, resolved)

    @staticmethod
    def _keep(kept: list[T]) -> Callable[[T], Any]:
        async def keep(fact: T) -> None:
            kept.append(fact)

        return keep

    # Packages.

    def put(self, name: str, command: list[str], *checks: dict[str, Any], **more: Any) -> Path:
        """Write a package; its directory."""
        home = self.packages / name
        home.mkdir()
        told = {"name": name, "command": command, "recovery": POLICY, **more}
        told["checks"] = [QUICK | one for one in checks]
        beside = self.packages.parent / f"{name}.json"
        beside.write_text(json.dumps(told))
        (home / "body").write_text("all is well")
        beside.replace(home / "package.json")  # last, and in one step
        return home

    def page(self, name: str, needs: int = 0, **more: Any) -> tuple[Path, int]:
        """A package that serves ``body``, and its port."""
        port = free_port()
        check = {"kind": "http", "url": f"http://127.0.0.1:{port}/", "body_contains": "well"}
        home = self.put(
            name, [sys.executable, "-I", "-S", "-c", PAGE, str(port), str(needs)],
            {"name": "page", "check": check}, ready={"tcp_port": port}, **more,
        )  # fmt: skip
        return home, port

    def sleeper(self, name: str, **more: Any) -> Path:
        """A package that sleeps, and whose process is looked at."""
        return self.put(name, SLEEPER, {"name": "process", "check": {"kind": "process"}}, **more)

    def pid(self, name: str) -> int:
        """Of its process, as last said."""
        return [one.pid for one in self.states if one.package == name and one.pid][-1]

    # Asking.

    async def ask(self, question: Ask[Any]) -> Any:
        """Ask until there is an answer."""

        async def answer() -> Any:
            try:
                return await self.plane.operator.ask(question, timeout=5)
            except NoAnswer:
                return None

        return await until(answer, PATIENCE)

    async def why(self, name: str, good: Callable[[Explanation], object]) -> Explanation:
        """How a package is, once it is as wanted."""
        question = ExplainHealth(occurred_at=now(), agent_id=WHO, package=name)

        async def seen() -> Explanation | None:
            try:
                told = await self.ask(question)
            except AskFailed:
                return None
            return told if good(told) else None

        found = await until(seen, PATIENCE, every=0.1)
        assert found
        return found

    async def is_(self, name: str, health: Health) -> Explanation:
        return await self.why(name, lambda told: told.package.health is health)

    async def acts(self, name: str) -> list[RecoveryAct]:
        """What was done about it, oldest first."""
        page = await self.ask(FindRecoveries(occurred_at=now(), agent_id=WHO, package=name))
        found: list[RecoveryAct] = page.acts[::-1]
        return found

    async def run(self, *words: str, code: int = 0) -> str:
        """What a command prints."""
        process = await asyncio.create_subprocess_exec(
            MUSTER, *words, env={**os.environ, "MUSTER_DIR": str(self.plane.directory), "COLUMNS": "200"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == code, said.decode()
        return said.decode()

    # What came of it.

    async def over(self, name: str) -> Incident:
        """The incident of a package, once it is over and both receivers know."""

        def found() -> list[Incident]:
            return [one for one, _ in self.resolved if one.cause.package == name]

        await until(found, PATIENCE)
        await until(
            lambda: self.told(name)[-1:] == ["resolved"] and len(self.mails(name)) == len(self.told(name)),
            PATIENCE,
        )
        return found()[-1]

    def told(self, name: str) -> list[str]:
        """What the webhook receiver was told of incidents that a package caused."""
        items = [item for one in self.hook.received for item in one.json["items"]]
        return [item["event"] for item in items if item["incident"]["cause"]["package"] == name]

    def mails(self, name: str) -> list[str]:
        """The subjects of mails about incidents that a package caused."""
        return [str(one["Subject"]) for one in self.sink.mails if f"{name}@{WHO}" in str(one["Subject"])]

    async def was_told_once(self, name: str) -> Incident:
        """Both receivers got one notification and one end; nobody else was blamed."""
        incident = await self.over(name)
        assert self.told(name) == ["firing", "resolved"]
        first, last = self.mails(name)
        assert f"{name}@{WHO} is critical" in first
        assert "Over:" in last
        assert [one.cause.package for one in self.opened if one.cause.package == name] == [name]
        return incident

    async def acts_are_audited_once(self, name: str, *steps: Step) -> None:
        """What was decided, ordered and done is one and the same."""
        acts = await self.acts(name)
        assert [(one.step, one.attempt) for one in acts] == [
            (step, place) for place, step in enumerate(steps, 1)
        ]
        ordered = [one for one in acts if one.step is not Step.GIVE_UP]
        page = await self.ask(FindTargets(occurred_at=now(), issuer=HEALTH, agent_id=WHO, limit=200))
        ids = {one.id for one in ordered}
        targets = [one for one in page.targets if one.id in ids]
        assert len(targets) == len(ordered)
        audit = [one for one in await self.audit() if one.subject in {str(each) for each in ids}]
        assert sorted(one.subject for one in audit) == sorted(str(one) for one in ids)
        assert {(one.actor.partition("@")[0], one.decision) for one in audit} <= {(HEALTH, "allowed")}

    async def audit(self) -> list[Any]:
        """Every submission in the audit."""
        entries: list[Any] = []
        after = 0
        while True:
            page = await self.ask(ReadAudit(occurred_at=now(), after=after, limit=100))
            entries += [one for one in page.entries if one.action == "command.submit"]
            if not page.entries:
                return entries
            after = page.entries[-1].sequence

    def healths(self, name: str) -> list[str]:
        """How a package was judged, one change after the other, once it was known; causes left aside."""
        found = [str(one.now.health) for one in self.health if one.package == name and one.now]
        found = found[found.index("ok") :] if "ok" in found else []
        return [health for health, _ in groupby(found)]


def _settings(hook: WebhookReceiver, sink: MailSink, **more: str) -> dict[str, str]:
    channels = {
        "dead": {"kind": "webhook", "url": f"http://127.0.0.1:{free_port()}/"},
        "hook": {"kind": "webhook", "url": hook.url()},
        "mail": {
            "kind": "smtp", "host": "127.0.0.1", "port": sink.port, "security": "none",
            "sender": "muster@example.com", "to": ["ops@example.com"],
        },
    }  # fmt: skip
    notifications: dict[str, Any] = {
        "settle_seconds": 0, "calm_seconds": 1, "group_wait_seconds": 0, "group_interval_seconds": 0,
        "notices_per_minute": 1000, "egress": {"networks": ["127.0.0.0/8"]}, "channels": channels,
    }  # fmt: skip
    told = {
        f"HEALTH_RECOVERY_NOTIFICATIONS__{key.upper()}": json.dumps(value)
        for key, value in notifications.items()
        if key != "egress"
    }
    return told | {
        "HEALTH_RECOVERY_NOTIFICATIONS__EGRESS__NETWORKS": json.dumps(notifications["egress"]["networks"]),
        "HEALTH_RECOVERY_RECOVERY__SETTLE_SECONDS": "0.3",
        "HEALTH_RECOVERY_RECOVERY__BUDGET_PERCENT": "100",
        **more,
    }


@asynccontextmanager
async def standing(directory: Path, **more: str) -> AsyncIterator[Stand]:
    async with WebhookReceiver() as hook, MailSink() as sink:
        plane = ControlPlane(WHO, health=True, settings=_settings(hook, sink, **more))
        async with plane:
            made = Stand(plane, directory / "packages", hook, sink)
            made.packages.mkdir()
            await made.listen()
            settings = {"HOST_AGENT_LOG_DIR": str(directory / "log")}
            try:
                with host_agent(plane, WHO, packages=[made.packages], settings=settings):
                    yield made
            finally:
                for left in _left_in(made.packages):
                    left.kill()


def _left_in(directory: Path) -> list[psutil.Process]:
    """Processes of packages: an agent that is killed leaves them running."""
    found = []
    for one in psutil.process_iter():
        try:
            if Path(one.cwd()).is_relative_to(directory):
                found.append(one)
        except psutil.Error:
            continue
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stand]:
    async with standing(tmp_path_factory.mktemp("shows")) as made:
        yield made


# What falls ill -------------------------------------------------------------------------------------------


async def test_what_is_killed_and_not_its_agents_to_restart_is_restarted_once(stand: Stand) -> None:
    stand.sleeper("killed", restart={"policy": "never"})
    await stand.is_("killed", Health.OK)
    os.kill(stand.pid("killed"), signal.SIGKILL)
    incident = await stand.was_told_once("killed")
    assert (incident.reason, incident.tried) == ("exited", ["restart: succeeded"])
    await stand.acts_are_audited_once("killed", Step.RESTART)
    assert stand.healths("killed") == ["ok", "critical", "ok"]


@pytest.mark.soak
async def test_what_its_agent_restarts_is_no_business_of_recovery(stand: Stand) -> None:
    stand.sleeper("revived")
    await stand.is_("revived", Health.OK)
    before = stand.pid("revived")
    os.kill(before, signal.SIGKILL)
    await until(lambda: stand.pid("revived") != before, PATIENCE)
    told = await stand.why("revived", lambda told: all(one.health is Health.OK for one in told.checks))
    assert (told.package.health, told.acts, stand.healths("revived")) == (Health.OK, [], ["ok"])


@pytest.mark.soak
async def test_what_hangs_is_seen_by_its_check_and_restarted_once(stand: Stand) -> None:
    stand.sleeper("hung")
    await stand.is_("hung", Health.OK)
    os.kill(stand.pid("hung"), signal.SIGSTOP)
    incident = await stand.was_told_once("hung")
    [seen] = [one for one in stand.changes if one.package == "hung" and one.now is Health.CRITICAL]
    assert (seen.looks, seen.reason) == (QUICK["failures"], "stopped")
    assert incident.text.startswith(("process: ", "started again"))
    await stand.acts_are_audited_once("hung", Step.RESTART)
    assert stand.healths("hung") == ["ok", "critical", "ok"]


@pytest.mark.soak
async def test_what_leaks_past_its_limit_is_restarted_once(stand: Stand) -> None:
    check = {"kind": "process", "memory_critical_bytes": LIMIT}
    home = stand.put("leaky", [sys.executable, "-I", "-S", "-c", LEAK], {"name": "memory", "check": check})
    await stand.is_("leaky", Health.OK)
    (home / "leak").touch()
    await stand.was_told_once("leaky")
    [seen] = [one for one in stand.changes if one.package == "leaky" and one.now is Health.CRITICAL]
    assert (seen.looks, seen.reason) == (QUICK["failures"], "memory")
    await stand.acts_are_audited_once("leaky", Step.RESTART)
    assert stand.healths("leaky") == ["ok", "critical", "ok"]


@pytest.mark.soak
async def test_a_wrong_page_that_no_restart_mends_is_given_up_and_is_over_when_somebody_mends_it(
    stand: Stand,
) -> None:
    home, _ = stand.page("site")
    await stand.is_("site", Health.OK)
    (home / "body").write_text("oh dear")
    told = await stand.why("site", lambda told: told.recovery and told.recovery.hold is Hold.CRASH_LOOP)
    assert told.package.check == "page"
    assert told.incident
    assert (str(told.incident.cause), told.incident.gave_up) == (f"site@{WHO}", True)
    assert (told.recovery.next_step, told.recovery.next_at) == (None, None) if told.recovery else None
    (home / "body").write_text("well again")
    incident = await stand.was_told_once("site")
    assert incident.tried[:2] == ["restart: succeeded"] * 2
    assert incident.tried[2].startswith("gave up: it is still ill after 2 acts")
    await stand.acts_are_audited_once("site", Step.RESTART, Step.RESTART, Step.GIVE_UP)
    assert stand.healths("site") == ["ok", "critical", "ok"]


async def test_a_database_that_is_down_is_blamed_for_its_dependent_which_is_left_alone(stand: Stand) -> None:
    _, port = stand.page("db", restart={"policy": "never"}, recovery={**POLICY, "enabled": False})
    stand.page("app", port, depends_on=["db"])
    await stand.is_("app", Health.OK)
    os.kill(stand.pid("db"), signal.SIGKILL)
    told = await stand.is_("app", Health.CRITICAL)
    told = await stand.why("app", lambda told: told.package.cause and told.incident)
    assert [one.package for one in told.chain] == ["db"]
    assert told.incident
    assert [str(one) for one in told.incident.affected] == [f"app@{WHO}"]
    assert (told.recovery and told.recovery.hold, told.acts) == (Hold.SUPPRESSED, [])

    await stand.run("packages", "start", "db")
    await stand.was_told_once("db")
    await stand.is_("app", Health.OK)
    assert (await stand.acts("app"), stand.told("app")) == ([], [])
    assert stand.healths("app") == ["ok", "critical", "ok"]


@pytest.mark.soak
async def test_history_and_availability_tell_the_same_story(stand: Stand) -> None:
    stand.sleeper("story", restart={"policy": "never"})
    await stand.is_("story", Health.OK)
    os.kill(stand.pid("story"), signal.SIGKILL)
    await stand.over("story")
    page = await stand.ask(GetHealthHistory(occurred_at=now(), agent_id=WHO, package="story"))
    last, ill, *_ = page.events
    assert [str(one.now) for one in page.events[:3]] == ["ok", "critical", "ok"]
    assert (last.duration_seconds, ill.reason) == (None, "exited")
    assert ill.at + timedelta(seconds=ill.duration_seconds) == last.at
    told = await stand.ask(GetAvailability(occurred_at=now(), agent_id=WHO, package="story"))
    assert told.failures == 1
    assert told.ill_seconds == pytest.approx(ill.duration_seconds, abs=0.001)
    assert told.mean_seconds_to_recovery == pytest.approx(told.ill_seconds, abs=0.001)
    known = (told.until - told.since).total_seconds() - told.unknown_seconds
    assert told.percent == pytest.approx(100 * (1 - told.ill_seconds / known), abs=0.1)
    said = await stand.run("health", "availability", "story")
    assert said.split("\n")[1].split()[:2] == [WHO, "story"]


# What is not healed --------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_a_crash_loop_of_its_agent_is_one_incident_and_no_act(stand: Stand) -> None:
    restart = {"delay_seconds": 0.1, "longest_delay_seconds": 0.3, "crash_loop_after": 3}
    stand.put("dying", ["/bin/sh", "-c", "sleep 0.3; exit 1"], restart=restart)

    def loops() -> int:
        states = [one.now for one in stand.states if one.package == "dying"]
        return states.count(PackageState.CRASH_LOOP)

    told = await stand.why("dying", lambda told: told.incident)
    ended = loops()
    await until(lambda: loops() >= ended + 2, PATIENCE)
    told = await stand.is_("dying", Health.CRITICAL)
    assert told.package.reason == "crash-loop"
    assert (told.recovery and told.recovery.hold, told.acts) == (Hold.CRASH_LOOP, [])
    [health] = [
        one
        for one in stand.health
        if one.package == "dying" and one.now and one.now.health is Health.CRITICAL
    ]
    assert health.now
    await stand.run("packages", "stop", "dying")
    await stand.over("dying")
    assert stand.told("dying") == ["firing", "resolved"]


@pytest.mark.soak
async def test_one_that_always_dies_is_tried_so_often_and_no_more_until_somebody_says_so(
    stand: Stand,
) -> None:
    stand.put(
        "hopeless", ["/bin/sh", "-c", "sleep 0.3; exit 1"], restart={"policy": "never"},
        recovery={**POLICY, "restarts": 5, "acts_per_window": 2},
    )  # fmt: skip
    await stand.why("hopeless", lambda told: told.recovery and told.recovery.hold is Hold.CRASH_LOOP)
    first = [one.step for one in await stand.acts("hopeless")]
    assert first == [Step.RESTART, Step.RESTART, Step.GIVE_UP]
    await until(lambda: stand.told("hopeless"), PATIENCE)
    said = await stand.run("recovery", "ack", "hopeless")
    assert "hopeless" in said

    async def again() -> bool:
        steps = [one.step for one in await stand.acts("hopeless")]
        return steps == first * 2

    await until(again, PATIENCE, every=0.2)
    await stand.run("packages", "stop", "hopeless")
    await stand.over("hopeless")


@pytest.mark.parametrize(("order", "reason"), [("stop", "stopped"), ("pause", "paused")])
async def test_what_a_person_stopped_or_paused_is_not_recovered(
    stand: Stand, order: str, reason: str
) -> None:
    name = f"{reason}-by-a-person"
    home, _ = stand.page(name, recovery={**POLICY, "delay_seconds": 3600, "longest_delay_seconds": 3600})
    await stand.is_(name, Health.OK)
    await stand.run("packages", order, name)
    told = await stand.why(name, lambda told: told.package.reason == reason)
    (home / "body").write_text("oh dear")
    await _something_else_is_recovered(stand, f"after-{name}")
    told = await stand.why(name, lambda told: told.package.reason == reason)
    assert (told.acts, told.incident, stand.told(name)) == ([], None, [])


async def _something_else_is_recovered(stand: Stand, name: str) -> None:
    """Recovery has looked at everything meanwhile: it did this."""
    stand.sleeper(name, restart={"policy": "never"})
    await stand.is_(name, Health.OK)
    os.kill(stand.pid(name), signal.SIGKILL)
    await until(lambda: stand.healths(name) == ["ok", "critical", "ok"], PATIENCE)
    assert len(await stand.acts(name)) == 1


@pytest.mark.soak
async def test_in_maintenance_nothing_is_told_or_done_and_afterwards_both_are(stand: Stand) -> None:
    stand.sleeper("worked-on", restart={"policy": "never"})
    await stand.is_("worked-on", Health.OK)
    window = SetMaintenance(
        occurred_at=now(), selector=f"id={WHO}", package="worked-on", until=now() + timedelta(hours=1), by=BY
    )
    windows = (await stand.ask(window)).windows
    os.kill(stand.pid("worked-on"), signal.SIGKILL)
    await _something_else_is_recovered(stand, "elsewhere")
    told = await stand.is_("worked-on", Health.CRITICAL)
    assert told.package.maintenance
    assert (told.recovery and told.recovery.hold) is Hold.MAINTENANCE
    assert (told.acts, told.incident, stand.told("worked-on")) == ([], None, [])
    [one] = [each for each in windows if each.package == "worked-on"]
    await stand.ask(EndMaintenance(occurred_at=now(), id=one.id, by=BY))
    await stand.was_told_once("worked-on")
    await stand.acts_are_audited_once("worked-on", Step.RESTART)


@pytest.mark.soak
async def test_a_pause_holds_recovery_and_resuming_lets_it_go_on(stand: Stand) -> None:
    stand.sleeper("waiting", restart={"policy": "never"})
    await stand.is_("waiting", Health.OK)
    await stand.ask(PauseRecovery(occurred_at=now(), selector=f"id={WHO}", by=BY, text="a test"))
    try:
        os.kill(stand.pid("waiting"), signal.SIGKILL)
        told = await stand.why("waiting", lambda told: told.recovery and told.incident)
        assert told.recovery
        assert (told.recovery.hold, told.acts) == (Hold.PAUSED, [])
        assert "a test" in told.recovery.hold_text
        assert "a test" in await stand.run("recovery")
    finally:
        await stand.ask(ResumeRecovery(occurred_at=now(), by=BY))
    await stand.was_told_once("waiting")
    await stand.acts_are_audited_once("waiting", Step.RESTART)


@pytest.mark.soak
async def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path) -> None:
    async with standing(tmp_path, HEALTH_RECOVERY_RECOVERY__DRY_RUN="true") as stand:
        stand.sleeper("killed", restart={"policy": "never"})
        await stand.is_("killed", Health.OK)
        os.kill(stand.pid("killed"), signal.SIGKILL)
        told = await stand.why("killed", lambda told: told.recovery and told.recovery.gave_up_at)
        assert [(one.step, one.dry_run, one.state) for one in told.acts[::-1]] == [
            (Step.RESTART, True, None),
            (Step.RESTART, True, None),
            (Step.GIVE_UP, True, None),
        ]
        assert (await stand.ask(GetRecoveryStatus(occurred_at=now()))).dry_run
        assert (await stand.ask(FindTargets(occurred_at=now()))).targets == []
        assert told.package.state is PackageState.EXITED
        assert "dry run" in (await stand.run("recovery")).lower()


# Bad input -----------------------------------------------------------------------------------------------


async def test_an_invalid_check_is_named_with_file_and_key_and_nothing_else_suffers(stand: Stand) -> None:
    stand.put("wrong", SLEEPER, {"name": "page", "check": {"kind": "http", "url": "ftp://nowhere"}})
    told = await stand.why("wrong", lambda told: told.recovery)
    assert told.recovery
    assert (told.package.reason, told.recovery.hold, told.acts) == ("invalid", Hold.DISABLED, [])
    for said in (await stand.run("packages", "show", "wrong"), await stand.run("health", "why", "wrong")):
        assert "package.json" in said
        assert "url" in said
    (stand.packages / "wrong" / "package.json").unlink()
    await stand.over("wrong")


@pytest.mark.soak
async def test_an_unreachable_webhook_keeps_nobody_else_from_being_told(stand: Stand) -> None:
    answer = await stand.ask(TestNotification(occurred_at=now(), by=BY))
    assert {one.channel: one.ok for one in answer.deliveries} == {"dead": False, "hook": True, "mail": True}
    said = await stand.run("health", "notify-test", code=1)
    assert "dead" in said


@pytest.mark.soak
async def test_a_template_that_is_wrong_is_named_with_its_line_and_nothing_starts(tmp_path: Path) -> None:
    config = tmp_path / "health.yaml"
    config.write_text(
        "database_url: sqlite+aiosqlite:///" + str(tmp_path / "health.db") + "\n"
        "notifications:\n  channels:\n    chat:\n      kind: webhook\n      url: http://127.0.0.1:1/\n"
        "      template: |\n        {\n        {{ nobody.knows }}\n        }\n"
    )
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "health-recovery"), "--config", str(config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode
    assert "Traceback" not in said.decode()
    for word in ("chat", "template", "line 2", "nobody"):
        assert word in said.decode()


@pytest.mark.soak
async def test_a_script_that_ignores_sigterm_is_killed_as_a_tree_and_is_named(stand: Stand) -> None:
    script = "trap '' TERM; /bin/sleep 997 & wait; wait; /bin/sleep 997"
    check = {"kind": "script", "command": ["/bin/sh", "-c", script]}
    stand.put(
        "stubborn", SLEEPER,
        {"name": "script", "check": check, "every_seconds": 2, "timeout_seconds": 0.5, "failures": 1,
         "purpose": "readiness"},
    )  # fmt: skip
    told = await stand.is_("stubborn", Health.CRITICAL)
    assert (told.package.check, told.acts) == ("script", [])
    assert "script" in await stand.run("health", "why", "stubborn")
    await until(
        lambda: not [one for one in _left_in(stand.packages / "stubborn") if "997" in _line(one)], PATIENCE
    )
    await stand.run("packages", "stop", "stubborn")


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.soak
async def test_a_script_that_prints_a_gigabyte_is_bounded_and_named(stand: Stand) -> None:
    check = {"kind": "script", "command": ["/bin/sh", "-c", "yes | head -c 1000000000"]}
    stand.put(
        "chatty", SLEEPER,
        {"name": "script", "check": check, "every_seconds": 2, "timeout_seconds": 60, "failures": 1},
    )  # fmt: skip
    told = await stand.why("chatty", lambda told: [one for one in told.checks if one.reason == "output"])
    assert (told.package.health, told.acts) == (Health.UNKNOWN, [])
    assert len(told.package.text) <= LONGEST_TEXT
    assert "killed after 1 MiB of output" in await stand.run("health", "why", "chatty")
    await stand.run("packages", "stop", "chatty")
