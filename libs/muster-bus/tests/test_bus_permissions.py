"""Who may do what, asked of a real broker: every contract, every identity, and what nobody may touch."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster_bus import Bus, NotPermitted
from muster_bus.broker import Identity, render
from muster_bus.identity import Keypair
from muster_bus.roles import SERVICES
from muster_bus.streams import CONSUMERS, STREAMS
from muster_contracts import catalogue
from muster_contracts.agent.v1 import AgentKind, Hello, Introduce, LeaveReason, Left
from muster_contracts.message import Delivery, Message, Role, Subject
from muster_testing.ground import Ground

EPOCH = "0123456789ab-0123456789ab"
WHO = {
    "a1": Role.HOST_AGENT,
    "operator": Role.OPERATOR,
    "fleet-registry": Role.FLEET_REGISTRY,
    "state-store": Role.STATE_STORE,
}
OTHER = "a2"

ADMINISTRATION = [
    *(f"$JS.API.STREAM.{verb}.{name}" for name in STREAMS
      for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT")),
    *(f"$JS.API.CONSUMER.{verb}.{name}.thief" for name in STREAMS
      for verb in ("CREATE", "DURABLE.CREATE", "DELETE", "MSG.NEXT", "INFO")),
    "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.INFO", "$JS.API.ACCOUNT.PURGE.MUSTER",
    "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$KV.lease.leader", "$O.blobs.x", "muster", "anything",
    f"_INBOX.{OTHER}.reply", "_INBOX.operator.reply", "_INBOX.fleet-registry.reply",
    "_INBOX.state-store.reply",
]  # fmt: skip
"""Nobody but the provisioner may publish any of these."""


def consuming(service: str) -> list[str]:
    """What it takes to use the consumers of a service."""
    return [
        subject
        for one in CONSUMERS
        if one.service == service
        for subject in (
            f"$JS.API.CONSUMER.MSG.NEXT.{one.stream}.{one.name}",
            f"$JS.API.CONSUMER.INFO.{one.stream}.{one.name}",
            f"$JS.ACK.{one.stream}.{one.name}.1.1.1.1.0",
        )
    ]


OVERHEARING = [
    ">", "muster.>", "*.*.*.*.*", "_INBOX.>", "_INBOX.*.>", f"_INBOX.{OTHER}.>", "_INBOX.operator.>",
    "_INBOX.fleet-registry.>", "$SYS.>", "$SYS.ACCOUNT.*.DISCONNECT", "$JS.>", "$JS.API.>",
    "$JS.EVENT.ADVISORY.>", f"muster.agent.*.{OTHER}.introduce", f"muster.*.*.{OTHER}.>",
    f"muster.host.v1.{OTHER}.read-vitals", "muster.agent.*.*.introduce",
]  # fmt: skip
"""No agent may subscribe any of these."""


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("a1", OTHER) as made:
        yield made


async def may_publish(bus: Bus, subject: str) -> bool:
    before = bus.counters.of("permission_violations")
    await bus.client.publish(subject, b"")
    await bus.client.flush()
    return bus.counters.of("permission_violations") == before


async def may_subscribe(bus: Bus, subject: str, queue: str = "") -> bool:
    before = bus.counters.of("permission_violations")
    subscription = await bus.client.subscribe(subject, queue=queue)
    await bus.client.flush()
    await subscription.unsubscribe()
    return bus.counters.of("permission_violations") == before


def spoken(contract: type[Message], who: str) -> str:
    return Subject(contract.SUBJECT).bound(who)


def cells() -> Iterator[tuple[type[Message], str]]:
    for contract in catalogue.contracts():
        for who in ("a1", OTHER, "fleet-registry"):
            yield contract, who


def expected_to_say(speaker: str, contract: type[Message], who: str) -> bool:
    """The rule, said once more in other words than the code's: by role, and agents only of themselves."""
    if contract not in catalogue.said_by(WHO[speaker]):
        return False
    if not contract.SUBJECT.who.startswith("{"):
        return True
    if speaker == "a1" or contract.SUBJECT.who == "{service}":
        return who == speaker
    return True


@pytest.mark.parametrize("speaker", WHO)
async def test_each_identity_may_say_exactly_what_the_catalogue_says(ground: Ground, speaker: str) -> None:
    bus = await ground.bus(speaker)
    surprises = [
        (spoken(contract, who), expected)
        for contract, who in cells()
        if await may_publish(bus, spoken(contract, who))
        is not (expected := expected_to_say(speaker, contract, who))
    ]
    assert surprises == []


async def test_an_agent_hears_its_own_orders_and_questions_and_nothing_else(ground: Ground) -> None:
    bus = await ground.bus("a1")
    heard = catalogue.heard_by(Role.HOST_AGENT)
    for contract in catalogue.contracts():
        mine = contract in heard
        assert await may_subscribe(bus, spoken(contract, "a1")) is mine, contract
        if contract.SUBJECT.who.startswith("{"):
            assert not await may_subscribe(bus, spoken(contract, OTHER)), contract
            assert not await may_subscribe(bus, contract.SUBJECT.pattern), contract
    for subject in OVERHEARING:
        assert not await may_subscribe(bus, subject), subject
        assert not await may_subscribe(bus, subject, queue="thieves"), subject
    assert await may_subscribe(bus, "_INBOX.a1.>")


@pytest.mark.parametrize("speaker", WHO)
async def test_nobody_reaches_the_administration(ground: Ground, speaker: str) -> None:
    bus = await ground.bus(speaker)
    mine = {f"_INBOX.{speaker}.reply"}
    allowed = [subject for subject in ADMINISTRATION if await may_publish(bus, subject)]
    assert set(allowed) <= mine


@pytest.mark.parametrize("service", SERVICES)
async def test_only_a_service_touches_its_consumers(ground: Ground, service: str) -> None:
    wanted = consuming(service)
    assert wanted
    owner = await ground.bus(service)
    assert [one for one in wanted if not await may_publish(owner, one)] == []
    for speaker in {"a1", "operator", *SERVICES} - {service}:
        bus = await ground.bus(speaker)
        assert [one for one in wanted if await may_publish(bus, one)] == []


async def test_an_agent_reads_nothing_back_from_a_stream(ground: Ground) -> None:
    bus = await ground.bus("a1")
    for name in STREAMS:
        for subject in (f"$JS.API.DIRECT.GET.{name}", f"$JS.API.DIRECT.GET.{name}.muster.agent.v1.a1.left"):
            assert not await may_publish(bus, subject), subject


async def test_only_the_system_observer_hears_the_brokers_advisories(ground: Ground) -> None:
    assert await may_subscribe(await ground.bus("system"), "$SYS.ACCOUNT.MUSTER.DISCONNECT")
    assert not await may_publish(await ground.bus("system"), "muster.agent.v1.a1.heartbeat")
    for speaker in (*WHO, "provisioner"):
        assert not await may_subscribe(await ground.bus(speaker), "$SYS.ACCOUNT.MUSTER.DISCONNECT")


async def test_a_refusal_reaches_whoever_waits_for_the_subject(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    agent = await ground.bus("a1")

    async def ignore(_: object) -> None:
        return None

    with pytest.raises(NotPermitted, match=r"cannot use muster\.agent\.v1\.a2\.hello"):
        await agent.ask(
            Hello(
                occurred_at=datetime.now(UTC),
                agent_id=OTHER,
                kind=AgentKind.HOST,
                epoch=EPOCH,
                agent_version="1",
                interval_seconds=5,
            )
        )
    with pytest.raises(NotPermitted):
        await agent.say(
            Left(occurred_at=datetime.now(UTC), agent_id=OTHER, epoch=EPOCH, reason=LeaveReason.SHUTDOWN)
        )
    with pytest.raises(NotPermitted):
        await agent.hear(Introduce, ignore, bound_to=OTHER)
    assert agent.counters.of("permission_violations", "publish") == 2
    assert agent.counters.of("permission_violations", "subscription") == 1
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 3


async def test_an_answer_goes_only_to_whoever_asked(ground: Ground) -> None:
    """An agent may answer a question it was asked, and may not write to the asker's inbox unasked."""
    agent, operator = await ground.bus("a1"), await ground.bus("operator")
    asked: asyncio.Queue[str] = asyncio.Queue()

    async def answer(raw: object) -> None:
        asked.put_nowait(raw.reply)  # type: ignore[attr-defined]

    await agent.client.subscribe("muster.host.v1.a1.read-vitals", cb=answer)
    await agent.client.flush()
    inbox = operator.client.new_inbox()
    await operator.client.publish("muster.host.v1.a1.read-vitals", b"", reply=inbox)
    assert await may_publish(agent, await asyncio.wait_for(asked.get(), 5))
    assert not await may_publish(agent, f"{inbox}.other")


def test_no_agent_may_take_the_name_of_a_service() -> None:
    with pytest.raises(ValueError, match="cannot let the agent 'fleet-registry' in"):
        render(
            [Identity(Role.HOST_AGENT, "fleet-registry", Keypair.generate().public)],
            port=1,
            store_dir=Path("/nowhere"),
        )


@pytest.mark.parametrize(
    "contract", [one for one in catalogue.contracts() if one.DELIVERY is Delivery.DURABLE]
)
def test_every_durable_contract_has_a_stream(contract: type[Message]) -> None:
    assert contract.SUBJECT.pattern in STREAMS[catalogue.area_of(contract).upper()]
