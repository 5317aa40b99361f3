"""A firehose: heard in lists, shared by a queue, and undisturbed by what is bad in it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from muster_bus import Bus, BusSettings
from muster_bus.batches import MAX_OF_ONE_SAYER, Batches
from muster_bus.deadletters import MAX_PER_MINUTE, DeadLetters
from muster_bus.metrics import Counters
from muster_contracts.agent.v1 import AgentKind, Heartbeat
from muster_contracts.bus.v1 import DeadLettered, DeadReason
from muster_testing.servers import NatsServer
from muster_testing.wait import until

EPOCH = "0123456789ab-0123456789ab"


def beat(agent_id: str = "a1", sequence: int = 0) -> Heartbeat:
    return Heartbeat(
        occurred_at=datetime.now(UTC),
        agent_id=agent_id,
        kind=AgentKind.HOST,
        epoch=EPOCH,
        sequence=sequence,
        interval_seconds=5,
    )


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    with NatsServer() as made:
        yield made


async def connect(server: NatsServer, identity: str) -> Bus:
    return await Bus.connect(BusSettings(servers=[server.url], identity=identity), first_try_seconds=5)


async def test_every_heartbeat_arrives_once_in_few_lists_and_in_order(server: NatsServer) -> None:
    registry, agent = await connect(server, "fleet-registry"), await connect(server, "a1")
    lists: list[list[Heartbeat]] = []

    async def hear(beats: list[Heartbeat]) -> None:
        lists.append(beats)

    await registry.hear_batches(Heartbeat, hear, queue="registry", max_batch=1000, max_of_one_sayer=3000)
    for sequence in range(3000):
        await agent.say(beat(sequence=sequence))

    await until(lambda: sum(map(len, lists)) == 3000)
    assert [one.sequence for batch in lists for one in batch] == list(range(3000))
    assert max(map(len, lists)) <= 1000
    assert len(lists) < 100
    assert registry.counters.of("heard", "agent.v1.Heartbeat") == 3000
    await agent.close()
    await registry.close()


async def test_members_of_a_queue_share_and_two_queues_each_hear_all(server: NatsServer) -> None:
    agent = await connect(server, "a1")
    members = [await connect(server, name) for name in ("first", "second", "third")]
    heard: dict[str, list[int]] = {"registry": [], "gateway": []}

    async def to_registry(beats: list[Heartbeat]) -> None:
        heard["registry"] += [one.sequence for one in beats]

    async def to_gateway(beats: list[Heartbeat]) -> None:
        heard["gateway"] += [one.sequence for one in beats]

    await members[0].hear_batches(Heartbeat, to_registry, queue="registry", max_of_one_sayer=500)
    await members[1].hear_batches(Heartbeat, to_registry, queue="registry", max_of_one_sayer=500)
    await members[2].hear_batches(Heartbeat, to_gateway, queue="gateway", max_of_one_sayer=500)
    for sequence in range(500):
        await agent.say(beat(sequence=sequence))

    await until(lambda: all(len(sequences) == 500 for sequences in heard.values()))
    assert sorted(heard["registry"]) == sorted(heard["gateway"]) == list(range(500))
    for bus in (agent, *members):
        await bus.close()


async def test_what_is_bad_in_a_batch_is_buried_one_by_one(server: NatsServer) -> None:
    registry, agent = await connect(server, "fleet-registry"), await connect(server, "a1")
    await agent.client.jetstream().add_stream(name="BUS", subjects=["muster.bus.>"])
    letters: list[DeadLettered] = []
    heard: list[Heartbeat] = []

    async def hear(beats: list[Heartbeat]) -> None:
        heard.extend(beats)

    async def read(letter: DeadLettered) -> None:
        letters.append(letter)

    await agent.hear(DeadLettered, read)
    await registry.hear_batches(Heartbeat, hear, queue="registry")
    good = beat().model_dump_json().encode()
    for subject, payload in [
        ("muster.agent.v1.a1.heartbeat", b"{"),
        ("muster.agent.v1.a1.heartbeat", b'{"agent_id": "a1"}'),
        ("muster.agent.v1.a1.heartbeat", b"[" * 4000),
        ("muster.agent.v1.a1.heartbeat", b" " * 5000),
        ("muster.agent.v1.a2.heartbeat", good),
        ("muster.agent.v7.a1.heartbeat", good),
        ("muster.agent.v1.a1.heartbeat", good),
    ]:
        await agent.client.publish(subject, payload)

    await until(lambda: len(letters) == 6 and heard)
    assert sorted(letter.reason for letter in letters) == sorted(
        [DeadReason.MALFORMED] * 3 + [DeadReason.OVERSIZED, DeadReason.FOREIGN_ID, DeadReason.WRONG_VERSION]
    )
    assert [letter.size_bytes for letter in letters if letter.reason is DeadReason.OVERSIZED] == [5000]
    assert len(heard) == 1
    assert all("a1" not in letter.detail or "field" in letter.detail for letter in letters)
    await agent.close()
    await registry.close()


async def test_a_handler_that_fails_loses_its_batch_and_not_the_next(server: NatsServer) -> None:
    registry, agent = await connect(server, "fleet-registry"), await connect(server, "a1")
    heard: list[Heartbeat] = []

    async def hear(beats: list[Heartbeat]) -> None:
        if beats[0].sequence == 0:
            raise ZeroDivisionError
        heard.extend(beats)

    await registry.hear_batches(Heartbeat, hear, queue="registry", max_wait_seconds=0.01)
    await agent.say(beat(sequence=0))
    await until(lambda: registry.counters.of("handler_failures") == 1)
    await agent.say(beat(sequence=1))
    await until(lambda: heard)
    await agent.close()
    await registry.close()


async def test_what_a_slow_handler_has_no_room_for_is_counted() -> None:
    counters, release, heard = Counters(), asyncio.Event(), 0
    payload, subject = beat().model_dump_json().encode(), b"muster.agent.v1.a1.heartbeat"

    async def hear(beats: list[Heartbeat]) -> None:
        nonlocal heard
        heard += len(beats)
        await release.wait()

    batches = Batches(
        Heartbeat,
        hear,
        DeadLetters("fleet-registry", counters, None),
        counters,
        max_batch=10,
        max_wait_seconds=0.001,
        max_pending=50,
        max_of_one_sayer=1000,
    )
    batches.put(subject, payload, None)
    await until(lambda: heard == 1)
    for _ in range(200):
        batches.put(subject, payload, None)
    release.set()
    await until(lambda: heard == 51)
    await batches.stop()
    assert counters.of("dropped_batches", "agent.v1.Heartbeat") == 150


async def test_what_is_there_at_the_end_is_handed_over(server: NatsServer) -> None:
    registry, agent = await connect(server, "fleet-registry"), await connect(server, "a1")
    heard: list[Heartbeat] = []

    async def hear(beats: list[Heartbeat]) -> None:
        heard.extend(beats)

    await registry.hear_batches(Heartbeat, hear, queue="registry", max_wait_seconds=60)
    await agent.say(beat())
    await agent.client.flush()
    await registry.client.flush()
    await registry.close()
    assert len(heard) == 1
    await agent.close()


async def test_bad_ones_cost_no_good_one_even_if_they_cannot_be_kept() -> None:
    counters, heard = Counters(), []
    good = beat().model_dump_json().encode()

    async def hear(beats: list[Heartbeat]) -> None:
        heard.extend(beats)

    async def fail(_: DeadLettered) -> None:
        raise ZeroDivisionError

    batches = Batches(
        Heartbeat,
        hear,
        DeadLetters("fleet-registry", counters, fail),
        counters,
        max_batch=5000,
        max_wait_seconds=0.001,
        max_pending=1000,
    )
    batches.put(b"muster.agent.v1.a1.heartbeat", b"{", None)
    batches.put(b"muster.agent.v1.\xff.heartbeat", good, None)
    batches.put(b"muster.agent.v1.a1.heartbeat", good, None)
    await until(lambda: heard)
    await batches.stop()
    assert len(heard) == 1
    assert counters.of("dead_letters", "malformed") == 2
    assert counters.of("dead_letters_not_kept", "failed") == 2


async def test_a_good_one_is_heard_before_the_bad_ones_of_its_batch_are_kept() -> None:
    counters, story = Counters(), []

    async def hear(_: list[Heartbeat]) -> None:
        story.append("heard")

    async def keep(_: DeadLettered) -> None:
        story.append("kept")

    batches = Batches(
        Heartbeat,
        hear,
        DeadLetters("fleet-registry", counters, keep),
        counters,
        max_batch=5000,
        max_wait_seconds=0.001,
        max_pending=1000,
    )
    batches.put(b"muster.agent.v1.a1.heartbeat", b"{", None)
    batches.put(b"muster.agent.v1.a1.heartbeat", beat().model_dump_json().encode(), None)
    await until(lambda: len(story) == 2)
    await batches.stop()
    assert story == ["heard", "kept"]


async def test_who_floods_takes_no_place_of_another(caplog: pytest.LogCaptureFixture) -> None:
    counters, heard = Counters(), []

    async def hear(beats: list[Heartbeat]) -> None:
        heard.extend(beats)

    batches = Batches(
        Heartbeat,
        hear,
        DeadLetters("fleet-registry", counters, None),
        counters,
        max_batch=5000,
        max_wait_seconds=0.01,
        max_pending=1000,
    )
    for _ in range(100_000):
        batches.put(b"muster.agent.v1.mallory.heartbeat", b"{" + b"x" * 3000, None)
    for name in ("a1", "a2"):
        batches.put(f"muster.agent.v1.{name}.heartbeat".encode(), beat(name).model_dump_json().encode(), None)
    await until(lambda: heard)
    assert [one.agent_id for one in heard] == ["a1", "a2"]
    assert counters.of("dead_letters", "malformed") == MAX_OF_ONE_SAYER
    assert counters.of("dropped_surplus", "agent.v1.Heartbeat") == 100_000 - MAX_OF_ONE_SAYER
    assert sum("muster.agent.v1.mallory.heartbeat are dropped" in line for line in caplog.messages) == 1
    batches.put(b"muster.agent.v1.mallory.heartbeat", beat("mallory").model_dump_json().encode(), None)
    await until(lambda: len(heard) == 3)
    await batches.stop()


async def test_what_waits_is_bounded_in_bytes_and_holds_nothing_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("muster_bus.batches.MAX_PENDING_BYTES", 100_000)
    counters = Counters()
    batches = Batches(
        Heartbeat,
        asyncio.Event().wait,  # type: ignore[arg-type]  # never called: nothing good is put
        DeadLetters("fleet-registry", counters, None),
        counters,
        max_batch=5000,
        max_wait_seconds=0.01,
        max_pending=1000,
    )
    for number in range(100):
        batches.put(f"muster.agent.v1.a{number}.heartbeat".encode(), b" " * 1_000_000, None)
    held = [len(payload) for _, payload, _ in batches._items]
    assert max(held) == Heartbeat.MAX_BYTES + 1
    assert sum(held) < 100_000 + max(held)
    await batches.stop()
    assert counters.of("dead_letters", "oversized") == len(held)
    assert counters.of("dropped_batches", "agent.v1.Heartbeat") == 100 - len(held)
    assert batches._bytes == 0


async def test_dead_letters_of_one_sayer_leave_room_for_those_of_others() -> None:
    kept: list[DeadLettered] = []
    counters = Counters()

    async def say(letter: DeadLettered) -> None:
        kept.append(letter)

    letters = DeadLetters("fleet-registry", counters, say)
    for number in range(MAX_PER_MINUTE * 2):
        subject = f"muster.agent.v1.mallory.{('heartbeat', 'left')[number % 2]}"
        assert await letters.bury(subject, b"{", DeadReason.MALFORMED, "not JSON")
    await letters.bury("muster.agent.v1.a1.left", b"{", DeadReason.MALFORMED, "not JSON")
    assert len(kept) in {11, 21}  # another minute may begin meanwhile
    assert kept[-1].original_subject == "muster.agent.v1.a1.left"
    assert counters.of("dead_letters_not_kept", "of one sayer") == MAX_PER_MINUTE * 2 - len(kept) + 1
    assert counters.of("dead_letters") == MAX_PER_MINUTE * 2 + 1
