"""The stage: the same routes as in production, in memory."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from muster_bus import AskError, AskFailed, NobodyAnswers, Reject
from muster_bus.bus import letter_of
from muster_bus.service import Routes
from muster_bus.spool import FileSpool
from muster_contracts.agent.v1 import (
    AdoptInterval,
    AgentKind,
    Heartbeat,
    Hello,
    Introduce,
    LeaveReason,
    Left,
    Welcome,
)
from muster_contracts.bus.v1 import DeadLettered, DeadReason
from muster_runtime import Tasks
from muster_testing.loop_time import NOON, LoopClock, standstill
from muster_testing.stage import Stage, StageBus, StageCourier
from muster_testing.wait import until

EPOCH = "0123456789ab-0123456789ab"


def beat(agent_id: str = "a1") -> Heartbeat:
    return Heartbeat(occurred_at=datetime.now(UTC), agent_id=agent_id, kind=AgentKind.HOST, epoch=EPOCH,
                     sequence=1, interval_seconds=5)  # fmt: skip


def hello(agent_id: str = "a1") -> Hello:
    return Hello(occurred_at=datetime.now(UTC), agent_id=agent_id, kind=AgentKind.HOST, epoch=EPOCH,
                 agent_version="1", interval_seconds=5)  # fmt: skip


def left(agent_id: str = "a1") -> Left:
    return Left(occurred_at=datetime.now(UTC), agent_id=agent_id, epoch=EPOCH, reason=LeaveReason.RESTART)


def registry(bus: StageBus) -> Routes:
    routes = Routes("fleet-registry")

    @routes.hears_batches(Heartbeat)
    async def on_beats(beats: list[Heartbeat]) -> None:
        await bus.say(*(Introduce(occurred_at=one.occurred_at, agent_id=one.agent_id) for one in beats))

    @routes.hears(Left)
    async def on_left(fact: Left) -> None:
        if fact.agent_id == "nobody":
            raise Reject("cannot know nobody")
        if fact.agent_id == "broken":
            raise ZeroDivisionError

    @routes.answers(Hello)
    async def on_hello(question: Hello) -> Welcome:
        if question.agent_id == "unwanted":
            raise AskError("conflict", "cannot welcome unwanted")
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    return routes


async def test_what_a_handler_says_is_on_the_record_when_tell_returns() -> None:
    stage = Stage()
    stage.cast("fleet-registry", registry)
    async with stage:
        await stage.tell(beat("a1"))
        await stage.tell(beat("a2"))
    assert [order.agent_id for order in stage.heard(Introduce)] == ["a1", "a2"]
    assert stage.heard(AdoptInterval) == []


async def test_services_on_one_stage_hear_each_other() -> None:
    stage, introduced = Stage(), Routes("host-agent")

    @introduced.hears(Introduce)
    async def on_introduce(order: Introduce) -> None:
        await stage.bus("a1").ask(hello(order.agent_id))

    stage.cast("fleet-registry", registry)
    stage.cast("host-agent", introduced)
    async with stage:
        await stage.tell(beat("a1"))
    assert [question.agent_id for question in stage.heard(Hello)] == ["a1"]


async def test_an_ask_is_answered_refused_or_answered_by_nobody() -> None:
    stage = Stage()
    async with stage:
        with pytest.raises(NobodyAnswers):
            await stage.ask(hello())
    stage = Stage()
    stage.cast("fleet-registry", registry)
    async with stage:
        assert (await stage.ask(hello("a7"))).agent_id == "a7"
        with pytest.raises(AskFailed, match="cannot welcome unwanted"):
            await stage.ask(hello("unwanted"))


@pytest.mark.parametrize(
    ("subject", "payload", "reason"),
    [
        ("muster.agent.v1.a1.left", b"not json", DeadReason.MALFORMED),
        ("muster.agent.v1.a2.left", left("a1").model_dump_json().encode(), DeadReason.FOREIGN_ID),
        ("muster.agent.v9.a1.heartbeat", beat().model_dump_json().encode(), DeadReason.WRONG_VERSION),
        ("muster.agent.v1.nobody.left", left("nobody").model_dump_json().encode(), DeadReason.REJECTED),
    ],
)
async def test_what_cannot_be_taken_becomes_one_dead_letter(
    subject: str, payload: bytes, reason: Any
) -> None:
    stage = Stage()
    stage.cast("fleet-registry", registry)
    async with stage:
        await stage.tell_raw(subject, payload)
    assert [letter.reason for letter in stage.heard(DeadLettered)] == [reason]


async def test_a_handler_that_fails_unexpectedly_fails_the_rehearsal_unless_it_is_forgiving() -> None:
    for forgiving in (True, False):
        stage = Stage(forgiving=forgiving)
        stage.cast("fleet-registry", registry)
        async with stage:
            if forgiving:
                await stage.tell(left("broken"))
            else:
                with pytest.raises(AssertionError, match="a handler failed"):
                    await stage.tell(left("broken"))


async def test_an_agent_on_the_stage_hears_what_is_said_to_it_alone() -> None:
    stage, heard = Stage(), []
    stage.cast("fleet-registry", registry)

    async def keep(order: Introduce) -> None:
        heard.append(order.agent_id)

    async with stage:
        await stage.bus("a1").hear(Introduce, keep, bound_to="a1")
        await stage.tell(beat("a1"))
        await stage.tell(beat("a2"))
    assert heard == ["a1"]


async def test_the_letters_of_a_spool_come_to_the_stage_when_its_courier_is_woken(tmp_path: Path) -> None:
    stage, heard = Stage(), []

    async def keep(fact: Left) -> None:
        heard.append(fact.agent_id)

    spool = FileSpool(tmp_path / "spool.db", 10)
    courier = StageCourier(stage, spool)
    async with stage, Tasks() as tasks:
        await stage.bus("operator").hear(Left, keep)
        tasks.spawn("courier", courier.run)
        await spool.put(letter_of(left("a1")))
        courier.wake()
        await until(lambda: heard == ["a1"])
        assert await spool.size() == 0
    spool.close()


@pytest.mark.looptime
async def test_the_clock_follows_the_loop_which_stands_still_while_a_thread_works() -> None:
    clock, worked = LoopClock(), asyncio.Event()
    asyncio.get_running_loop().call_later(3600, worked.set)
    thread = threading.Timer(0.05, asyncio.get_running_loop().call_soon_threadsafe, [worked.set])
    with standstill():
        thread.start()
        await worked.wait()
    assert clock.now() - NOON < timedelta(seconds=1)
    await asyncio.sleep(3600)
    assert clock.now() - NOON >= timedelta(hours=1)
