"""The command as a process: how it ends, what it loads, what the shell offers."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster_contracts.fleet.v1 import PresenceChanged
from muster_testing.town import Town

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


def lost() -> PresenceChanged:
    told = {"agent_id": "web-1", "kind": "host", "was": "online", "now": "lost", "reason": "silence"}
    return PresenceChanged.model_validate({"occurred_at": datetime.now(UTC), **told})


@pytest.fixture
def watching(town: Town) -> Iterator[subprocess.Popen[str]]:
    """A watch that has shown what was said before it began."""
    town.do(town.buses["fleet-registry"].say(lost()))
    process = start(town, "watch", "PresenceChanged", "--since", "1m", "--json")
    assert process.stdout
    assert "web-1" in process.stdout.readline()
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


def test_a_reader_that_goes_ends_a_watch_without_a_word(watching: subprocess.Popen[str], town: Town) -> None:
    assert watching.stdout
    assert watching.stderr
    watching.stdout.close()

    while watching.poll() is None:
        town.do(town.buses["fleet-registry"].say(lost()))
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
        ("muster agents show we", {"web-1", "web-2"}),
        ("muster agents list --state l", {"late", "lost", "left"}),
        ("muster watch agent.v1.H", {"agent.v1.Heartbeat", "agent.v1.Hello"}),
        ("muster watch fle", None),
        ("muster groups delete ", {"web"}),
    ],
)
def test_the_shell_is_offered_ids_and_names(town: Town, line: str, offered: set[str] | None) -> None:
    told = complete(line, town.environment)
    assert offered is None or set(told) == offered
    assert told


def test_completion_without_a_fleet_offers_nothing_and_says_nothing(nowhere: Path) -> None:
    assert complete("muster agents show we", {"MUSTER_DIR": str(nowhere)}) == []


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
