"""The simulated fleet against a real broker that asks every agent for its key."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from muster_bus.broker import render
from muster_contracts.agent.v1 import AdoptInterval, Heartbeat, Hello, Left, Welcome
from muster_testing.servers import NatsServer, free_port
from muster_testing.simulator import Condition, Fleet, Roster, Settings
from muster_testing.wait import until

ROSTER = Roster(4, b"a secret of this test", "t")
QUICK = Settings(interval=0.2, connect_rate=1000)
WORDLESS = Settings(interval=0.2, connect_rate=1000, says_hello=False)


def config(port: int, directory: str, roster: Roster) -> str:
    """A broker with one nkey per agent, each confined to its own id, and a password for the test itself."""
    users = [
        f"{{ nkey: {key}, permissions: {{ publish: ['muster.agent.v1.{name}.>'], "
        f"subscribe: ['_INBOX.{name}.>', 'muster.agent.v1.{name}.>'] }} }}"
        for name, key in roster.public_keys.items()
    ]
    carrier = f"{{ nkey: {roster.carrier.public_key} }}"
    return f"""
        listen: 127.0.0.1:{port}
        jetstream {{ store_dir: '{directory}' }}
        accounts {{
          MUSTER {{ jetstream: enabled, users: [ {{ user: test, password: test }}, {carrier}, {", ".join(users)} ] }}
          SYS {{ users: [ {{ user: sys, password: sys }} ] }}
        }}
        system_account: SYS
    """  # noqa: E501  (the broker's own line)


@pytest.fixture
def broker() -> Iterator[NatsServer]:
    port = free_port()
    server = NatsServer("", port)
    server.config = config(port, str(server.directory / "js"), ROSTER)
    with server:
        yield server


@asynccontextmanager
async def observer(broker: NatsServer, user: str = "test") -> AsyncIterator[Client]:
    client = await nats.connect(broker.url, user=user, password=user, max_reconnect_attempts=-1)
    try:
        yield client
    finally:
        await client.close()


async def listen(client: Client, subject: str) -> list[Msg]:
    heard: list[Msg] = []

    async def keep(message: Msg) -> None:
        heard.append(message)

    await client.subscribe(subject, cb=keep)
    await client.flush()
    return heard


async def test_every_agent_beats_under_its_own_key_with_the_contract_heartbeat(broker: NatsServer) -> None:
    async with observer(broker) as client, Fleet(ROSTER, broker.url, WORDLESS) as fleet:
        heard = await listen(client, Heartbeat.SUBJECT.pattern)
        await fleet.connect()
        await until(lambda: len(heard) >= 20)
    beats = [Heartbeat.model_validate_json(message.data) for message in heard]
    assert {beat.agent_id for beat in beats} == {member.agent_id for member in ROSTER}
    of_one = [beat.sequence for beat in beats if beat.agent_id == "t-00000"]
    assert of_one == list(range(len(of_one)))
    assert not fleet.stats.errors


async def test_an_agent_the_broker_does_not_know_is_not_let_in(broker: NatsServer) -> None:
    strangers = Roster(1, b"another secret", "t")
    async with Fleet(strangers, broker.url, QUICK) as fleet:
        connecting = asyncio.ensure_future(fleet.connect())
        await until(lambda: fleet.stats.errors["authorization violation"] >= 2)
        connecting.cancel()
        assert fleet.stats.connects == 0


async def test_a_killed_agent_is_gone_at_the_broker_and_said_no_goodbye(broker: NatsServer) -> None:
    async with observer(broker, "sys") as system, Fleet(ROSTER, broker.url, QUICK) as fleet:
        await fleet.connect()
        gone = await listen(system, "$SYS.ACCOUNT.MUSTER.DISCONNECT")
        fleet["t-00001"].kill()
        await until(lambda: gone)
        advisory = json.loads(gone[0].data)
        assert advisory["client"]["name"] == "t-00001"
        assert fleet["t-00001"].condition is Condition.KILLED
        assert (fleet.stats.goodbyes, fleet.stats.connections_lost) == (0, 0)


async def test_a_leaving_agent_waits_until_its_goodbye_is_stored(broker: NatsServer) -> None:
    async with observer(broker) as client, Fleet(ROSTER, broker.url, QUICK) as fleet:
        stream = client.jetstream()
        await stream.add_stream(name="AGENT", subjects=[Left.SUBJECT.pattern])
        await fleet.connect()
        await fleet["t-00002"].leave()
        stored = await stream.get_last_msg("AGENT", Left.SUBJECT.bound("t-00002"))
    assert stored.data
    left = Left.model_validate_json(stored.data)
    assert left.epoch == fleet["t-00002"].epoch
    assert stored.headers == {"Nats-Msg-Id": str(left.message_id), "Muster-Contract": "agent.v1.Left"}


async def test_a_goodbye_nobody_stores_is_an_error_and_the_agent_is_gone_all_the_same(
    broker: NatsServer,
) -> None:
    async with Fleet(ROSTER, broker.url, QUICK) as fleet:
        await fleet.connect()
        with pytest.raises(TimeoutError):
            await fleet["t-00002"].leave(timeout=0.3)
        assert fleet["t-00002"].condition is Condition.LEFT


async def test_a_mute_agent_keeps_its_socket_and_says_nothing_until_it_resumes(broker: NatsServer) -> None:
    async with (
        observer(broker) as client,
        observer(broker, "sys") as system,
        Fleet(ROSTER, broker.url, QUICK) as fleet,
    ):
        await fleet.connect()
        gone = await listen(system, "$SYS.ACCOUNT.MUSTER.DISCONNECT")
        agent = fleet["t-00003"]
        agent.mute()
        silent = await listen(client, Heartbeat.SUBJECT.bound("t-00003"))
        others = await listen(client, Heartbeat.SUBJECT.bound("t-00000"))
        await until(lambda: len(others) >= 4)
        assert not silent
        assert not gone
        await agent.resume()
        await until(lambda: silent)
    assert fleet.stats.connects == len(ROSTER)


async def test_a_restarted_agent_begins_a_later_epoch_on_the_same_boot(broker: NatsServer) -> None:
    async with observer(broker) as client, Fleet(ROSTER, broker.url, QUICK) as fleet:
        await fleet.connect()
        agent = fleet["t-00000"]
        before = agent.epoch
        heard = await listen(client, Heartbeat.SUBJECT.bound("t-00000"))
        await agent.restart()
        await until(lambda: any(Heartbeat.model_validate_json(m.data).epoch == agent.epoch for m in heard))
    assert agent.epoch > before
    assert agent.epoch[:12] == before[:12]


async def test_an_agent_lives_by_the_interval_it_is_welcomed_with_and_then_ordered(
    broker: NatsServer,
) -> None:
    async def welcome(message: Msg) -> None:
        hello = Hello.model_validate_json(message.data)
        answer = Welcome(agent_id=hello.agent_id, interval_seconds=0.3, deadline_seconds=0.75)
        await message.respond(answer.model_dump_json().encode())

    async with observer(broker) as client, Fleet(ROSTER, broker.url, QUICK) as fleet:
        await client.subscribe(Hello.SUBJECT.pattern, cb=welcome)
        heard = await listen(client, Heartbeat.SUBJECT.bound("t-00000"))
        await fleet.connect()
        await until(lambda: fleet.stats.welcomes == len(ROSTER))
        await until(lambda: b'"interval_seconds":0.3' in heard[-1].data)
        now = Heartbeat.model_validate_json(heard[0].data).occurred_at
        order = AdoptInterval(
            agent_id="t-00000", interval_seconds=0.1, deadline_seconds=0.25, occurred_at=now
        )
        await client.publish(order.subject, order.model_dump_json().encode())
        await until(lambda: b'"interval_seconds":0.1' in heard[-1].data)
        assert fleet["t-00001"].interval == 0.3


async def test_all_agents_come_back_after_the_broker_died(broker: NatsServer) -> None:
    async with Fleet(ROSTER, broker.url, QUICK) as fleet:
        await fleet.connect()
        broker.restart()
        await until(lambda: fleet.stats.reconnects == len(ROSTER))
        beats = fleet.stats.heartbeats
        await until(lambda: fleet.stats.heartbeats > beats + len(ROSTER))


async def test_two_connections_carry_the_heartbeats_of_all_agents_spread_over_the_interval(
    broker: NatsServer,
) -> None:
    many = Roster(40, b"a secret of this test", "t")
    settings = Settings(interval=0.5, connections=2, connect_rate=1000, says_hello=False)
    async with observer(broker) as client, Fleet(many, broker.url, settings) as fleet:
        heard = await listen(client, Heartbeat.SUBJECT.pattern)
        await fleet.connect()
        await until(lambda: len(heard) >= 160)
        assert fleet.stats.connects == 2
    regular = [Heartbeat.model_validate_json(m.data) for m in heard]
    # The first beat of each is said at once; from the second on they follow the grid.
    phases = [beat.occurred_at.timestamp() % 0.5 for beat in regular if beat.sequence > 0]
    in_each_fifth = [sum(int(phase * 10) == fifth for phase in phases) for fifth in range(5)]
    assert min(in_each_fifth) > 0


async def test_an_agent_on_a_shared_connection_hears_the_orders_to_itself_only(broker: NatsServer) -> None:
    settings = Settings(interval=0.2, connections=2, connect_rate=1000, says_hello=False)
    async with observer(broker) as client, Fleet(ROSTER, broker.url, settings) as fleet:
        heard = await listen(client, Heartbeat.SUBJECT.bound("t-00001"))
        await fleet.connect()
        await until(lambda: heard)
        now = Heartbeat.model_validate_json(heard[0].data).occurred_at
        order = AdoptInterval(agent_id="t-00001", interval_seconds=0.4, deadline_seconds=1, occurred_at=now)
        await client.publish(order.subject, order.model_dump_json().encode())
        await until(lambda: fleet["t-00001"].interval == 0.4)
    assert fleet["t-00000"].interval == 0.2


@pytest.mark.parametrize("connections", ["each", 2])
async def test_a_roster_is_let_in_by_the_configuration_muster_writes(
    connections: Literal["each"] | int,
) -> None:
    port = free_port()
    server = NatsServer("", port)
    config = render(ROSTER.identities, port=port, store_dir=server.directory / "js")
    server.config = ROSTER.let_carrier_in(config)
    settings = Settings(interval=0.1, connections=connections, connect_rate=1000, says_hello=False)
    with server:
        async with Fleet(ROSTER, server.url, settings) as fleet:
            await fleet.connect()
            await until(lambda: fleet.stats.heartbeats > 20)
            assert not fleet.stats.errors


async def test_the_command_runs_a_fleet_for_a_while_and_prints_its_numbers(
    broker: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(b"a secret of this test".hex())
    options = {"--agents": "4", "--prefix": "t", "--interval": "0.2", "--seconds": "0.5", "--url": broker.url}
    words = [word for option in options.items() for word in option]
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "muster_testing.simulator", *words, "--secret-file", str(tmp_path / "secret"),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(command.communicate(), 30)
    numbers = json.loads(out.splitlines()[-1])
    assert command.returncode == 0
    assert (numbers["up"], numbers["connects"]) == (4, 4)
