"""A service on FastStream: durable facts are taken once and in order, whatever happens to one of them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from muster_bus import AskError, AskFailed, NobodyAnswers, Reject, Retry
from muster_bus.deadletters import DeadLetters
from muster_bus.metrics import Counters
from muster_bus.service import Routes, ServiceBus
from muster_bus.service.durable import Durable
from muster_bus.service.pulling import PULL_SECONDS
from muster_bus.service.routes import Route, Way
from muster_bus.streams import ACK_WAIT_SECONDS, reconcile
from muster_bus.tracing import continued, trace_id
from muster_contracts.agent.v1 import AgentKind, Heartbeat, Hello, Introduce, LeaveReason, Left, Welcome
from muster_contracts.bus.v1 import DeadLettered, DeadReason
from muster_testing.ground import Ground
from muster_testing.wait import until

EPOCH = "0123456789ab-0123456789ab"
QUICK: dict[str, Any] = {"reconnect_min_seconds": 0.02, "reconnect_max_seconds": 0.1}


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


GOOD = left().model_dump_json().encode()
POISON = [
    ("muster.agent.v1.a1.left", b"{", {}, DeadReason.MALFORMED),
    ("muster.agent.v1.a1.left", b'{"agent_id": "a1"}', {}, DeadReason.MALFORMED),
    ("muster.agent.v1.a1.left", b"[" * 10_000, {}, DeadReason.MALFORMED),
    ("muster.agent.v1.a1.left", b'"' + b"x" * 70_000 + b'"', {}, DeadReason.OVERSIZED),
    ("muster.agent.v1.a2.left", GOOD, {}, DeadReason.FOREIGN_ID),
    ("muster.agent.v1.a1.left", GOOD, {"Muster-Contract": "agent.v9.Left"}, DeadReason.WRONG_VERSION),
]


async def test_each_kind_of_poison_becomes_one_dead_letter_and_the_service_goes_on(ground: Ground) -> None:
    letters, heard = await dead_letters(ground), []

    async def hear(fact: Left) -> None:
        heard.append(fact)

    agents = {name: await ground.bus(name) for name in ("a1", "a2")}
    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        for subject, payload, headers, _ in POISON:
            js = agents[subject.split(".")[3]].client.jetstream()
            await js.publish(subject, payload, headers={"Nats-Msg-Id": str(uuid4()), **headers})
        await agents["a1"].say(good := left())
        await until(lambda: len(letters) == len(POISON) and heard)
        assert [letter.reason for letter in letters] == [reason for *_, reason in POISON]
        assert heard == [good]
        assert service.healthy() == []
        oversized = letters[3]
        assert (oversized.size_bytes, len(oversized.payload)) == (70_002, 8000)
        assert service.bus.counters.of("dead_letters") == len(POISON)


async def test_a_handler_that_always_fails_is_tried_often_and_then_given_up(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_bus.service.durable.MAX_FAILURES", 4)
    monkeypatch.setattr("muster_bus.service.durable.LONGEST_WAIT_SECONDS", 0.05)
    agent, letters = await ground.bus("a1"), await dead_letters(ground)
    tries: list[Left] = []

    async def hear(fact: Left) -> None:
        tries.append(fact)
        raise ConnectionError("a secret")

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        await agent.say(left())
        await until(lambda: letters)
        assert len(tries) == 4
        assert (letters[0].reason, letters[0].deliveries) == (DeadReason.EXHAUSTED, 4)
        assert "a secret" not in letters[0].detail


async def test_a_mistake_is_given_up_soon(ground: Ground) -> None:
    agent, letters = await ground.bus("a1"), await dead_letters(ground)
    tries: list[Left] = []

    async def hear(fact: Left) -> None:
        tries.append(fact)
        raise OverflowError("a secret")

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        await agent.say(left())
        await until(lambda: letters, seconds=5)
        assert len(tries) == 3
        assert (letters[0].reason, letters[0].detail) == (
            DeadReason.EXHAUSTED, "the handler failed: OverflowError",
        )  # fmt: skip


@pytest.mark.parametrize("failure", [OverflowError, ConnectionError])
async def test_a_heap_of_failing_messages_holds_nobody_up(
    ground: Ground, failure: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    bad, good, heard = await ground.bus("a1"), await ground.bus("a2"), []
    for _ in range(1500):
        await bad.client.publish("muster.agent.v1.a1.left", GOOD)
    await bad.client.flush()
    await good.say(fact := left("a2"))
    tries: list[Left] = []

    async def hear(fact: Left) -> None:
        if fact.agent_id == "a1":
            tries.append(fact)
            raise failure
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        await until(lambda: heard == [fact], seconds=5)
        assert len(tries) >= 1000
        await good.say(later := left("a2"))
        await until(lambda: heard == [fact, later], seconds=5)
        assert service.bus.counters.of("dead_letters") <= 1000
    assert sum("handler of agent.v1.Left failed" in line for line in caplog.messages) <= 2


async def test_waits_between_failures_grow(ground: Ground) -> None:
    raw = _Recorded()
    durable = Durable(
        Route(Way.DURABLE, Left, _always_fail), DeadLetters("fleet-registry", Counters(), None), Counters()
    )
    for deliveries in range(1, 10):
        raw.reply = f"$JS.ACK.AGENT.c.{deliveries}.1.1.1.0"
        raw._metadata = None
        await durable.take(raw)
    assert raw.waits == sorted(raw.waits)
    assert (raw.waits[0], raw.waits[-1]) == (1.0, 60.0)


async def test_a_fact_that_no_budget_is_left_for_comes_again_and_live_ones_cannot_spend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("muster_bus.deadletters.MAX_PER_MINUTE", 1)
    monkeypatch.setattr("muster_bus.deadletters.time", SimpleNamespace(monotonic=lambda: 60.0))
    letters: list[DeadLettered] = []
    counters, raw = Counters(), _Recorded(b"{")

    async def say(letter: DeadLettered) -> None:
        letters.append(letter)

    keeper = DeadLetters("fleet-registry", counters, say)
    durable = Durable(Route(Way.DURABLE, Left, _always_fail), keeper, counters)
    raw.reply = "$JS.ACK.AGENT.c.1.1.1.1.0"
    for _ in range(3):  # live ones; the last two are only counted
        assert await keeper.bury("muster.agent.v1.a1.heartbeat", b"{", DeadReason.MALFORMED, "")
    await durable.take(raw)
    assert (len(letters), raw.acks, raw.waits) == (2, 1, [])
    await durable.take(raw)
    assert (len(letters), raw.acks, raw.waits) == (2, 1, [1.0])
    assert counters.of("dead_letters_put_off") == 1
    monkeypatch.setattr("muster_bus.deadletters.time", SimpleNamespace(monotonic=lambda: 120.0))
    await durable.take(raw)
    assert (len(letters), raw.acks) == (3, 2)


async def _always_fail(_: Left) -> None:
    raise ConnectionError


class _Recorded(Msg):
    def __init__(self, data: bytes = GOOD) -> None:
        super().__init__(_client=None, subject="muster.agent.v1.a1.left", data=data)  # type: ignore[arg-type]
        self.waits: list[float] = []
        self.acks = 0

    async def ack(self) -> None:
        self.acks += 1

    async def nak(self, delay: float | None = None) -> None:
        assert delay is not None
        self.waits.append(delay)


async def test_facts_of_one_key_are_handled_in_order_and_hold_up_no_other(ground: Ground) -> None:
    agents = {name: await ground.bus(name) for name in ("a1", "a2")}
    routes, release, story = Routes("fleet-registry"), asyncio.Event(), []
    said = [left(name) for name in ("a1", "a1", "a1", "a2", "a2")]

    @routes.hears(Left, at_once=2, key=lambda fact: fact.agent_id)
    async def hear(fact: Left) -> None:
        if fact == said[0]:
            await release.wait()
        story.append(fact)

    await agents["a1"].say(*said[:3])
    await agents["a2"].say(*said[3:])

    async with ServiceBus.open(ground.settings("fleet-registry"), routes):
        await until(lambda: len(story) == 2)
        assert story == said[3:]
        release.set()
        await until(lambda: len(story) == 5)
        assert story[2:] == said[:3]


def test_live_facts_have_no_key() -> None:
    with pytest.raises(TypeError, match=r"cannot hear agent\.v1\.Heartbeat by key"):
        Routes("fleet-registry").hears(Heartbeat, key=lambda beat: beat.agent_id)


async def test_replicas_share_the_facts(ground: Ground) -> None:
    agent = await ground.bus("a1")
    heard: list[list[Left]] = [[], []]

    def hearing(index: int) -> Routes:
        async def hear(fact: Left) -> None:
            heard[index].append(fact)

        return routes_of(hear)

    settings = ground.settings("fleet-registry")
    async with ServiceBus.open(settings, hearing(0)), ServiceBus.open(settings, hearing(1)):
        said = [left() for _ in range(200)]
        for fact in said:
            await agent.say(fact)
        await until(lambda: sum(map(len, heard)) == 200)
        assert {fact.message_id for one in heard for fact in one} == {fact.message_id for fact in said}


async def test_facts_are_heard_again_soon_after_the_broker_was_killed(ground: Ground) -> None:
    agent, heard = await ground.bus("a1"), []

    async def hear(fact: Left) -> None:
        heard.append(fact.message_id)

    settings = ground.settings("fleet-registry", **QUICK)
    async with ServiceBus.open(settings, routes_of(hear)) as service:
        await agent.say(first := left())
        await until(lambda: heard == [first.message_id])
        ground.server.kill()
        await until(service.healthy)
        assert "no broker for" in service.healthy()[0]
        ground.server.start()
        await until(lambda: agent.connected and service.bus.connected)
        await agent.say(second := left())
        # Sooner than a pull lasts: it was asked for again at once.
        await until(lambda: heard[-1] == second.message_id, seconds=PULL_SECONDS - 1)
        await until(lambda: service.healthy() == [])


async def test_a_vanished_consumer_is_made_again_where_it_was(ground: Ground) -> None:
    agent, js = await ground.bus("a1"), (await ground.bus("provisioner")).client.jetstream()
    heard: list[Left] = []

    async def hear(fact: Left) -> None:
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        await agent.say(left(), left())
        await until(lambda: len(heard) == 2)
        await until_acked(js, 2)
        await service.look()
        await js.delete_consumer("AGENT", "fleet-registry_agent-v1-left")
        await agent.say(third := left())
        await until(service.healthy)
        await service.look()
        await until(lambda: heard[2:] == [third])
        await until(lambda: service.healthy() == [])


async def until_acked(js: JetStreamContext, count: int) -> None:
    async def acked() -> bool:
        info = await js.consumer_info("AGENT", "fleet-registry_agent-v1-left")
        return info.ack_floor is not None and info.ack_floor.stream_seq == count

    _: bool = await until(acked)


async def test_a_vanished_stream_is_complained_of_calmly_until_it_is_back(ground: Ground) -> None:
    agent, provisioner = await ground.bus("a1"), await ground.bus("provisioner")
    js, heard = provisioner.client.jetstream(), []

    async def hear(fact: Left) -> None:
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        await js.delete_stream("AGENT")
        await until(lambda: any("is missing" in complaint for complaint in service.healthy()))
        assert any("cannot look after" in complaint for complaint in await service.look())
        sent = service.bus.client.stats["out_msgs"]
        await asyncio.sleep(1)
        assert service.bus.client.stats["out_msgs"] - sent < 5
        await reconcile(js)
        await agent.say(fact := left())
        await until(lambda: heard == [fact])
        assert await service.look() == []


async def test_a_drifted_consumer_is_mended(ground: Ground) -> None:
    js = (await ground.bus("provisioner")).client.jetstream()
    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(_always_fail)) as service:
        name = "fleet-registry_agent-v1-left"
        drifted = (await js.consumer_info("AGENT", name)).config
        drifted.filter_subject, drifted.ack_wait = "muster.agent.v1.*.reconfigured", 5
        drifted.name = None
        await js.add_consumer("AGENT", drifted)
        await service.look()
        mended = (await js.consumer_info("AGENT", name)).config
        assert (mended.filter_subject, mended.ack_wait) == ("muster.agent.v1.*.left", ACK_WAIT_SECONDS)


async def test_a_service_that_stops_finishes_what_it_works_on(ground: Ground) -> None:
    agent, begun, ended = await ground.bus("a1"), asyncio.Event(), []

    async def hear(fact: Left) -> None:
        begun.set()
        await asyncio.sleep(0.2)
        ended.append(fact)

    js = (await ground.bus("provisioner")).client.jetstream()
    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        await agent.say(left())
        await begun.wait()
    assert len(ended) == 1
    await until_acked(js, 1)


async def test_a_service_may_start_before_its_broker(ground: Ground) -> None:
    ground.server.kill()
    heard: list[Left] = []

    async def hear(fact: Left) -> None:
        heard.append(fact)

    settings = ground.settings("fleet-registry", **QUICK)
    async with ServiceBus.open(settings, lambda _: [routes_of(hear)]) as service:
        assert "no broker for" in service.healthy()[0]
        ground.server.start()
        await service.bus.wait_connected()
        await (await ground.bus("a1")).say(left())
        await until(lambda: heard)


async def test_a_slow_handler_does_not_get_its_message_twice(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    js = (await ground.bus("provisioner")).client.jetstream()
    monkeypatch.setattr("muster_bus.streams.ACK_WAIT_SECONDS", 0.5)
    monkeypatch.setattr("muster_bus.service.durable.ACK_WAIT_SECONDS", 0.3)
    await reconcile(js)
    agent, heard = await ground.bus("a1"), []

    async def hear(fact: Left) -> None:
        heard.append(fact)
        await asyncio.sleep(1.2)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        await agent.say(left())
        await until_acked(js, 1)
        assert len(heard) == 1


async def test_a_slow_answer_does_not_hold_up_the_next(ground: Ground) -> None:
    agent, routes, both = await ground.bus("a1"), Routes("fleet-registry"), asyncio.Barrier(3)

    @routes.answers(Hello)
    async def on_hello(question: Hello) -> Welcome:
        await both.wait()
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes):
        answers = await asyncio.gather(*(agent.ask(hello()) for _ in range(3)))
        assert len(answers) == 3


async def test_a_question_that_cannot_be_read_is_answered_with_a_problem(ground: Ground) -> None:
    agent, routes = await ground.bus("a1"), Routes("fleet-registry")

    @routes.answers(Hello)
    async def on_hello(_: Hello) -> Welcome:
        raise AssertionError

    async with ServiceBus.open(ground.settings("fleet-registry"), routes):
        reply = await agent.client.request("muster.agent.v1.a1.hello", b'{"labels": "x"}')
        assert reply.headers
        assert reply.headers["Muster-Problem"] == "invalid"
        assert "cannot read the question agent.v1.Hello" in reply.data.decode()


async def test_live_facts_and_firehoses_are_heard_by_a_service(ground: Ground) -> None:
    agent, routes = await ground.bus("a1"), Routes("fleet-registry")
    lists: list[list[Heartbeat]] = []
    beat = Heartbeat(
        occurred_at=datetime.now(UTC),
        agent_id="a1",
        kind=AgentKind.HOST,
        epoch=EPOCH,
        sequence=1,
        interval_seconds=5,
    )

    @routes.hears_batches(Heartbeat, max_wait_seconds=0.01)
    async def on_beats(beats: list[Heartbeat]) -> None:
        lists.append(beats)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes) as service:
        await agent.say(beat)
        await until(lambda: lists == [[beat]])
        assert service.bus.counters.of("heard", "agent.v1.Heartbeat") == 1


async def test_what_a_service_may_not_hear_is_a_complaint(ground: Ground) -> None:
    routes = Routes("fleet-registry")

    @routes.hears(Introduce)
    async def on_introduce(_: Introduce) -> None:
        raise AssertionError

    async with ServiceBus.open(ground.settings("fleet-registry"), routes) as service:
        await until(service.healthy)
        assert service.healthy() == ["no permission to hear muster.agent.*.*.introduce"]


def test_a_question_cannot_be_declared_as_heard() -> None:
    with pytest.raises(TypeError, match=r"cannot hear agent\.v1\.Hello: it is a question; use answers"):
        Routes("fleet-registry").hears(Hello)


async def test_the_watchdog_looks_by_itself(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster_bus.service.watchdog.LOOK_EVERY_SECONDS", 0.05)
    js, heard = (await ground.bus("provisioner")).client.jetstream(), []

    async def hear(fact: Left) -> None:
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        await js.delete_consumer("AGENT", "fleet-registry_agent-v1-left")
        await (await ground.bus("a1")).say(fact := left())
        await until(lambda: heard == [fact])


async def test_a_fact_and_what_follows_from_it_share_a_trace(ground: Ground) -> None:
    agent, traces = await ground.bus("a1"), []

    async def hear(_: Left) -> None:
        traces.append(trace_id())

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)):
        with continued({"traceparent": "00-" + "ab" * 16 + "-b7ad6b7169203331-01"}):
            await agent.say(left())
        await until(lambda: traces == ["ab" * 16])


async def test_a_heap_of_large_messages_does_not_cut_a_service_off(ground: Ground) -> None:
    agent, heard = await ground.bus("a1"), []
    js = (await ground.bus("provisioner")).client.jetstream()
    config = (await js.stream_info("AGENT")).config
    await js.update_stream(config.evolve(max_msg_size=-1))  # as streams were before they had a bound
    for _ in range(80):
        await agent.client.publish("muster.agent.v1.a1.left", b"{" + b"x" * 1_000_000)
    await agent.client.flush()
    await agent.say(good := left())

    async def hear(fact: Left) -> None:
        heard.append(fact)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes_of(hear)) as service:
        await until(lambda: heard == [good])
        assert service.bus.counters.of("dead_letters", "oversized") == 80
        assert service.bus.counters.of("disconnects") == 0
    assert "Slow Consumer" not in ground.server.log


@pytest.mark.parametrize("by_route", [True, False])
async def test_a_service_sends_no_answer_where_the_asker_may_not_hear_it(
    ground: Ground, by_route: bool
) -> None:
    agent, operator, asked, routes = (
        await ground.bus("a1"),
        await ground.bus("operator"),
        [],
        Routes("fleet-registry"),
    )
    overheard: list[str] = []

    async def overhear(raw: Msg) -> None:
        overheard.append(raw.subject)

    for foreign in (
        "muster.agent.*.*.adopt-interval",
        "_INBOX.operator.>",
        "muster.fleet.*.*.presence-changed",
    ):
        await operator.client.subscribe(foreign, cb=overhear)
    await operator.client.flush()

    @routes.answers(Hello)
    async def on_hello(question: Hello) -> Welcome:
        asked.append(question)
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    async with ServiceBus.open(ground.settings("fleet-registry"), routes if by_route else []) as service:
        if not by_route:
            await service.bus.answer(Hello, on_hello)
        foreign_replies = (
            "muster.agent.v1.a2.adopt-interval", "muster.fleet.v1.a2.presence-changed", "_INBOX.operator.x",
            "_INBOX.a2.x", "_INBOX.a1", "_INBOX.a11.x", "_INBOX.*.x", "$JS.API.STREAM.PURGE.FLEET",
        )  # fmt: skip
        payload = hello().model_dump_json().encode()
        for reply in foreign_replies:
            await agent.client.publish("muster.agent.v1.a1.hello", payload, reply=reply)
        forged = {"correlation_id": "forged"}
        answer = await agent.client.request("muster.agent.v1.a1.hello", payload, headers=forged)
        assert Welcome.model_validate_json(answer.data).agent_id == "a1"
        assert "forged" not in (answer.headers or {}).values()
        assert len(asked) == 1
        assert service.bus.counters.of("answers_refused", "agent.v1.Hello") == len(foreign_replies)
        await operator.client.flush()
        assert overheard == []


async def test_answers_that_come_too_late_are_one_quiet_line(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    registry = await ground.bus("fleet-registry")
    for number in range(3):
        await registry.client.publish(f"_INBOX.a1.{number}", b"{}")
    await until(lambda: registry.counters.of("permission_violations", "publish") == 3)
    lines = [one for one in caplog.records if one.levelname in {"WARNING", "ERROR"}]
    assert [one.getMessage() for one in lines] == ["cannot answer on _inbox.a1.0: it was asked too long ago"]
