"""The SDK against a real broker: facts without a gap, questions that are repeated, pages read to the end."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from muster_bus import AskFailed, Bus, NobodyAnswers
from muster_client import Fleet
from muster_client.watching import Watch
from muster_contracts.agent.v1 import Heartbeat
from muster_contracts.fleet.v1 import AgentStable, Presence, PresenceChanged
from muster_contracts.host.v1 import Vitals
from muster_contracts.message import Message
from muster_testing.ground import Ground
from muster_testing.town import EPOCH, Registry, row, sample
from muster_testing.wait import until


def change(agent_id: str = "web-1", now: str = "lost") -> PresenceChanged:
    told = {
        "occurred_at": datetime.now(UTC),
        "agent_id": agent_id,
        "kind": "host",
        "was": "online",
        "now": now,
    }
    return PresenceChanged.model_validate({**told, "reason": "silence"})


def beat(sequence: int, agent_id: str = "web-1") -> Heartbeat:
    told = {"occurred_at": datetime.now(UTC), "agent_id": agent_id, "kind": "host", "epoch": EPOCH}
    return Heartbeat.model_validate({**told, "sequence": sequence, "interval_seconds": 5})


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("web-1") as made:
        yield made


@pytest.fixture
async def registry(ground: Ground) -> Bus:
    return await ground.bus("fleet-registry")


@pytest.fixture
async def fleet(ground: Ground) -> AsyncIterator[Fleet]:
    async with Fleet.connect(ground.settings("operator"), patience=20.0) as connected:
        yield connected


async def first(watch: Watch[Any], count: int) -> list[Any]:
    async with asyncio.timeout(30):
        return [await anext(watch) for _ in range(count)]


# Watching ----------------------------------------------------------------------------------------


async def test_durable_facts_come_in_order_from_the_moment_watching_began(
    fleet: Fleet, registry: Bus
) -> None:
    await registry.say(change("early-1"))
    async with fleet.watch(PresenceChanged) as facts:
        for number in range(20):
            await registry.say(change(f"a-{number}"))
        seen = await first(facts, 20)
    assert [fact.agent_id for fact in seen] == [f"a-{number}" for number in range(20)]


async def test_with_since_what_the_stream_kept_comes_first(fleet: Fleet, registry: Bus) -> None:
    for number in range(600):
        await registry.say(change(f"old-{number}"))
    async with fleet.watch(PresenceChanged, since=timedelta(minutes=5)) as facts:
        await registry.say(change("new-1"))
        seen = await first(facts, 601)
    assert [seen[0].agent_id, seen[-1].agent_id] == ["old-0", "new-1"]


async def test_facts_of_one_agent_and_of_chosen_kinds_only(fleet: Fleet, registry: Bus) -> None:
    stable = AgentStable(occurred_at=datetime.now(UTC), agent_id="web-1", presence=Presence.ONLINE)
    async with fleet.watch(PresenceChanged, agent="web-1") as facts:
        await registry.say(change("web-2"), stable, change("web-1", "online"))
        [seen] = await first(facts, 1)
    assert (seen.agent_id, seen.now) == ("web-1", Presence.ONLINE)


async def test_several_contracts_are_watched_as_one(fleet: Fleet, registry: Bus) -> None:
    stable = AgentStable(occurred_at=datetime.now(UTC), agent_id="web-1", presence=Presence.ONLINE)
    async with fleet.watch(PresenceChanged, AgentStable) as facts:
        await registry.say(change("web-2"), stable, change("web-1"))
        seen: list[Message] = await first(facts, 3)
    assert [type(fact) for fact in seen] == [PresenceChanged, AgentStable, PresenceChanged]


async def test_a_broker_that_is_restarted_costs_no_fact(ground: Ground, fleet: Fleet, registry: Bus) -> None:
    async with fleet.watch(PresenceChanged) as facts:
        await registry.say(change("a-1"))
        assert [fact.agent_id for fact in await first(facts, 1)] == ["a-1"]
        await asyncio.to_thread(ground.server.kill)
        await asyncio.to_thread(ground.server.start)
        await registry.wait_connected()
        await until(lambda: registry.connected)
        for number in range(2, 6):
            await registry.say(change(f"a-{number}"))
        seen = await first(facts, 4)
    assert [fact.agent_id for fact in seen] == [f"a-{number}" for number in range(2, 6)]


async def test_live_facts_are_watched_as_they_go_by(ground: Ground, fleet: Fleet) -> None:
    agent = await ground.bus("web-1")
    async with fleet.watch(Heartbeat, Vitals, agent="web-1") as facts:
        await agent.say(beat(1), sample("web-1"), beat(2))
        seen: list[Any] = await first(facts, 3)
    assert [type(fact) for fact in seen] == [Heartbeat, Vitals, Heartbeat]


async def test_what_cannot_be_read_is_skipped_and_counted(ground: Ground, fleet: Fleet) -> None:
    agent = await ground.bus("web-1")
    async with fleet.watch(Heartbeat) as facts:
        await agent.client.publish("muster.agent.v1.web-1.heartbeat", b"{")
        await agent.say(beat(7))
        [seen] = await first(facts, 1)
    assert (seen.sequence, facts.skipped) == (7, 1)


async def test_watching_begins_at_the_first_step_without_a_with(fleet: Fleet, registry: Bus) -> None:
    facts = fleet.watch(PresenceChanged, since=timedelta(minutes=1))
    await registry.say(change("a-1"))
    async for fact in facts:
        assert fact.agent_id == "a-1"
        break
    await facts.close()


# Asking ------------------------------------------------------------------------------------------


async def test_a_question_is_repeated_until_somebody_answers(fleet: Fleet, registry: Bus) -> None:
    asking = asyncio.create_task(fleet.summary())
    await until(lambda: fleet.bus.counters.of("asked") >= 2)
    await Registry().listen(registry)
    assert (await asking).total == 0


async def test_patience_ends(fleet: Fleet) -> None:
    began = time.monotonic()
    with pytest.raises(NobodyAnswers):
        await fleet.ask(question := _summary(), within=0.3)
    assert time.monotonic() - began < 5
    assert question.message_id


def _summary() -> Any:
    from muster_contracts.fleet.v1 import GetSummary

    return GetSummary(occurred_at=datetime.now(UTC))


async def test_a_refusal_is_final_and_has_a_code(fleet: Fleet, registry: Bus) -> None:
    town = Registry()
    await town.listen(registry)
    with pytest.raises(AskFailed) as refused:
        await fleet.agent("nobody-1")
    assert refused.value.code == "not-found"
    assert len(town.asked) == 1


async def test_agents_and_histories_are_read_page_by_page(fleet: Fleet, registry: Bus) -> None:
    town = Registry()
    town.agents = {f"a-{number:04}": row(f"a-{number:04}") for number in range(1001)}
    await town.listen(registry)
    assert [agent.id async for agent in fleet.agents()] == sorted(town.agents)
    assert [event.event async for event in fleet.history("a-0001")] == [
        "online",
        "lost",
        "online",
        "expected",
    ]
    assert len(town.asked) == 5
