"""A killed agent leaves its packages running; the next one controls the same, without second copies."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from host_agent.adapters import process_tree
from host_agent.adapters.package_log import PackageLog
from host_agent.adapters.run_records import Record, RunRecords
from muster_testing.wait import until

PROGRAM = Path(__file__).with_name("process_agent.py")
COUNTING = "i=0; while :; do i=$((i+1)); echo line $i of $$; sleep 0.01; done"


class Packages:
    """Packages in a directory, and programs that keep them."""

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.files = [self._put(f"p{number}-{os.getpid()}-{id(self)}") for number in range(count)]

    def _put(self, name: str) -> Path:
        file = self.directory / name / "package.json"
        file.parent.mkdir()
        log = {"max_bytes": 4096, "keep_files": 100}
        file.write_text(json.dumps({"name": name, "command": ["sh", "-c", COUNTING], "log": log}))
        return file

    async def agent(self, *flags: str) -> asyncio.subprocess.Process:
        arguments = [*flags, self.directory / "state", self.directory / "log", *self.files]
        return await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, *map(str, arguments), stdout=asyncio.subprocess.PIPE
        )

    def alive(self) -> set[int]:
        """The main processes of these packages, by a witness that knows nothing of records."""
        marks = [f"MUSTER_PACKAGE={file.parent.name}\0".encode() for file in self.files]
        found = set()
        for status in process_tree.everybody():
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{status.pid}/environ").read_bytes()
                if status.session == status.pid and any(mark in environment for mark in marks):
                    found.add(status.pid)
        return found

    def end(self) -> None:
        while pids := self.alive():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


@pytest.fixture
async def packages(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Packages]:
    made = Packages(tmp_path, getattr(request, "param", 3))
    yield made
    made.end()


async def told(agent: asyncio.subprocess.Process) -> dict[str, int]:
    """The pids an agent says its packages have."""
    assert agent.stdout
    found = {}
    while (line := (await agent.stdout.readline()).decode().strip()) != "ready":
        assert line
        name, pid = line.split()
        found[name] = int(pid)
    return found


async def kill(agent: asyncio.subprocess.Process) -> None:
    agent.kill()
    await agent.communicate()


@pytest.mark.parametrize("packages", [20], indirect=True)
async def test_the_next_agent_controls_the_same_20_and_no_line_is_lost(packages: Packages) -> None:
    agent = await packages.agent()
    first = await told(agent)
    for _ in range(4):
        await kill(agent)
        assert packages.alive() == set(first.values())
        agent = await packages.agent()
        assert await told(agent) == first
    await kill(agent)
    packages.end()
    for file in packages.files:
        assert printed(packages, file.parent.name) == counted(first[file.parent.name], packages, file)


def printed(packages: Packages, name: str) -> list[str]:
    log = PackageLog(packages.directory / "log" / f"{name}.log", max_bytes=4096, keep_files=100)
    offset, more, lines = 0, True, list[str]()
    while more:
        found, offset, more = log.read(1000, offset)
        lines += found
    return lines


def counted(pid: int, packages: Packages, file: Path) -> list[str]:
    """Every line from the first to the last that was printed."""
    last = int(printed(packages, file.parent.name)[-1].split()[1])
    assert last > 20
    return [f"line {number} of {pid}" for number in range(1, last + 1)]


async def test_an_agent_killed_at_any_moment_of_a_start_leaves_one_copy_at_most(packages: Packages) -> None:
    for step in range(12):
        agent = await packages.agent()
        await asyncio.sleep(0.15 + step * 0.02)  # where the kill hits is left to chance
        await kill(agent)
        assert len(packages.alive()) <= len(packages.files)
    agent = await packages.agent()
    assert set((await told(agent)).values()) == packages.alive()
    await kill(agent)


async def test_without_records_a_second_copy_of_each_is_started(packages: Packages) -> None:
    agent = await packages.agent()
    await told(agent)
    await kill(agent)
    agent = await packages.agent("forget")
    await told(agent)
    assert len(packages.alive()) == 2 * len(packages.files)
    await kill(agent)


async def test_a_run_whose_pid_was_never_written_down_is_found_by_its_mark(packages: Packages) -> None:
    agent = await packages.agent()
    first = await told(agent)
    await kill(agent)
    records = RunRecords(packages.directory / "state" / "runs")
    for name in first:
        known = records.read(name)
        assert known
        records.write(name, Record(known.run, known.boot, known.digest, known.started_at))
    agent = await packages.agent()
    assert await told(agent) == first
    await kill(agent)


async def test_a_record_of_another_boot_means_nothing(packages: Packages) -> None:
    agent = await packages.agent()
    first = await told(agent)
    await kill(agent)
    packages.end()
    records = RunRecords(packages.directory / "state" / "runs")
    for name in first:
        known = records.read(name)
        assert known
        me = process_tree.look(os.getpid())
        assert me
        records.write(name, Record(known.run, "an-earlier-boot", "", 0.0, me.pid, me.began))
    agent = await packages.agent()
    assert os.getpid() not in (await told(agent)).values()
    await until(lambda: len(packages.alive()) == len(first))
    await kill(agent)
