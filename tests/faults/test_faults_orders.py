"""F1: every process is killed with -9 again and again under orders: none is lost, none has two effects."""

import asyncio
import contextlib
import os
import random
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from muster_bus import AskFailed, NoAnswer
from muster_client import Fleet
from muster_contracts.command.v1 import ENDS, CommandState, FindTargets, Submit, Target, Terms
from muster_contracts.fleet.v1 import Presence
from muster_contracts.package.v1 import RunScript
from muster_testing.control_plane import ControlPlane
from muster_testing.hosts import host_agent
from muster_testing.program import Program
from muster_testing.simulator import Fleet as SimulatedFleet
from muster_testing.simulator import Roster, Settings
from muster_testing.wait import until

SEED = random.randrange(1 << 32)
QUICK = {
    "FLEET_REGISTRY_PRESENCE__INTERVAL_SECONDS": "1",
    "FLEET_REGISTRY_PRESENCE__PARTITION_LEAST": "1000000",
}
HOSTS = ("host-1", "host-2", "host-3")
AT_ONCE = 16


@dataclass
class Effects:
    """A file that every effect appends a line to, with O_APPEND: ``agent command``."""

    path: Path

    def __post_init__(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, agent_id: str, terms: Terms) -> None:
        os.write(self._file, f"{agent_id} {terms.command_id}\n".encode())

    def counts(self) -> Counter[tuple[str, str]]:
        """How often each command had its effect on each agent."""
        pairs = (line.split() for line in self.path.read_text().splitlines())
        return Counter((agent, command) for agent, command in pairs)

    def close(self) -> None:
        os.close(self._file)


@dataclass
class Controller:
    """Gives orders as fast as it may, each repeated until it is taken, and remembers which were."""

    fleet: Fleet
    agents: list[str]
    dice: random.Random
    taken: dict[UUID, str] = field(default_factory=dict)
    sent: set[UUID] = field(default_factory=set)

    async def order_for_ever(self) -> None:
        while True:
            await self._order(self.dice.choice(self.agents))

    async def _order(self, agent: str) -> None:
        order = Submit(
            occurred_at=datetime.now(UTC), command_id=uuid4(), issuer="f1", selector=f"id={agent}",
            body=RunScript(script="note"), not_after=datetime.now(UTC) + timedelta(minutes=10),
        )  # fmt: skip
        order = order.model_copy(
            update={"body": RunScript(script="note", arguments=[agent, str(order.command_id)])}
        )
        self.sent.add(order.command_id)
        while True:
            try:
                await self.fleet.ask(order, within=1)
            except (NoAnswer, AskFailed):
                await asyncio.sleep(0.05)
            else:
                self.taken[order.command_id] = agent
                return


@asynccontextmanager
async def ordering(fleet: Fleet, agents: list[str], dice: random.Random) -> AsyncIterator[Controller]:
    controller = Controller(fleet, agents, dice)
    orderers = [asyncio.create_task(controller.order_for_ever()) for _ in range(AT_ONCE)]
    try:
        yield controller
    finally:
        for orderer in orderers:
            orderer.cancel()
        await asyncio.gather(*orderers, return_exceptions=True)


def real_host(plane: ControlPlane, agent_id: str, effects: Effects) -> Program:
    """A host-agent whose policy lists a script that leaves a line in the effects file."""
    script = plane.directory / f"{agent_id}.sh"
    script.write_text(f'echo "$1 $2" >> {effects.path}\n')
    listed = {"note": {"command": ["/bin/sh", str(script)], "arguments": True}}
    return host_agent(plane, agent_id, policy={"scripts": listed})


async def kill_again_and_again(
    kills: dict[str, Callable[[], object]], times: int, dice: random.Random
) -> list[tuple[str, datetime]]:
    """Each victim so often, in random order; returns who was killed and when."""
    order = [name for name in kills for _ in range(times)]
    dice.shuffle(order)
    killed = []
    for name in order:
        await asyncio.sleep(dice.uniform(0.2, 1.0))
        killed.append((name, datetime.now(UTC)))
        await asyncio.to_thread(kills[name])
    return killed


async def ended(fleet: Fleet, controller: Controller) -> dict[UUID, Target]:
    """Every target of every order that was taken, once all of them have ended."""
    found: dict[UUID, Target] = {}

    async def all_ended() -> bool:
        for command_id in controller.taken.keys() - found.keys():
            page = await fleet.ask(FindTargets(occurred_at=datetime.now(UTC), command_id=command_id))
            found.update({one.id: one for one in page.targets if one.state in ENDS})
        return found.keys() >= controller.taken.keys()

    await until(all_ended, 60, every=0.2)
    return found


def judge(controller: Controller, effects: Effects, targets: dict[UUID, Target]) -> dict[str, list[object]]:
    """Lost, doubled and phantom effects; empty lists where all is well."""
    counts = effects.counts()
    known = {str(command) for command in controller.sent}
    done = [command for command, target in targets.items() if target.state is CommandState.SUCCEEDED]
    return {
        "lost": [one for one in done if not counts[controller.taken[one], str(one)]],
        "doubled": [pair for pair, count in counts.items() if count > 1],
        "phantom": [pair for pair in counts if pair[1] not in known],
    }


def recoveries(killed: list[tuple[str, datetime]], targets: Iterable[Target]) -> dict[str, list[float]]:
    """Seconds from each kill until an order given after it was done, by victim; of a host, one of its own.

    The next victims do not wait for that, so many of them are what several kills in a row took.
    """
    done = [one for one in targets if one.state is CommandState.SUCCEEDED and one.ended_at]
    found: dict[str, list[float]] = {name: [] for name, _ in killed}
    for name, at in killed:
        after = [one for one in done if one.submitted_at > at and (name not in HOSTS or one.agent == name)]
        ends = [one.ended_at for one in after if one.ended_at]
        if ends:
            found[name].append((min(ends) - at).total_seconds())
    return found


def told(seconds: dict[str, list[float]]) -> str:
    """The median and the longest of each victim, one line each."""
    lines = [
        f"  {name}: orders done again after {statistics.median(took):.1f} s, at most {max(took):.1f} s"
        for name, took in seconds.items()
        if took
    ]
    return "\n".join(lines)


def kills_of(plane: ControlPlane, hosts: Iterable[Program]) -> dict[str, Callable[[], object]]:
    return {
        "nats-server": plane.server.restart,
        "redis": plane.redis.restart,
        "fleet-registry": plane.registry.restart,
        "state-store": plane.store.restart,
        **{name: host.restart for name, host in zip(HOSTS, hosts, strict=True)},
    }


@asynccontextmanager
async def world(
    *, remembers: bool
) -> AsyncIterator[tuple[ControlPlane, Fleet, Effects, list[Program], list[str]]]:
    """A control plane, fifty simulated agents and three real ones, all of them online."""
    roster = Roster.fresh(50)
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            ControlPlane(*HOSTS, others=roster.identities, settings=QUICK, orders=True)
        )
        effects = Effects(plane.directory / "effects")
        stack.callback(effects.close)
        hosts = [stack.enter_context(real_host(plane, name, effects)) for name in HOSTS]
        settings = Settings(interval=1.0, effect=effects, remembers=remembers)
        simulated = await stack.enter_async_context(SimulatedFleet(roster, plane.server.url, settings))
        await simulated.connect()
        fleet = await stack.enter_async_context(Fleet.connect(plane.settings("operator"), within=10))
        agents = [*(one.agent_id for one in simulated), *HOSTS]

        async def all_online() -> bool:
            return (await fleet.summary()).by_state.get(Presence.ONLINE, 0) >= len(agents)

        await until(all_online, 30, every=0.1)
        yield plane, fleet, effects, hosts, agents


@pytest.mark.parametrize(
    "times", [1, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["1x", "20x"]
)
async def test_no_order_is_lost_or_has_two_effects_however_often_processes_are_killed(times: int) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    async with world(remembers=True) as (plane, fleet, effects, hosts, agents):
        # The hosts often, so that it shows when one is back.
        async with ordering(fleet, [*agents, *HOSTS * 4], dice) as controller:
            began, before = datetime.now(UTC), len(controller.taken)
            await until(lambda: len(controller.taken) > 50, 30)
            killed = await kill_again_and_again(kills_of(plane, hosts), times, dice)
            await plane.served()
            so_far = len(controller.taken)
            await until(lambda: len(controller.taken) > so_far + 50, 30)
            rate = (len(controller.taken) - before) / (datetime.now(UTC) - began).total_seconds()
        targets = await ended(fleet, controller)
        assert judge(controller, effects, targets) == {"lost": [], "doubled": [], "phantom": []}
        states = Counter(one.state for one in targets.values())
        print(f"{len(targets)} orders, {rate:.0f} a second, over {len(killed)} kills: {dict(states)}")
        print(told(recoveries(killed, targets.values())))
        # A command that was cut off by a kill of its agent says so; nothing else may have gone wrong.
        assert states.keys() <= {CommandState.SUCCEEDED, CommandState.INTERRUPTED}
        assert not any(
            one.state is CommandState.INTERRUPTED for one in targets.values() if one.agent not in HOSTS
        )


async def test_the_same_kills_double_effects_where_agents_forget_what_they_obeyed() -> None:
    dice = random.Random(SEED)
    async with (
        world(remembers=False) as (plane, fleet, effects, _, agents),
        ordering(fleet, agents, dice) as controller,
    ):

        async def doubled() -> bool:
            await asyncio.to_thread(dice.choice([plane.server.restart, plane.store.restart]))
            await plane.served()
            return bool(judge(controller, effects, {})["doubled"])

        await until(doubled, 60, every=0.3)
