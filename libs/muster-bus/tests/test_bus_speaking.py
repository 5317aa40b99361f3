"""Saying, asking and hearing, on a real broker with real permissions."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster_bus import AskError, AskFailed, FileSpool, Letter, NoAnswer, NobodyAnswers, TooLarge
from muster_bus.courier import WINDOW, NotStored
from muster_contracts.agent.v1 import AgentKind, Heartbeat, Hello, Introduce, LeaveReason, Left, Welcome
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


async def test_a_message_larger_than_its_contract_is_refused_before_it_is_sent(ground: Ground) -> None:
    agent = await ground.bus("a1")
    big = hello("a1").model_copy(update={"agent_version": "x" * 70_000})
    with pytest.raises(TooLarge, match=r"cannot say agent\.v1\.Hello: \d+ bytes, its contract allows 65536"):
        await agent.ask(big)
    before = agent.client.stats["out_msgs"]
    with pytest.raises(TooLarge):
        await agent.say(beat("a1"), left("a1").model_copy(update={"epoch": "x" * 70_000}))
    assert agent.client.stats["out_msgs"] == before


async def test_an_agent_hears_only_the_orders_given_to_it(ground: Ground) -> None:
    registry = await ground.bus("fleet-registry")
    heard: dict[str, list[Introduce]] = {"a1": [], "a2": []}

    for name, orders in heard.items():

        async def hear(order: Introduce, orders: list[Introduce] = orders) -> None:
            orders.append(order)

        await (await ground.bus(name)).hear(Introduce, hear, bound_to=name)
    await registry.say(
        Introduce(occurred_at=now(), agent_id="a1"), Introduce(occurred_at=now(), agent_id="a2")
    )

    await until(lambda: all(heard.values()))
    assert [order.agent_id for orders in heard.values() for order in orders] == ["a1", "a2"]


async def test_a_durable_fact_is_heard_live_by_whoever_watches(ground: Ground) -> None:
    agent, operator = await ground.bus("a1"), await ground.bus("operator")
    heard: list[Left] = []

    async def hear(fact: Left) -> None:
        heard.append(fact)

    await operator.hear(Left, hear)
    await agent.say(said := left("a1"))
    await until(lambda: heard == [said])


async def test_a_goodbye_is_in_its_stream_when_say_now_returns(ground: Ground, tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    agent = await ground.bus("a1", spool=spool)
    await agent.say_now(left("a1"))
    js = (await ground.bus("provisioner")).client.jetstream()
    assert (await js.stream_info("AGENT")).state.messages == 1
    assert await spool.size() == 0
    await agent.close()
    spool.close()


async def test_a_goodbye_that_the_disk_does_not_take_goes_to_its_stream(
    ground: Ground, tmp_path: Path
) -> None:
    spool = FileSpool(tmp_path / "spool", capacity=1, when_full="refuse")
    agent = await ground.bus("a1", spool=spool)
    await spool.put(Letter("0", "muster.agent.v1.a2.left", b""))
    await agent.say_now(left("a1"))
    js = (await ground.bus("provisioner")).client.jetstream()
    assert (await js.stream_info("AGENT")).state.messages == 1
    with pytest.raises(NotStored, match=r"cannot store muster\.agent\.v1\.a2\.left"):
        await agent.say_now(left("a2"), timeout=0.5)
    await agent.close()
    spool.close()


async def test_a_letter_that_is_refused_waits_and_the_others_pass_it_by(
    ground: Ground, tmp_path: Path
) -> None:
    spool = FileSpool(tmp_path / "spool")
    agent = await ground.bus("a1", spool=spool)
    await agent.say(left("a2"), left("a1"), left("a1"))

    js = (await ground.bus("provisioner")).client.jetstream()

    async def kept() -> bool:
        return (await js.stream_info("AGENT")).state.messages == 2 and await spool.size() == 1

    _: bool = await until(kept)
    assert agent.courier
    assert agent.courier.complaint
    assert "muster.agent.v1.a2.left" in agent.courier.complaint
    await agent.close()
    spool.close()


async def test_a_window_full_of_refused_letters_holds_up_nothing(ground: Ground, tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    agent = await ground.bus("a1", spool=spool)
    js = (await ground.bus("provisioner")).client.jetstream()
    await agent.say(*(left("a2") for _ in range(WINDOW)), left("a1"))

    async def kept() -> bool:
        return (await js.stream_info("AGENT")).state.messages == 1 and await spool.size() == WINDOW

    _: bool = await until(kept)
    await agent.close()
    spool.close()


async def test_the_bus_answers_with_problems_too(ground: Ground) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")
    moods = [AskError("conflict", "cannot welcome a1", known_as="a1-2"), ZeroDivisionError("a secret")]

    async def refuse(_: Hello) -> Welcome:
        raise moods.pop(0)

    with pytest.raises(NobodyAnswers, match=r"nobody answers muster\.agent\.v1\.a1\.hello"):
        await agent.ask(hello("a1"))
    await registry.answer(Hello, refuse)
    with pytest.raises(AskFailed, match="cannot welcome a1") as conflict:
        await agent.ask(hello("a1"))
    assert (conflict.value.code, conflict.value.problem.details) == ("conflict", {"known_as": "a1-2"})
    with pytest.raises(AskFailed) as internal:
        await agent.ask(hello("a1"))
    assert internal.value.code == "internal"
    assert "a secret" not in str(internal.value)


async def test_an_answer_that_takes_too_long_is_no_answer(ground: Ground) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")

    async def dawdle(_: Hello) -> Welcome:
        await asyncio.sleep(30)
        raise AssertionError

    await registry.answer(Hello, dawdle)
    with pytest.raises(NoAnswer, match=r"no answer within 0\.05 s"):
        await agent.ask(hello("a1"), timeout=0.05)


async def test_a_live_message_that_cannot_be_read_is_counted_and_the_next_is_heard(ground: Ground) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")
    heard: list[Heartbeat] = []

    async def hear(message: Heartbeat) -> None:
        if message.sequence == 1:
            raise ZeroDivisionError
        heard.append(message)

    await registry.hear(Heartbeat, hear)
    await agent.client.publish("muster.agent.v1.a1.heartbeat", b"{")
    await agent.say(beat("a1", 1), beat("a1", 2))
    await until(lambda: heard)
    assert [message.sequence for message in heard] == [2]
    assert registry.counters.of("dead_letters", "malformed") == 1
    assert registry.counters.of("handler_failures", "agent.v1.Heartbeat") == 1


@pytest.mark.parametrize(
    "poison",
    [
        b"PUB muster.agent.v1.a1.hello _INBOX.a1.\xff 2\r\n{}\r\n",
        b"HPUB muster.agent.v1.a1.hello 16 18\r\nNATS/1.0 \xff\xff\xff\r\n\r\n{}\r\n",
    ],
)
async def test_bytes_that_are_no_text_deafen_nobody(ground: Ground, poison: bytes) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")
    heard: list[Hello] = []

    async def welcome(question: Hello) -> Welcome:
        heard.append(question)
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    await registry.answer(Hello, welcome)
    await agent.client._send_command(poison)
    await agent.client._flush_pending()
    assert (await agent.ask(hello("a1"))).interval_seconds == 5
    assert len(heard) == 1


async def test_a_bus_that_closes_lets_its_answers_end_and_gives_up_endless_ones(ground: Ground) -> None:
    agent, registry = await ground.bus("a1"), await ground.bus("fleet-registry")
    begun: list[bool] = []
    ended: list[dict[str, str]] = []

    async def answer(question: Hello) -> Welcome:
        begun.append(True)
        try:
            await asyncio.sleep(30 if question.labels else 0.1)
        finally:
            ended.append(question.labels)
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    await registry.answer(Hello, answer)
    endless = hello("a1").model_copy(update={"labels": {"endless": "yes"}})
    asking = asyncio.gather(agent.ask(hello("a1")), agent.ask(endless, timeout=1), return_exceptions=True)
    await until(lambda: len(begun) == 2)
    await registry.close(seconds=1)
    answers = await asking
    assert isinstance(answers[0], Welcome)
    assert isinstance(answers[1], NoAnswer)
    assert ended == [{}, {"endless": "yes"}]


async def test_what_its_stream_never_takes_is_refused_or_dropped_and_holds_up_nothing(
    ground: Ground, tmp_path: Path
) -> None:
    js = (await ground.bus("provisioner")).client.jetstream()
    config = (await js.stream_info("AGENT")).config
    await js.update_stream(config.evolve(max_msg_size=2000))
    large = left("a1").model_copy(update={"epoch": "x" * 3000})
    agent = await ground.bus("a1")
    for saying in (agent.say(large), agent.say_now(large)):
        with pytest.raises(TooLarge, match=r"cannot store muster\.agent\.v1\.a1\.left: 3\d\d\d bytes"):
            await saying

    spool = FileSpool(tmp_path / "spool")
    agent = await ground.bus("a1", spool=spool)
    with pytest.raises(TooLarge):
        await agent.say_now(large)
    assert await spool.size() == 0
    await spool.put(Letter("huge", "muster.agent.v1.a1.left", b"x" * (2 << 20)))
    await agent.say(large, left("a1"))
    await agent.settled()
    assert await spool.size() == 0
    assert (await js.stream_info("AGENT")).state.messages == 1
    assert agent.counters.of("undeliverable") == 2
    assert agent.courier
    assert agent.courier.complaint is None
    await agent.close()
    spool.close()
