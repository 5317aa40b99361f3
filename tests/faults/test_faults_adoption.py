"""F14: the agent of twenty packages is killed with -9 again and again: they run on and no line is lost."""

import asyncio
import contextlib
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from muster_bus import AskFailed, Bus, NoAnswer
from muster_contracts.message import Answer, Ask
from muster_contracts.package.v1 import ListPackages, Package, PackageState, ReadLog
from muster_testing.ground import Ground
from muster_testing.hosts import host_agent
from muster_testing.wait import until

A = TypeVar("A", bound=Answer)

SEED = random.randrange(1 << 32)
AGENT, COUNT = "host-1", 20
LOG = {"max_bytes": 4096, "keep_files": 100}
"""So small that the agent has pieces to cut off while it is killed."""


class Packages:
    """Programs that print numbers, and write each number to a file of their own too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for number in range(COUNT):
            self._put(directory / f"p{number}")

    def _put(self, place: Path) -> None:
        place.mkdir(parents=True)
        count = f"i=0; while :; do i=$((i+1)); echo $i; echo $i >> {place}/printed; sleep 0.1; done"
        told = {"name": place.name, "command": ["sh", "-c", count], "log": LOG}
        (place / "package.json").write_text(json.dumps(told))

    def printed(self, name: str) -> int:
        """How many lines a package has printed, by its own word."""
        return len((self.directory / name / "printed").read_text().splitlines())

    def alive(self) -> set[int]:
        """The pids of the packages, by a witness that knows nothing of the agent."""
        return {one.pid for one in psutil.process_iter(["cmdline"]) if self._is_ours(one)}

    def _is_ours(self, process: psutil.Process) -> bool:
        # A child that is not yet what it will be looks like its package, but begins no session.
        ours = any(f"{self.directory}/p" in word for word in process.info["cmdline"] or ())
        with contextlib.suppress(ProcessLookupError):
            return ours and os.getsid(process.pid) == process.pid
        return False

    def end(self) -> None:
        while alive := self.alive():
            for pid in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()


@contextmanager
def some_packages(directory: Path) -> Iterator[Packages]:
    packages = Packages(directory)
    try:
        yield packages
    finally:
        packages.end()


async def controlled(bus: Bus) -> dict[str, Package]:
    """The packages by name, once the agent says that all of them run."""

    async def all_run() -> dict[str, Package]:
        told = await answer(bus, ListPackages(occurred_at=datetime.now(UTC), agent_id=AGENT))
        run = {one.name: one for one in told.packages if one.state is PackageState.RUNNING}
        return run if len(run) == COUNT else {}

    return await until(all_run, 30)


async def logged(bus: Bus, name: str) -> list[str]:
    """All that the agent has of a package's output, from its first line."""
    lines, offset, more = list[str](), 0, True
    while more:
        question = ReadLog(
            occurred_at=datetime.now(UTC), agent_id=AGENT, package=name, lines=1000, from_offset=offset
        )
        page = await answer(bus, question)
        lines += page.lines
        offset, more = page.end_offset, page.truncated
    return lines


async def answer(bus: Bus, question: Ask[A]) -> A:
    """What the agent answers, as soon as it listens to this question."""

    async def answered() -> A | None:
        with contextlib.suppress(NoAnswer, AskFailed):
            return await bus.ask(question, timeout=5)
        return None

    found = await until(answered, 30)
    assert found
    return found


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(30, marks=[pytest.mark.soak, pytest.mark.timeout(300)])], ids=["2x", "30x"]
)
async def test_a_killed_agents_packages_keep_their_pids_and_lose_no_line(tmp_path: Path, rounds: int) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    async with Ground(AGENT) as ground:
        log_dir = {"HOST_AGENT_LOG_DIR": str(tmp_path / "log")}
        agent = host_agent(ground, AGENT, packages=[tmp_path / "packages"], settings=log_dir)
        bus = await ground.bus("operator")
        with some_packages(tmp_path / "packages") as packages, agent:
            first = {name: one.pid for name, one in (await controlled(bus)).items()}
            for _ in range(rounds):
                # Where the kill hits is left to chance: in the start, in the adoption, or at rest.
                await asyncio.sleep(dice.uniform(0.0, 2.0))
                await asyncio.to_thread(agent.kill)
                assert packages.alive() == set(first.values())
                agent.start()
            last = await controlled(bus)
            assert {name: one.pid for name, one in last.items()} == first
            assert {one.restarts for one in last.values()} == {0}
            printed = {name: packages.printed(name) for name in first}
            logs = {name: await logged(bus, name) for name in first}
    assert min(printed.values()) > 10
    lost = {name: count - len(logs[name]) for name, count in printed.items() if count > len(logs[name])}
    assert lost == {}
    for lines in logs.values():
        assert lines == [str(number) for number in range(1, len(lines) + 1)]
    print(f"{rounds} kills: {COUNT} packages, 0 restarts, {sum(map(len, logs.values()))} lines, 0 lost")
