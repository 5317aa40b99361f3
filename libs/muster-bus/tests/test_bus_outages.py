"""Outages: a broker that is killed, restarted, absent or cut off costs waiting, never a durable fact."""

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.errors import FlushTimeoutError

from muster_bus import BadSeed, Bus, BusSettings, CannotConnect, FileSpool, NoAnswer
from muster_contracts.agent.v1 import AgentKind, Heartbeat, Hello, LeaveReason, Left, Welcome
from muster_testing.chaos_proxy import ChaosProxy
from muster_testing.ground import Ground
from muster_testing.servers import NatsServer, free_port
from muster_testing.wait import until

EPOCH = "0123456789ab-0123456789ab"
QUICK: dict[str, Any] = {"reconnect_min_seconds": 0.02, "reconnect_max_seconds": 0.1}


def left() -> Left:
    return Left(occurred_at=datetime.now(UTC), agent_id="a1", epoch=EPOCH, reason=LeaveReason.SHUTDOWN)


def beat() -> Heartbeat:
    return Heartbeat(
        occurred_at=datetime.now(UTC),
        agent_id="a1",
        kind=AgentKind.HOST,
        epoch=EPOCH,
        sequence=1,
        interval_seconds=5,
    )


def hello() -> Hello:
    return Hello(
        occurred_at=datetime.now(UTC),
        agent_id="a1",
        kind=AgentKind.HOST,
        epoch=EPOCH,
        agent_version="1",
        interval_seconds=5,
    )


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("a1") as made:
        yield made


def mended(bus: Bus, times: int) -> bool:
    return bus.connected and bus.client.stats["reconnects"] == times


async def kept(ground: Ground) -> list[str]:
    """The message ids in the stream AGENT, in order."""
    client = (await ground.bus("operator")).client
    ids: list[str] = []
    sequence = 1
    while True:
        request = json.dumps({"seq": sequence, "next_by_subj": "muster.agent.v1.*.left"}).encode()
        reply = await client.request("$JS.API.DIRECT.GET.AGENT", request, timeout=5)
        assert reply.headers
        if reply.headers.get("Status") == "404":
            return ids
        ids.append(reply.headers["Nats-Msg-Id"])
        sequence = int(reply.headers["Nats-Sequence"]) + 1


async def test_facts_said_around_a_killed_broker_are_in_the_stream_once_and_in_order(
    ground: Ground, tmp_path: Path
) -> None:
    spool = FileSpool(tmp_path / "spool")
    agent = await Bus.connect(ground.settings("a1", **QUICK), spool=spool)
    said = [left() for _ in range(300)]

    for number, fact in enumerate(said):
        if number in {100, 200}:
            await asyncio.to_thread(ground.server.restart)
        await agent.say(fact)
    await agent.settled()

    assert await kept(ground) == [str(fact.message_id) for fact in said]
    assert agent.client.stats["reconnects"] >= 1
    await agent.close()
    spool.close()


async def test_facts_said_while_the_broker_is_away_wait_in_the_spool(ground: Ground, tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "spool")
    agent = await Bus.connect(ground.settings("a1", **QUICK), spool=spool)
    ground.server.kill()
    await until(lambda: not agent.connected)

    said = [left() for _ in range(20)]
    await agent.say(*said)
    await agent.say_now(said[0], timeout=0.05)
    assert await spool.size() == 20

    ground.server.start()
    await agent.settled()
    assert await kept(ground) == [str(fact.message_id) for fact in said]
    await agent.close()
    spool.close()


async def test_a_live_fact_said_while_the_broker_is_away_is_dropped_and_counted(ground: Ground) -> None:
    agent = await Bus.connect(ground.settings("a1", **QUICK))
    ground.server.kill()
    await until(lambda: not agent.connected)
    await agent.say(beat(), beat())
    assert agent.counters.of("dropped_offline", "agent.v1.Heartbeat") == 2
    with pytest.raises(NoAnswer, match="the broker is away"):
        await agent.ask(hello(), timeout=0.05)
    await agent.close()


async def test_the_first_connection_may_wait_for_the_broker(tmp_path: Path) -> None:
    server = NatsServer(port=free_port())
    settings = BusSettings(servers=[server.url], identity="a1", **QUICK)
    heard: list[Heartbeat] = []

    async def hear(message: Heartbeat) -> None:
        heard.append(message)

    bus = await Bus.connect(settings)
    assert not bus.connected
    await bus.hear(Heartbeat, hear)
    came_up: list[bool] = []
    bus.on_reconnect(lambda: came_up.append(True))
    with server:
        await until(lambda: came_up)
        await bus.say(beat())
        await until(lambda: heard)
        await bus.close()


async def test_a_program_that_cannot_wait_is_told_why(tmp_path: Path) -> None:
    port = free_port()
    settings = BusSettings(servers=[f"nats://me:secret@127.0.0.1:{port}"], identity="operator", **QUICK)
    with pytest.raises(
        CannotConnect, match=f"cannot reach the broker at 127.0.0.1:{port} as op.*Connect"
    ) as e:
        await Bus.connect(settings, first_try_seconds=0.3)
    assert "secret" not in str(e.value)


async def test_a_key_the_broker_does_not_know_is_named_as_the_reason(ground: Ground) -> None:
    async with Ground("a1") as other:
        foreign = other.settings("a1", server=ground.server.url, **QUICK)
        with pytest.raises(CannotConnect, match="Authorization Violation"):
            await Bus.connect(foreign, first_try_seconds=0.3)
    with pytest.raises(BadSeed, match="cannot use the key in"):
        await Bus.connect(foreign)


async def test_a_half_open_link_is_noticed_and_mended(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    async with ChaosProxy(ground.server.port) as proxy:
        settings = ground.settings("a1", server=proxy.url, ping_interval_seconds=0.1, **QUICK)
        agent = await Bus.connect(settings)
        proxy.black_hole()
        # Unsent bytes in the socket are what makes a stock client hang when it closes a dead link.
        for _ in range(2000):
            await agent.say(beat())
        await until(lambda: not agent.connected, seconds=5)
        proxy.heal()
        await until(lambda: agent.connected, seconds=5)
        assert agent.counters.of("disconnects") == 1
        await agent.close()


async def test_a_cut_connection_is_mended(ground: Ground) -> None:
    async with ChaosProxy(ground.server.port) as proxy:
        agent = await Bus.connect(ground.settings("a1", server=proxy.url, **QUICK))
        for number in range(3):
            proxy.cut()
            await until(functools.partial(mended, agent, number + 1))
        proxy.refusing = True
        proxy.cut()
        await until(lambda: not agent.connected)
        await asyncio.sleep(0.2)
        proxy.refusing = False
        await until(lambda: agent.connected)
        await agent.close()


@pytest.mark.parametrize(
    "complaint", ["user authentication expired", "authorization violation", "slow consumer"]
)
async def test_what_the_broker_complains_of_never_closes_the_link(ground: Ground, complaint: str) -> None:
    gone: list[bool] = []
    agent = await Bus.connect(ground.settings("a1", **QUICK), on_closed=lambda: gone.append(True))
    await agent.client._process_err(f"'{complaint}'")
    await until(lambda: agent.client.stats["reconnects"] == 1 and agent.connected)
    assert not gone
    await agent.close()


async def test_an_unforeseen_error_does_not_end_the_attempts(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await Bus.connect(ground.settings("a1", **QUICK))
    stock = agent.client._connect_to_server
    failures = [ZeroDivisionError("unforeseen"), ValueError("too")]

    async def fail_first(server: Any) -> None:
        if failures:
            raise failures.pop()
        await stock(server)

    monkeypatch.setattr(agent.client, "_connect_to_server", fail_first)
    await agent.client.force_reconnect()
    await until(lambda: not failures and agent.connected)
    await agent.close()


def test_waits_between_attempts_are_drawn_from_the_whole_window() -> None:
    bus = Bus(BusSettings(servers=["nats://127.0.0.1:1"], identity="a1"))
    first = [bus.client._wait(0) for _ in range(500)]
    later = [bus.client._wait(30) for _ in range(500)]
    assert 0 <= min(first) < 0.05
    assert 0.2 < max(first) <= 0.25
    assert 0 <= min(later) < 0.4
    assert 1.6 < max(later) <= 2


async def test_an_outage_is_logged_once(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    agent = await Bus.connect(ground.settings("a1", **QUICK))
    ground.server.kill()
    attempts: list[str] = []
    await until(lambda: agent.counters.of("errors") > 8)
    attempts += [one.message for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(attempts) <= 4, attempts
    await agent.close()


async def test_leaving_over_a_dead_link_takes_no_longer_than_it_is_given(ground: Ground) -> None:
    async with ChaosProxy(ground.server.port) as proxy:
        agent = await Bus.connect(ground.settings("a1", server=proxy.url, ping_interval_seconds=60))
        await agent.say(beat())
        proxy.black_hole()
        await agent.say(beat())
        async with asyncio.timeout(8):
            await agent.close(seconds=0.2)
        assert agent.client.is_closed


@pytest.mark.parametrize("broker_goes_too", [False, True])
async def test_a_normal_close_is_silent(
    ground: Ground, tmp_path: Path, caplog: pytest.LogCaptureFixture, broker_goes_too: bool
) -> None:
    spool, begun = FileSpool(tmp_path / "spool"), asyncio.Event()
    registry = await ground.bus("fleet-registry")
    agent = await Bus.connect(ground.settings("a1", **QUICK), spool=spool)

    async def welcome(question: Hello) -> Welcome:
        begun.set()
        await asyncio.sleep(0.3)
        return Welcome(agent_id=question.agent_id, interval_seconds=5, deadline_seconds=12.5)

    await registry.answer(Hello, welcome)
    await agent.say(left(), beat())
    asking = asyncio.gather(agent.ask(hello(), timeout=0.5), return_exceptions=True)
    await begun.wait()
    closing = asyncio.gather(registry.close(), agent.close())
    if broker_goes_too:  # as when Ctrl-C reaches a whole process group
        await asyncio.sleep(0)
        await asyncio.to_thread(ground.server.kill)
    await asyncio.gather(closing, asking)
    spool.close()
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_an_answer_to_a_ping_nobody_waits_for_any_more_ends_nothing(ground: Ground) -> None:
    bus = await ground.bus("a1")
    ground.server.pause()
    with pytest.raises(FlushTimeoutError):
        await bus.client.flush(timeout=1)
    ground.server.resume()
    for _ in range(3):
        await bus.client.flush(timeout=5)
    assert bus.connected
