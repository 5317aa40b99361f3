"""What the benchmarks of orders share: real agents that obey, and an operator who orders and sees results."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from tests.bench.measure import eventually

from muster_bus.broker import Identity
from muster_bus.errors import AskFailed, NoAnswer
from muster_client import Fleet
from muster_contracts.command.v1 import Body, CommandState, Settled, Submit
from muster_contracts.fleet.v1 import Presence
from muster_contracts.package.v1 import ListPackages, PackageState, StopPackage
from muster_testing.control_plane import ControlPlane
from muster_testing.hosts import host_agent

PACKAGES = 10
"""Of each agent; each is a lane of its own."""
_SLEEP = shutil.which("sleep") or "/bin/sleep"
_TRUE = shutil.which("true") or "/bin/true"
_RESULT_SECONDS = 60.0


@dataclass
class Results:
    """Every end that was heard, and who waits for it."""

    heard: Counter[tuple[UUID, str]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    _waiting: dict[UUID, tuple[int, "asyncio.Future[None]"]] = field(default_factory=dict)

    def expect(self, command_id: UUID, targets: int) -> "asyncio.Future[None]":
        """Done once so many targets of the command have ended."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[command_id] = targets, future
        return future

    def take(self, fact: Settled) -> None:
        """One target has ended."""
        self.heard[fact.target.id, fact.agent_id] += 1
        if fact.target.state is not CommandState.SUCCEEDED:
            self.failed[f"{fact.target.state}: {fact.target.text}"] += 1
        if waiting := self._waiting.pop(fact.target.id, None):
            left, future = waiting[0] - 1, waiting[1]
            if left:
                self._waiting[fact.target.id] = left, future
            elif not future.done():
                future.set_result(None)

    @property
    def doubled(self) -> int:
        """Ends that were told more than once."""
        return sum(count > 1 for count in self.heard.values())


@dataclass
class Stand:
    """A control plane with its agents, and an operator who hears every result."""

    plane: ControlPlane
    fleet: Fleet
    results: Results

    async def order(self, body: Body, selector: str, targets: int = 1) -> float:
        """Order, and wait until every result is visible; the seconds it took."""
        loop = asyncio.get_running_loop()
        began, now = loop.time(), datetime.now(UTC)
        question = Submit(
            occurred_at=now, command_id=uuid4(), issuer="bench", selector=selector, body=body,
            not_after=now + timedelta(minutes=5),
        )  # fmt: skip
        settled = self.results.expect(question.command_id, targets)
        taken = await self.fleet.ask(question, slow=20)
        if taken.targets != targets:
            raise RuntimeError(f"cannot measure: {selector} are {taken.targets} agents, not {targets}")
        await asyncio.wait_for(settled, _RESULT_SECONDS)
        return loop.time() - began

    def check(self) -> None:
        """Every result so far was a success, and was told once.

        Raises:
            RuntimeError: one was not; a speed without effects is none.
        """
        if self.results.failed:
            raise RuntimeError(f"cannot measure: orders failed: {self.results.failed.most_common(3)}")

    async def all_online(self, agents: int) -> bool:
        """Whether so many agents are known to be there."""
        summary = await self.fleet.summary()
        return summary.by_state.get(Presence.ONLINE, 0) >= agents


@asynccontextmanager
async def stand(
    hosts: Iterable[str], others: Iterable[Identity] = (), packages: int = PACKAGES
) -> AsyncIterator[Stand]:
    """Everything runs: the hosts are online and so many packages on each. Everything ends with the block."""
    names = list(hosts)
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(ControlPlane(*names, others=others, orders=True))
        fleet = await stack.enter_async_context(Fleet.connect(plane.settings("operator"), within=10))
        here = Stand(plane, fleet, Results())
        watching = asyncio.create_task(_watch(here))
        stack.callback(watching.cancel)
        for name in names:
            _host(stack, plane, name, packages)
        stack.push_async_callback(_stop_packages, here, names, packages)
        await eventually(lambda: here.all_online(len(names)), seconds=60, every=0.1)
        for name in names:
            await eventually(partial(_all_run, here, name, packages), seconds=60, every=0.1)
        yield here


async def _watch(here: Stand) -> None:
    async with here.fleet.watch(Settled) as facts:
        async for fact in facts:
            here.results.take(fact)


def _host(stack: AsyncExitStack, plane: ControlPlane, name: str, count: int) -> None:
    """A host-agent with packages that only sleep and a script that does nothing; started."""
    packages = plane.directory / f"{name}-packages"
    for number in range(count):
        package(packages / f"p{number}", f"p{number}")
    policy = {"scripts": {"nothing": {"command": [_TRUE]}}}
    settings = {"HOST_AGENT_LOG_DIR": str(plane.directory / f"{name}-log")}
    agent = host_agent(plane, name, packages=[packages], policy=policy, settings=settings)
    agent.start()
    stack.callback(agent.kill)


def package(home: Path, name: str) -> None:
    """A package whose process does nothing and does not mind a SIGWINCH."""
    home.mkdir(parents=True)
    (home / "package.json").write_text(json.dumps({"name": name, "command": [_SLEEP, "1000"]}))


async def _all_run(here: Stand, name: str, count: int) -> bool:
    try:
        told = await here.fleet.ask(ListPackages(occurred_at=datetime.now(UTC), agent_id=name))
    except (AskFailed, NoAnswer):
        return False
    return sum(one.state is PackageState.RUNNING for one in told.packages) == count


async def _stop_packages(here: Stand, names: list[str], count: int) -> None:
    """A killed agent leaves its packages running, so they are stopped before."""
    orders = (here.order(StopPackage(package=f"p{number}"), f"id={name}")
              for name in names for number in range(count))  # fmt: skip
    await asyncio.gather(*orders)
