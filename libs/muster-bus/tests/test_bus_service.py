"""A service on FastStream: durable facts are taken once and in order, whatever happens to one of them."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from muster_bus import AskError, AskFailed, NobodyAnswers, Reject, Retry
from muster_bus.service import Routes, ServiceBus
from muster_contracts.agent.v1 import AgentKind, Hello, LeaveReason, Left, Welcome
from muster_contracts.bus.v1 import DeadLettered, DeadReason
from muster_testing.ground import Ground
from muster_testing.wait import until

EPOCH = "0123456789ab-0123456789ab"


def left(agent_id: str = "a1", **changes: Any) -> Left:
    return Left(
        occurred_at=datetime.now(UTC), agent_id=agent_id, epoch=EPOCH, reason=LeaveReason.SHUTDOWN, **changes
    )


def hello(agent_id: str = "a1") -> Hello:
    return Hello(
        occurred_at=datetime.now(UTC),
        agent_id=agent_id,
        kind=AgentKind.HOST,
        epoch=EPOCH,
        agent_version="1",
        interval_seconds=5,
    )


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("a1", "a2") as made:
        yield made


def routes_of(handler: Callable[[Left], Awaitable[None]]) -> Routes:
    routes = Routes("fleet-registry")
    routes.hears(Left)(handler)
    return routes


async def dead_letters(ground: Ground) -> list[DeadLettered]:
    heard: list[DeadLettered] = []

    async def hear(letter: DeadLettered) -> None:
        heard.append(letter)

    await (await ground.bus("operator")).hear(DeadLettered, hear)
    return heard


async def test_a_fact_said_before_the_service_started_is_heard_in_order(ground: Ground) -> None:
    agent, heard = await ground.bus("a1"), []
    said = [left() for _ in range(100)]
    for fact in said:
        await agent.say(fact)

    async def hear(fact: Left) -> None:
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        await until(lambda: len(heard) == 100)
        assert heard == said
        await agent.say(late := left())
        await until(lambda: heard[-1] == late, seconds=2)
        assert service.healthy() == []


async def test_retry_brings_the_fact_again_after_the_wait(ground: Ground) -> None:
    agent, tries = await ground.bus("a1"), []

    async def hear(fact: Left) -> None:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise Retry(after=0.1)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        await agent.say(left())
        await until(lambda: len(tries) == 3)
        assert tries[1] - tries[0] >= 0.09
        assert service.bus.counters.of("retries") == 2


async def test_reject_makes_one_dead_letter_and_the_next_fact_is_heard(ground: Ground) -> None:
    agent, letters = await ground.bus("a1"), await dead_letters(ground)
    heard: list[Left | None] = []

    async def hear(fact: Left) -> None:
        if not heard:
            heard.append(None)
            raise Reject("cannot take it")
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        await agent.say(left(), left())
        await until(lambda: len(heard) == 2 and letters)
        assert [letter.reason for letter in letters] == [DeadReason.REJECTED]
        assert letters[0].original_subject == "muster.agent.v1.a1.left"


async def test_an_ask_is_answered_or_answered_with_a_problem(ground: Ground) -> None:
    agent = await ground.bus("a1")
    routes, mood = Routes("fleet-registry"), ["good", "sorry", "broken"]

    @routes.answers(Hello)
    async def on_hello(question: Hello) -> Welcome:
        match mood.pop(0):
            case "good":
                return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)
            case "sorry":
                raise AskError("conflict", "cannot welcome a1: retired")
            case _:
                raise ZeroDivisionError

    with pytest.raises(NobodyAnswers):
        await agent.ask(hello())
    async with ServiceBus.open(ground.settings("fleet-registry"), routes):
        assert (await agent.ask(hello())).interval_seconds == 5
        with pytest.raises(AskFailed, match="cannot welcome a1") as conflict:
            await agent.ask(hello())
        assert conflict.value.code == "conflict"
        with pytest.raises(AskFailed) as internal:
            await agent.ask(hello())
        assert internal.value.code == "internal"
