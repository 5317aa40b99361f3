"""The life of an agent in memory, under the loop's own time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from muster_agent import Agent, AgentIdentity, Grants, Identity
from muster_bus.errors import NobodyAnswers
from muster_contracts.agent.v1 import (
    AdoptInterval,
    AgentKind,
    Heartbeat,
    Hello,
    Introduce,
    LeaveReason,
    Left,
    Reconfigured,
    Welcome,
)

pytestmark = pytest.mark.looptime

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class MemoryBus:
    """Keeps what was said, with the loop's time, and answers hello if there is a welcome to give."""

    def __init__(self) -> None:
        self.connected = True
        self.said: list[tuple[float, Any]] = []
        self.hellos: list[tuple[float, Hello]] = []
        self.welcome: Callable[[Hello], Welcome] | None = None
        self._handlers: dict[type, Callable[[Any], Awaitable[None]]] = {}
        self._callbacks: list[Callable[[], None]] = []

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def reconnect(self) -> None:
        self.connected = True
        for callback in self._callbacks:
            callback()

    async def say(self, *messages: Any) -> None:
        self.said += [(asyncio.get_running_loop().time(), message) for message in messages]

    async def say_now(self, fact: Any, timeout: float) -> None:  # noqa: ASYNC109  (the bus has it)
        await self.say(fact)

    async def ask(self, question: Any, *, timeout: float = 2.0) -> Any:  # noqa: ASYNC109  (the bus has it)
        self.hellos.append((asyncio.get_running_loop().time(), question))
        if self.welcome is None:
            raise NobodyAnswers("cannot ask: nobody is there")
        return self.welcome(question)

    async def hear(
        self, contract: type, handler: Callable[[Any], Awaitable[None]], *, bound_to: str | None = None
    ) -> None:
        assert bound_to == "web-1"
        self._handlers[contract] = handler

    async def order(self, order: Any) -> None:
        await self._handlers[type(order)](order)

    def heard(self, kind: type) -> list[Any]:
        return [message for _, message in self.said if isinstance(message, kind)]

    def times(self, kind: type) -> list[float]:
        return [at for at, message in self.said if isinstance(message, kind)]


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> AgentIdentity:
    born = Identity.ensure(tmp_path_factory.mktemp("state"))
    return AgentIdentity("web-1", born.keypair, born.seed_file)


def granting(seconds: float, agent_id: str = "web-1") -> Callable[[Hello], Welcome]:
    return lambda _: Welcome(agent_id=agent_id, interval_seconds=seconds, deadline_seconds=2.5 * seconds)


def an_agent(bus: MemoryBus, identity: AgentIdentity, grants: Grants | None = None) -> Agent:
    return Agent(bus, identity, AgentKind.HOST, "1.0", {"role": "web"}, 5.0, grants=grants)


@asynccontextmanager
async def living(agent: Agent) -> AsyncIterator[Agent]:
    task = asyncio.create_task(agent.run())
    await asyncio.sleep(0)
    try:
        yield agent
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_heartbeats_flow_evenly_while_no_registry_answers(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(600)
    times = bus.times(Heartbeat)
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert times[0] < 1
    assert gaps == pytest.approx([5.0] * len(gaps))
    assert len(times) >= 120
    assert [beat.sequence for beat in bus.heard(Heartbeat)] == list(range(len(times)))


async def test_hello_is_repeated_unchanged_with_pauses_that_grow_to_half_a_minute(
    identity: AgentIdentity,
) -> None:
    bus = MemoryBus()
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(3600)
    assert 120 < len(bus.hellos) < 480
    assert len({hello.message_id for _, hello in bus.hellos}) == 1
    pauses = [later - earlier for (earlier, _), (later, _) in pairwise(bus.hellos)]
    assert max(pauses) <= 30.1
    assert max(pauses[:3]) <= 4.1


async def test_a_welcome_is_lived_by_at_once_and_ends_the_hellos(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    bus.welcome = granting(20)
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(100)
    assert len(bus.hellos) == 1
    beats = bus.heard(Heartbeat)
    assert beats[-1].interval_seconds == 20
    assert bus.times(Heartbeat)[1] < 1 or beats[0].interval_seconds == 20
    assert len(beats) <= 8


async def test_an_order_to_adopt_an_interval_is_stated_by_the_very_next_heartbeat(
    identity: AgentIdentity,
) -> None:
    bus = MemoryBus()
    bus.welcome = granting(5)
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(12)
        before = len(bus.heard(Heartbeat))
        await bus.order(
            AdoptInterval(occurred_at=NOON, agent_id="web-1", interval_seconds=60, deadline_seconds=150)
        )
        await asyncio.sleep(0.1)
        assert bus.heard(Heartbeat)[before].interval_seconds == 60
        await asyncio.sleep(600)
    assert 10 <= len(bus.heard(Heartbeat)) - before <= 13


async def test_an_interval_nobody_can_live_by_is_not_adopted(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    async with living(an_agent(bus, identity)) as agent:
        for nonsense in (1e-9, 1e9):
            await bus.order(
                AdoptInterval(
                    occurred_at=NOON, agent_id="web-1", interval_seconds=nonsense, deadline_seconds=1
                )
            )
        assert agent.interval == 5


async def test_the_granted_interval_is_lived_by_after_a_restart(
    identity: AgentIdentity, tmp_path: Path
) -> None:
    bus = MemoryBus()
    bus.welcome = granting(42)
    async with living(an_agent(bus, identity, Grants(tmp_path))):
        await asyncio.sleep(1)
    assert an_agent(MemoryBus(), identity, Grants(tmp_path)).interval == 42


@pytest.mark.parametrize("damage", ["", "many", "-1", "nan", "1e12"])
async def test_a_damaged_memory_of_the_interval_is_forgotten(
    identity: AgentIdentity, tmp_path: Path, damage: str
) -> None:
    (tmp_path / "granted-interval").write_text(damage)
    assert an_agent(MemoryBus(), identity, Grants(tmp_path)).interval == 5


async def test_a_full_disk_does_not_keep_an_agent_from_adopting(
    identity: AgentIdentity, tmp_path: Path
) -> None:
    bus = MemoryBus()
    bus.welcome = granting(42)
    async with living(an_agent(bus, identity, Grants(tmp_path / "gone"))) as agent:
        await asyncio.sleep(1)
        assert agent.interval == 42


async def test_a_hundred_orders_to_introduce_bring_at_most_one_hello_a_second(
    identity: AgentIdentity,
) -> None:
    bus = MemoryBus()
    bus.welcome = granting(5)
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(10)
        first = len(bus.hellos)
        for _ in range(100):
            await bus.order(Introduce(occurred_at=NOON, agent_id="web-1"))
            await asyncio.sleep(0.1)
        await asyncio.sleep(10)
    assert 9 <= len(bus.hellos) - first <= 12
    times = [at for at, _ in bus.hellos]
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.99


async def test_an_order_to_introduce_cuts_a_long_pause_short(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(1000)
        bus.welcome = granting(5)
        await bus.order(Introduce(occurred_at=NOON, agent_id="web-1"))
        await asyncio.sleep(1.1)
        assert bus.hellos[-1][0] >= 1000


async def test_nothing_is_said_while_the_broker_is_away_and_a_beat_and_a_hello_when_it_is_back(
    identity: AgentIdentity,
) -> None:
    bus = MemoryBus()
    bus.welcome = granting(5)
    async with living(an_agent(bus, identity)):
        await asyncio.sleep(21)
        bus.connected = False
        beats, hellos = len(bus.heard(Heartbeat)), len(bus.hellos)
        await asyncio.sleep(300)
        assert len(bus.heard(Heartbeat)) == beats
        bus.reconnect()
        await asyncio.sleep(0.1)
        # One at once; by its new random phase the next one may follow as soon.
        assert 1 <= len(bus.heard(Heartbeat)) - beats <= 2
        assert len(bus.hellos) == hellos + 1
    sequence = [beat.sequence for beat in bus.heard(Heartbeat)]
    assert sequence == list(range(len(sequence)))


async def test_nobody_can_guess_the_id_of_a_goodbye_and_say_it_first(identity: AgentIdentity) -> None:
    buses = [MemoryBus(), MemoryBus()]
    for bus in buses:
        agent = Agent(bus, identity, AgentKind.HOST, "1.0", {}, 5.0, epoch="0123456789ab-0123456789ab")
        await agent.goodbye(LeaveReason.SHUTDOWN)
    one, other = (bus.heard(Left)[0].message_id for bus in buses)
    assert one != other
    assert one.version == other.version == 4


async def test_a_goodbye_is_said_once_and_no_heartbeat_follows(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    async with living(an_agent(bus, identity)) as agent:
        await asyncio.sleep(12)
        await agent.goodbye(LeaveReason.SHUTDOWN)
        await agent.goodbye(LeaveReason.SHUTDOWN)
        bus.reconnect()
        await asyncio.sleep(100)
        [left] = bus.heard(Left)
        assert (left.agent_id, left.epoch, left.reason) == ("web-1", agent.epoch, LeaveReason.SHUTDOWN)
    assert isinstance(bus.said[-1][1], Left)


async def test_other_labels_are_told_by_a_hello(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    bus.welcome = granting(5)
    async with living(an_agent(bus, identity)) as agent:
        await asyncio.sleep(5)
        agent.relabel({"role": "db"})
        await asyncio.sleep(2)
    assert [hello.labels for _, hello in bus.hellos] == [{"role": "web"}, {"role": "db"}]


async def test_a_change_of_the_configuration_is_said_by_its_keys(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    agent = an_agent(bus, identity)
    await agent.reconfigured(["labels", "servers"], needs_restart=["servers"])
    await agent.reconfigured([], error="cannot use it")
    taken, refused = bus.heard(Reconfigured)
    assert (taken.changed, taken.needs_restart, taken.error) == (["labels", "servers"], ["servers"], None)
    assert (refused.changed, refused.error, refused.epoch) == ([], "cannot use it", agent.epoch)


async def test_an_agent_whose_id_another_machine_has_goes_on_under_its_own(identity: AgentIdentity) -> None:
    bus = MemoryBus()
    bus.welcome = granting(7, agent_id="web-1-2")
    async with living(an_agent(bus, identity)) as agent:
        await asyncio.sleep(30)
        assert agent.interval == 7
    assert {beat.agent_id for beat in bus.heard(Heartbeat)} == {"web-1"}
