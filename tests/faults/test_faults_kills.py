"""Every process is killed with -9 again and again under load: no durable fact is lost, none counts twice."""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from muster_bus.streams import CONSUMERS
from muster_contracts.fleet.v1 import REGISTRY, PresenceChanged
from muster_testing.control_plane import ControlPlane
from muster_testing.hosts import host_agent
from muster_testing.simulator import Condition, Fleet, Roster, Settings
from muster_testing.simulator.agent import SimulatedAgent
from muster_testing.wait import until

SEED = random.randrange(1 << 32)
UNDAMPED = {
    "FLEET_REGISTRY_PRESENCE__INTERVAL_SECONDS": "0.5",
    "FLEET_REGISTRY_PRESENCE__FLAPPING_CHANGES": "1000000",
    "FLEET_REGISTRY_PRESENCE__PARTITION_LEAST": "1000000",
}
"""Every change is said by itself, so that history and facts can be compared one to one."""
OF_THE_REGISTRY = [one for one in CONSUMERS if one.service == REGISTRY]
"""Other services do not run here, and what is kept for them waits."""


@dataclass
class Load:
    """Agents that leave and come back all the time, and every goodbye the broker has acknowledged."""

    fleet: Fleet
    goodbyes: list[tuple[str, str]] = field(default_factory=list)

    async def churn(self, dice: random.Random) -> None:
        """One agent after the other leaves, and comes back as a new run; now and then one is killed."""
        agents = list(self.fleet)
        while True:
            agent = dice.choice(agents)
            if agent.condition is Condition.UP:
                await self._goes(agent, dice)
                await agent.restart()
            await asyncio.sleep(0.02)

    async def _goes(self, agent: SimulatedAgent, dice: random.Random) -> None:
        if dice.random() < 0.2:
            agent.kill()
            return
        epoch = agent.epoch
        with contextlib.suppress(TimeoutError):
            await agent.leave(timeout=2.0)
            self.goodbyes.append((agent.agent_id, epoch))


@asynccontextmanager
async def under_load(plane: ControlPlane, roster: Roster, dice: random.Random) -> AsyncIterator[Load]:
    """Four churners at once; at the end every agent is up and has been up for a moment."""
    async with Fleet(roster, plane.server.url, Settings(interval=0.5)) as fleet:
        await fleet.connect()
        load = Load(fleet)
        churners = [asyncio.create_task(load.churn(dice)) for _ in range(4)]
        try:
            yield load
        finally:
            for churner in churners:
                churner.cancel()
            await asyncio.gather(*churners, return_exceptions=True)
        for agent in fleet:
            await agent.restart()
        await settled(plane, fleet)


async def settled(plane: ControlPlane, fleet: Fleet) -> None:
    """Wait until the registry knows every agent's last run and has said all it has to say."""
    epochs = {agent.agent_id: agent.epoch for agent in fleet}
    js = (await plane.bus("provisioner")).client.jetstream()

    async def quiet() -> bool:
        heard = [await js.consumer_info(one.stream, one.name) for one in OF_THE_REGISTRY]
        known = dict(rows(plane, "SELECT id, epoch FROM agents WHERE state = 'online' AND id LIKE 'sim%'"))
        waiting = rows(plane, "SELECT count(*) FROM outbox")[0][0]
        return (
            known == epochs
            and waiting == 0
            and not any(one.num_pending or one.num_ack_pending for one in heard)
        )

    await until(quiet, 60, every=0.1)


def rows(plane: ControlPlane, query: str) -> list[tuple[Any, ...]]:
    """What the registry's database says."""
    with contextlib.closing(sqlite3.connect(f"file:{plane.database}?mode=ro", uri=True, timeout=10)) as db:
        return db.execute(query).fetchall()


async def said(plane: ControlPlane) -> list[PresenceChanged]:
    """Every change of presence the stream keeps, oldest first."""
    provisioner = await plane.bus("provisioner")
    js = provisioner.client.jetstream()
    subject = PresenceChanged.SUBJECT.pattern
    total = (await js.stream_info("FLEET", subjects_filter=subject)).state.subjects or {}
    inbox = await js.subscribe(subject, ordered_consumer=True)
    return [
        PresenceChanged.model_validate_json((await inbox.next_msg(timeout=10)).data)
        for _ in range(sum(total.values()))
    ]


def repeated(things: Iterable[Any]) -> list[Any]:
    """What is there more than once."""
    return [thing for thing, count in Counter(things).items() if count > 1]


async def kill_again_and_again(
    kills: dict[str, Callable[[], object]], times: int, dice: random.Random
) -> None:
    """Each victim so often, in random order, 0.1 to 0.8 s apart; every one starts again at once."""
    order = [name for name in kills for _ in range(times)]
    dice.shuffle(order)
    for name in order:
        await asyncio.sleep(dice.uniform(0.1, 0.8))
        await asyncio.to_thread(kills[name])


@pytest.mark.parametrize(
    "times", [2, pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(600)])], ids=["2x", "20x"]
)
async def test_no_durable_fact_is_lost_or_counted_twice_however_often_processes_are_killed(
    times: int,
) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    roster = Roster.fresh(40)
    async with ControlPlane("host-1", others=roster.identities, settings=UNDAMPED) as plane:
        agent = host_agent(plane, "host-1")
        with agent:
            async with under_load(plane, roster, dice) as load:
                await until(lambda: len(load.goodbyes) > 20, 30)
                await kill_again_and_again(
                    {
                        "nats-server": plane.server.restart,
                        "redis": plane.redis.restart,
                        "fleet-registry": plane.registry.restart,
                        "host-agent": agent.restart,
                    },
                    times,
                    dice,
                )
                await plane.served()
            agent.kill()
            await _every_goodbye_counts_once(plane, load)
            await _what_is_recorded_is_said(plane)


async def _every_goodbye_counts_once(plane: ControlPlane, load: Load) -> None:
    left = Counter(rows(plane, "SELECT agent_id, epoch FROM history WHERE now = 'left'"))
    sessions = Counter(rows(plane, "SELECT agent_id, epoch FROM sessions WHERE reason = 'shutdown'"))
    assert len(load.goodbyes) > 20
    assert {bye: sessions[bye] for bye in load.goodbyes if sessions[bye] != 1} == {}, (
        "goodbyes the registry lost"
    )
    assert [bye for bye, count in left.items() if count > 1] == [], "goodbyes counted twice"


async def _what_is_recorded_is_said(plane: ControlPlane) -> None:
    facts = [fact for fact in await said(plane) if not fact.agent_id.startswith("host")]
    recorded = rows(
        plane, "SELECT agent_id, now, epoch FROM history WHERE agent_id LIKE 'sim%' AND was <> now"
    )
    assert repeated(fact.message_id for fact in facts) == [], "facts said twice"
    told = Counter((fact.agent_id, str(fact.now), fact.epoch) for fact in facts)
    assert Counter(recorded) - told == Counter(), "recorded but never said"
    assert told - Counter(recorded) == Counter(), "said but never recorded"
