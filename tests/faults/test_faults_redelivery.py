"""F3: the broker is killed within 200 ms of an ack: outcomes come again, and none counts twice."""

import asyncio
import os
import random
import re
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from muster_client import Fleet
from muster_contracts.command.v1 import GetCommand, Settled, Submit
from muster_contracts.fleet.v1 import Presence
from muster_contracts.package.v1 import RunScript
from muster_testing.control_plane import ControlPlane
from muster_testing.simulator import Fleet as SimulatedFleet
from muster_testing.simulator import Roster, Settings
from muster_testing.wait import until

SEED = random.randrange(1 << 32)
MANY = int(os.environ.get("MUSTER_FAULT_ROUNDS", "25"))
AGENTS, COMMANDS = 50, 4
"""Each round ends two hundred targets."""
HEARD = re.compile(r"^muster_store_bus_total\{.*command\.v1\.Ended.*\} ([0-9.e+]+)$", re.MULTILINE)


def heard_by_the_store(plane: ControlPlane) -> int:
    """How often an outcome reached the ledger's handler and was acknowledged, repeats included."""
    port = (plane.directory / "store.port").read_text().strip()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = [line for line in HEARD.finditer(answer.read().decode()) if '"heard"' in line[0]]
    return sum(int(float(line[1])) for line in lines)


def heard_again(plane: ControlPlane, commands: list[UUID]) -> int:
    """How many of the outcomes of all commands were repeats."""
    return heard_by_the_store(plane) - len(commands) * AGENTS


async def order_of_all(fleet: Fleet) -> UUID:
    order = Submit(
        occurred_at=datetime.now(UTC), command_id=uuid4(), issuer="f3", selector="",
        body=RunScript(script="note"), not_after=datetime.now(UTC) + timedelta(minutes=10),
    )  # fmt: skip
    return (await fleet.ask(order, within=20)).command_id


async def all_ended(fleet: Fleet, commands: list[UUID]) -> bool:
    asked = [GetCommand(occurred_at=datetime.now(UTC), command_id=command) for command in commands]
    return all([(await fleet.ask(question, within=10)).ended for question in asked])


async def a_round(plane: ControlPlane, fleet: Fleet, dice: random.Random) -> list[UUID]:
    """Two hundred outcomes, and the end of the broker while their acknowledgements are on the way."""
    before = heard_by_the_store(plane)
    commands = [await order_of_all(fleet) for _ in range(COMMANDS)]
    await until(lambda: heard_by_the_store(plane) > before, 20)
    await asyncio.sleep(dice.uniform(0, 0.2))
    await asyncio.to_thread(plane.server.restart)
    await until(lambda: all_ended(fleet, commands), 60, every=0.05)
    return commands


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(MANY, marks=[pytest.mark.soak, pytest.mark.timeout(900)])], ids=["few", "many"]
)
async def test_outcomes_that_come_again_after_a_kill_of_the_broker_count_once(rounds: int) -> None:
    print(f"seed {SEED}")
    dice, effects, roster = random.Random(SEED), Counter[tuple[str, UUID]](), Roster.fresh(AGENTS)
    async with ControlPlane(others=roster.identities, orders=True) as plane:
        habits = Settings(effect=lambda agent, terms: effects.update([(agent, terms.command_id)]))
        async with (
            SimulatedFleet(roster, plane.server.url, habits) as simulated,
            Fleet.connect(plane.settings("operator"), within=10) as fleet,
        ):
            await simulated.connect()

            async def all_online() -> bool:
                return (await fleet.summary()).by_state.get(Presence.ONLINE, 0) >= AGENTS

            await until(all_online, 30, every=0.1)
            commands: list[UUID] = []
            # A kill may miss the moment; without one that hit, the rest would prove nothing.
            while len(commands) < rounds * COMMANDS or not heard_again(plane, commands):
                assert len(commands) < (rounds + MANY) * COMMANDS, "the fault did not fire"
                commands += await a_round(plane, fleet, dice)
            said = Counter(
                (one.agent_id, one.target.id) for one in await settled(fleet, len(commands) * AGENTS)
            )
        targets = len(commands) * AGENTS
        print(f"{targets} outcomes, {heard_again(plane, commands)} of them heard again")
        assert (len(effects), max(effects.values())) == (targets, 1)
        assert (len(said), max(said.values())) == (targets, 1)


async def settled(fleet: Fleet, count: int) -> list[Settled]:
    """Every end the ledger has said, once it has said ``count``."""
    found: list[Settled] = []

    async def all_said() -> bool:
        found[:] = [
            Settled.model_validate_json(one.data) async for one in fleet.recall(Settled, timedelta(hours=1))
        ]
        return len(found) >= count

    await until(all_said, 30, every=0.3)
    return found
