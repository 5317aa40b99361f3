"""The command as a process: how it ends, what it loads, what the shell offers."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from muster_client.cli import completing
from muster_contracts.fleet.v1 import PresenceChanged
from muster_testing.town import Town, row

# Workers of pytest-xdist ignore SIGINT and would hand that down; a shell does not.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
MUSTER = [sys.executable, "-c", INTERRUPTIBLE + "from muster_client.cli import main; main()"]


def start(town: Town, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MUSTER, *words],
        env={**os.environ, **town.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lost(agent_id: str) -> PresenceChanged:
    told = {"agent_id": agent_id, "kind": "host", "was": "online", "now": "lost", "reason": "silence"}
    return PresenceChanged.model_validate({"occurred_at": datetime.now(UTC), **told})


@pytest.fixture
def agent_id() -> str:
    """One that no other test speaks of: a watch sees no more than it was said."""
    return f"a-{uuid4().hex[:8]}"


@pytest.fixture
def watching(town: Town, agent_id: str) -> Iterator[subprocess.Popen[str]]:
    """A watch that has shown what was said before it began."""
    town.do(town.buses["fleet-registry"].say(lost(agent_id)))
    process = start(town, "watch", "PresenceChanged", "--agent", agent_id, "--since", "1m", "--json")
    assert process.stdout
    assert agent_id in process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream
        stream.close()


def test_ctrl_c_ends_a_watch_without_a_word(watching: subprocess.Popen[str]) -> None:
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 130
    assert watching.stderr
    assert watching.stderr.read() == ""


def test_ctrl_c_leaves_a_command_going_and_says_how_to_come_back(town: Town) -> None:
    town.ledger.waiting = {"web-1"}
    process = start(town, "packages", "restart", "web", "--agent", "web-1")
    try:
        assert process.stderr
        assert process.stdout
        assert "waiting for web-1 (pending)" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        [target] = town.ledger.targets
        assert process.stderr.read().splitlines() == [
            f"the command goes on; see it with: muster command watch {target.id}",
            f"stop it with: muster command cancel {target.id}",
        ]
        assert target.state == "pending"
    finally:
        process.kill()
        process.communicate()


def test_on_a_terminal_a_command_is_painted_until_it_has_ended(town: Town) -> None:
    for number in range(40):
        town.registry.agents[f"x-{number:02}"] = row(f"x-{number:02}")
    town.ledger.waiting = {f"x-{number:02}" for number in range(10)}
    screen, inside = pty.openpty()
    process = subprocess.Popen(
        [*MUSTER, "packages", "restart", "web", "--on", "id=x-*"],
        env={**os.environ, **town.environment, "TERM": "xterm"},
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    seen = Screen(screen)
    try:
        seen.until("30 of 40")
        seen.until("10 pending, ● 30 succeeded")
        [command_id] = {target.id for target in town.ledger.targets}
        for agent in sorted(town.ledger.waiting):
            town.do(town.ledger.end(command_id, agent))
        seen.until("restart web: ● 40 succeeded")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(screen)


class Screen:
    """What a terminal was told, without what moves its cursor and colours it."""

    def __init__(self, terminal: int) -> None:
        self._terminal, self._told = terminal, b""

    def until(self, text: str) -> None:
        """Read on until the text was shown."""
        while text not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._told.decode(errors="replace")):
            ready, _, _ = select.select([self._terminal], [], [], 30)
            assert ready, self._told
            self._told += os.read(self._terminal, 65_536)


def test_a_reader_that_goes_ends_a_watch_without_a_word(
    watching: subprocess.Popen[str], town: Town, agent_id: str
) -> None:
    assert watching.stdout
    assert watching.stderr
    watching.stdout.close()

    while watching.poll() is None:
        town.do(town.buses["fleet-registry"].say(lost(agent_id)))
    assert (watching.returncode, watching.stderr.read()) == (141, "")


def test_a_pipe_that_closes_early_is_no_error(town: Town) -> None:
    pipeline = f"{shlex.join([*MUSTER, 'map'])} | head -1"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("CONTRACT")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["agents", "list", "--json"], {"rich.table", "faststream", "sqlalchemy", "redis"}),
        (["packages", "list", "--json"], {"rich.table", "faststream", "sqlalchemy", "redis"}),
        (["map", "--json"], {"rich.table", "nats", "muster_bus", "faststream"}),
    ],
)
def test_a_command_loads_no_more_than_it_needs(town: Town, words: list[str], absent: set[str]) -> None:
    spy = "import atexit,sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
    command = [sys.executable, "-c", spy + MUSTER[-1], *words]
    done = subprocess.run(
        command,
        env={**os.environ, **town.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not absent & set(done.stderr.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("muster agents list --state l", {"late", "lost", "left"}),
        ("muster watch agent.v1.H", {"agent.v1.Heartbeat", "agent.v1.Hello"}),
        (
            "muster map --contract host",
            {"host.v1.Described", "host.v1.Vitals", "host.v1.ReadVitals", "host.v1.*"},
        ),
    ],
)
def test_the_shell_is_offered_names(nowhere: Path, line: str, offered: set[str]) -> None:
    assert set(complete(line, {"MUSTER_DIR": str(nowhere)})) == offered


def test_the_shell_is_offered_what_the_fleet_knows(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "CONNECT_SECONDS", 20.0)
    monkeypatch.setattr(completing, "ANSWER_SECONDS", 20.0)
    for name, value in town.environment.items():
        monkeypatch.setenv(name, value)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(completing.agent_ids, "we").result(60) == ["web-1", "web-2"]
        assert thread.submit(completing.group_names, "").result(60) == ["web"]


@pytest.mark.parametrize("line", ["muster agents show we", "muster groups delete "])
def test_completion_without_a_fleet_offers_nothing_and_says_nothing(nowhere: Path, line: str) -> None:
    assert complete(line, {"MUSTER_DIR": str(nowhere)}) == []


def complete(line: str, environment: dict[str, str]) -> list[str]:
    """What bash would offer at the end of ``line``."""
    asked = {
        "_MUSTER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    program = "import sys; sys.argv[0] = 'muster'; " + MUSTER[-1]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()
