"""B14 and capability 1: ten thousand agents, one connection each, on one broker and one registry.

First what they cost at rest, then how soon a heartbeat shows, then deaths, goodbyes and cut cables: each must
be told once, soon, and as what it was.
"""

import asyncio
import math
import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.bench.ground import Ground, ground, registry
from tests.bench.measure import Row, eventually, percentile
from tests.bench.processes import Watch
from tests.bench.witness import Witness, witness

from fleet_registry.settings import Presence as PresenceSettings
from muster_contracts.fleet.v1 import GetAgent, GetSummary, Presence, Reason
from muster_testing.simulator import Fleet, Roster, Settings, SimulatedAgent

AGENTS = int(os.environ.get("MUSTER_BENCH_AGENTS", "10000"))
INTERVAL = 15.0
DEADLINE = 2.5 * INTERVAL
_REST_SECONDS = 60.0
_KILLS, _LEAVES, _MUTES = 100, 20, 20
_LOOKS = 200
_MIB = 1 << 20


@dataclass
class Scene:
    """Everything that runs."""

    here: Ground
    fleet: Fleet
    witness: Witness
    registry_pid: int


def run() -> list[Row]:
    """The whole story, about three minutes."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    roster = Roster.fresh(AGENTS)
    settings = Settings(interval=INTERVAL, sites=20)
    async with ground(roster) as here:
        with registry(here, PresenceSettings(interval_seconds=INTERVAL)) as pid:
            async with witness(here) as person, Fleet(roster, here.nats.url, settings) as fleet:
                scene = Scene(here, fleet, person, pid)
                await fleet.connect()
                await eventually(lambda: _all_online(scene), seconds=60, every=0.5)
                return await _story(scene)


async def _story(scene: Scene) -> list[Row]:
    await asyncio.sleep(INTERVAL)  # the burst of hellos is over, every beat is on its grid
    rows = await _rest(scene)
    rows += await _visibility(scene)
    chosen = random.sample(list(scene.fleet), _KILLS + _LEAVES + _MUTES)
    mutes = asyncio.ensure_future(_mutes(scene, chosen[_KILLS + _LEAVES :]))
    rows += await _kills(scene, chosen[:_KILLS])
    rows += await _leaves(scene, chosen[_KILLS : _KILLS + _LEAVES])
    rows += await mutes
    return [*rows, _nobody_else(scene)]


async def _all_online(scene: Scene) -> bool:
    question = GetSummary(occurred_at=datetime.now(UTC))
    summary = await scene.witness.bus.ask(question, timeout=10)
    return summary.by_state.get(Presence.ONLINE, 0) >= len(scene.fleet)


async def _rest(scene: Scene) -> list[Row]:
    """What broker, registry and Redis use while nothing but heartbeats happens."""
    assert scene.here.nats.process
    assert scene.here.redis.process
    pids = [scene.here.nats.process.pid, scene.registry_pid, scene.here.redis.process.pid]
    beats, watch = scene.fleet.stats.heartbeats, Watch(pids)
    await asyncio.sleep(_REST_SECONDS)
    rate = (scene.fleet.stats.heartbeats - beats) / _REST_SECONDS
    costs = watch.cost()
    broker, service, redis = (costs[pid] for pid in pids)
    both = broker + service
    what = f"{len(scene.fleet):,} agents, {rate:.0f} heartbeats/s: broker + registry"
    cpu = _shares("%", [one.cpu * 100 for one in (broker, service, redis)])
    rss = _shares("MiB", [one.rss / _MIB for one in (broker, service, redis)])
    within = both.cpu <= 0.25
    return [
        Row("B14", what, both.cpu * 100, "% of a core", "<= 25 %", within, note=cpu),
        Row("B14", "resident", both.rss / _MIB, "MiB", "<= 1024 MiB", both.rss <= 1 << 30, note=rss),
    ]


def _shares(unit: str, values: list[float]) -> str:
    broker, service, redis = values
    return f"broker {broker:.1f} {unit}, registry {service:.1f} {unit}; Redis {redis:.1f} {unit} beside"


async def _visibility(scene: Scene) -> list[Row]:
    """From a heartbeat's leaving until the registry answers with it."""
    waiting = {agent: agent.sequence for agent in random.sample(list(scene.fleet), _LOOKS)}
    looks = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 2 * INTERVAL
    while waiting and loop.time() < deadline:
        for agent in [one for one, sequence in waiting.items() if one.sequence > sequence]:
            del waiting[agent]
            looks.append(asyncio.ensure_future(_look(scene, agent)))
        await asyncio.sleep(0.005)
    p99 = percentile(await asyncio.gather(*looks), 99)
    return [Row("B14", f"heartbeat until visible, p99 of {len(looks)}", p99, "s", "<= 2 s", p99 <= 2)]


async def _look(scene: Scene, agent: SimulatedAgent) -> float:
    began, beat_at = agent.last_beat, agent.last_beat_at
    assert began
    assert beat_at

    async def visible() -> bool:
        detail = await scene.witness.bus.ask(
            GetAgent(occurred_at=datetime.now(UTC), agent_id=agent.agent_id), timeout=10
        )
        seen = detail.agent.last_seen
        return seen is not None and seen >= beat_at - timedelta(milliseconds=2)

    await eventually(visible, seconds=10, every=0.02)
    return asyncio.get_running_loop().time() - began


async def _kills(scene: Scene, agents: list[SimulatedAgent]) -> list[Row]:
    """Five a second; each must be lost once, by disconnection, within three seconds."""
    took = await asyncio.gather(*(_kill(scene, agent, number / 5) for number, agent in enumerate(agents)))
    await asyncio.sleep(3)  # time for a second verdict, if there were one
    stories = [scene.witness.of(agent.agent_id, Presence.LOST) for agent in agents]
    once = sum(len(story) == 1 and story[0].reason is Reason.DISCONNECTED for story in stories)
    p99 = percentile(took, 99)
    note = f"p50 {percentile(took, 50):.2f} s, p90 {percentile(took, 90):.2f} s, greatest {max(took):.2f} s"
    return [
        Row("cap. 1", f"kill until lost, p99 of {len(agents)}", p99, "s", "<= 3 s", p99 <= 3, note=note),
        Row(
            "cap. 1", "killed agents lost once, disconnected", once, "", f"{len(agents)}", once == len(agents)
        ),
    ]


async def _kill(scene: Scene, agent: SimulatedAgent, after: float) -> float:
    await asyncio.sleep(after)
    began = asyncio.get_running_loop().time()
    agent.kill()
    seen = await scene.witness.first(agent.agent_id, Presence.LOST, seconds=20)
    return seen.at - began if seen else math.inf


async def _leaves(scene: Scene, agents: list[SimulatedAgent]) -> list[Row]:
    """Each goodbye must be told within a second, and never be followed by a loss."""
    took = await asyncio.gather(*(_leave(scene, agent, number / 5) for number, agent in enumerate(agents)))
    within = sum(seconds <= 1 for seconds in took)
    note = f"p50 {percentile(took, 50):.2f} s, greatest {max(took):.2f} s"
    what = "goodbyes told as left within 1 s"
    return [Row("cap. 1", what, within, "", f"{len(agents)}", within == len(agents), note=note)]


async def _leave(scene: Scene, agent: SimulatedAgent, after: float) -> float:
    await asyncio.sleep(after)
    began = asyncio.get_running_loop().time()
    await agent.leave()
    seen = await scene.witness.first(agent.agent_id, Presence.LEFT, seconds=10)
    return seen.at - began if seen else math.inf


async def _mutes(scene: Scene, agents: list[SimulatedAgent]) -> list[Row]:
    """A cut cable must be told at the granted deadline: not before, and not much after."""
    over = await asyncio.gather(*(_mute(scene, agent) for agent in agents))
    good = sum(-0.05 <= seconds <= 3 for seconds in over)
    note = f"{min(over):+.2f} to {max(over):+.2f} s from the deadline of {DEADLINE:g} s"
    what = "silent agents lost at their deadline, not before"
    return [Row("cap. 1", what, good, "", f"{len(agents)}", good == len(agents), note=note)]


async def _mute(scene: Scene, agent: SimulatedAgent) -> float:
    agent.mute()
    assert agent.last_beat
    seen = await scene.witness.first(agent.agent_id, Presence.LOST, seconds=DEADLINE + 15)
    return seen.at - agent.last_beat - DEADLINE if seen and seen.reason is Reason.SILENCE else math.inf


def _nobody_else(scene: Scene) -> Row:
    lost, expected = scene.witness.count(Presence.LOST), _KILLS + _MUTES
    what = f"losses told in all, of {len(scene.fleet):,} agents"
    return Row("cap. 1", what, lost, "", f"{expected}", lost == expected, note=_errors(scene))


def _errors(scene: Scene) -> str:
    told = ", ".join(f"{count} x {text}" for text, count in scene.fleet.stats.errors.items())
    return f"simulator: {told}" if told else ""
