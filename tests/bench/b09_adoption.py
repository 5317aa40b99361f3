"""B9: kill -9 the agent of 20 services: how soon the next one controls them all, and how many there are.

Controlled is what the agent itself calls running, with its pid, over the bus. supervisord, where it is
installed, is killed and started again in the same way; how many services then run is counted by a witness.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.ground import Ground, ground
from tests.bench.measure import Row
from tests.bench.peers import program

from muster_agent.identity import Identity as Born
from muster_bus.broker import Identity
from muster_bus.bus import Bus
from muster_bus.errors import MusterError
from muster_contracts.message import Role
from muster_contracts.package.v1 import ListPackages, PackageState

_SERVICES = 20
_ROUNDS = 5
_SECONDS = 30.0
_SLEEP = shutil.which("sleep") or "/bin/sleep"


def run() -> list[Row]:
    """Muster's agent first, then the peer."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        took, services, restarts = asyncio.run(_agents(directory))
        peer = _supervisord(directory / "supervisord") if program("supervisord") else None
    median = statistics.median(took)
    what = f"services after {_ROUNDS} kills -9 of the agent of {_SERVICES}"
    right = services == _SERVICES
    return [
        Row("B9", "from the start of the next agent to control", median, "s", "<= 1.5 s", median <= 1.5),
        Row("B9", what, services, "", f"= {_SERVICES}", right, peer, "supervisord, after one"),
        Row("B9", "of them restarted", restarts, "", "= 0", restarts == 0),
    ]


async def _agents(directory: Path) -> tuple[list[float], int, int]:
    """Seconds to control each time, services that run in the end, and services that are not the first."""
    born = Born.ensure(directory / "state")
    seconds = str(1000 + os.getpid())  # so that our own are told from others
    _put_packages(directory / "packages", seconds)
    people = [Identity(Role.HOST_AGENT, born.agent_id, born.keypair.public)]
    async with ground(agents=people) as here:
        bus = await Bus.connect(here.settings(Role.OPERATOR), first_try_seconds=10)
        agent = _agent(here, directory)
        try:
            first = await _controlled(bus, born.agent_id)
            took = []
            for _ in range(_ROUNDS):
                agent.kill()
                agent.wait()
                began = time.perf_counter()
                agent = _agent(here, directory)
                now = await _controlled(bus, born.agent_id)
                took.append(time.perf_counter() - began)
            return took, len(_running(seconds)), len(set(now) - set(first))
        finally:
            await bus.close()
            agent.kill()
            agent.wait()
            _end(seconds)


def _put_packages(directory: Path, seconds: str) -> None:
    for number in range(_SERVICES):
        file = directory / f"bench-{number}" / "package.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"name": file.parent.name, "command": [_SLEEP, seconds]}))


def _agent(here: Ground, directory: Path) -> "subprocess.Popen[bytes]":
    environment = {
        "HOST_AGENT_SERVERS": json.dumps([here.nats.url]),
        "HOST_AGENT_STATE_DIR": str(directory / "state"),
        "HOST_AGENT_LOG_DIR": str(directory / "log"),
        "HOST_AGENT_PACKAGE_DIRS": json.dumps([str(directory / "packages")]),
        "HOST_AGENT_POLICY_FILE": str(directory / "policy.yaml"),
    }
    with (directory / "agent.log").open("ab") as log:
        program = str(Path(sys.executable).parent / "host-agent")
        return subprocess.Popen([program], env=os.environ | environment, stdout=log, stderr=log)


async def _controlled(bus: Bus, agent_id: str) -> list[int]:
    """The pids of the services, once the agent says that all run."""
    async with asyncio.timeout(_SECONDS):
        while True:
            with contextlib.suppress(MusterError):
                question = ListPackages(agent_id=agent_id, occurred_at=datetime.now(UTC))
                answer = await bus.ask(question, timeout=0.5)
                pids = [one.pid for one in answer.packages if one.state is PackageState.RUNNING and one.pid]
                if len(pids) == _SERVICES:
                    return pids
            await asyncio.sleep(0.01)


def _supervisord(directory: Path) -> int:
    """How many services run once supervisord was killed and started again."""
    directory.mkdir()
    seconds = str(2_000_000 + os.getpid())
    services = "".join(f"[program:s{n}]\ncommand={_SLEEP} {seconds}\n" for n in range(_SERVICES))
    config = directory / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
        f"pidfile={directory}/pid\nchildlogdir={directory}\n{services}"
    )
    where = program("supervisord")
    assert where
    command = [where, "-n", "-c", str(config)]
    try:
        for expected in (_SERVICES, 2 * _SERVICES):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _grow_to(expected, seconds)
            child.kill()
            child.wait()
        return len(_running(seconds))
    finally:
        _end(seconds)


def _grow_to(count: int, seconds: str) -> None:
    """Wait; not for ever, for a better supervisord would have no more services than before."""
    deadline = time.monotonic() + 5
    while len(_running(seconds)) < count and time.monotonic() < deadline:
        time.sleep(0.02)


def _running(seconds: str) -> list[int]:
    """The pids of all that sleep for so long."""
    line = f"{_SLEEP}\0{seconds}\0".encode()
    found = []
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if directory.name.isdigit() and (directory / "cmdline").read_bytes() == line:
                found.append(int(directory.name))
    return found


def _end(seconds: str) -> None:
    for pid in _running(seconds):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
