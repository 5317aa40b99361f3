"""Saying, asking and hearing, on a real broker with real permissions."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster_bus import FileSpool
from muster_contracts.agent.v1 import AgentKind, Heartbeat, Hello, LeaveReason, Left, Welcome
from muster_testing.ground import Ground
from muster_testing.wait import until

EPOCH = "0123456789ab-0123456789ab"


def now() -> datetime:
    return datetime.now(UTC)


def beat(agent_id: str, sequence: int = 0) -> Heartbeat:
    return Heartbeat(
        occurred_at=now(),
        agent_id=agent_id,
        kind=AgentKind.HOST,
        epoch=EPOCH,
        sequence=sequence,
        interval_seconds=5,
    )


def hello(agent_id: str) -> Hello:
    return Hello(
        occurred_at=now(),
        agent_id=agent_id,
        kind=AgentKind.HOST,
        epoch=EPOCH,
        agent_version="1",
        interval_seconds=5,
    )


def left(agent_id: str) -> Left:
    return Left(occurred_at=now(), agent_id=agent_id, epoch=EPOCH, reason=LeaveReason.SHUTDOWN)


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("a1", "a2") as made:
        yield made


async def test_a_heartbeat_is_heard_by_the_registry(ground: Ground) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")
    heard: list[Heartbeat] = []

    async def hear(message: Heartbeat) -> None:
        heard.append(message)

    await registry.hear(Heartbeat, hear)
    said = beat("a1")
    await agent.say(said)

    await until(lambda: heard)
    assert heard == [said]


async def test_an_ask_is_answered(ground: Ground) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")

    async def welcome(question: Hello) -> Welcome:
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    await registry.answer(Hello, welcome)

    assert (await agent.ask(hello("a1"))).deadline_seconds == 12.5


async def test_a_durable_fact_waits_in_its_stream_for_the_registry(ground: Ground, tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    agent = await ground.bus("a1", spool=spool)
    await agent.say(left("a1"))
    await agent.settled()
    js = (await ground.bus("provisioner")).client.jetstream()
    assert (await js.stream_info("AGENT")).state.messages == 1
    assert await spool.size() == 0
    await agent.close()
    spool.close()
