"""F2 and capability 9: an agent that is killed at the worst points, on a real broker, by kill -9."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from obedience_ground import MemoryStore, some_terms

from muster_bus import Bus
from muster_bus.errors import MusterError
from muster_contracts.chunk.v1 import PutChunk
from muster_contracts.command.v1 import Backlog, CommandState, Ended, Execute, GetBacklog, Terms
from muster_runtime import failpoints
from muster_testing.ground import Ground
from muster_testing.wait import until

AGENT = "web-1"
PAGE = 100
PROGRAM = Path(__file__).with_name("obedient_program.py")


class Ledger:
    """What state-store is to one agent, in memory: the backlog, the ends, the streams."""

    def __init__(self, bus: Bus, operator: Bus) -> None:
        self.bus = bus
        self.operator = operator
        self.orders: dict[UUID, Terms] = {}
        self.ends: dict[UUID, list[Ended]] = {}
        self.store = MemoryStore()

    async def listen(self) -> None:
        await self.bus.answer(GetBacklog, self._backlog)
        await self.bus.answer(PutChunk, self.store.put)
        await self.operator.hear(Ended, self._on_ended)

    def add(self, *orders: Terms) -> None:
        self.orders |= {one.command_id: one for one in orders}

    async def push(self, order: Terms) -> bool:
        question = Execute(occurred_at=datetime.now(UTC), agent_id=AGENT, terms=order)
        try:
            await self.bus.ask(question, timeout=1)
        except MusterError:
            return False
        return True

    def all_ended(self) -> bool:
        return self.ends.keys() >= self.orders.keys()

    async def _backlog(self, question: GetBacklog) -> Backlog:
        open_ = [one for one in self.orders if one not in self.ends or len(self.orders) > PAGE]
        begin = open_.index(question.after) + 1 if question.after else 0
        page = open_[begin : begin + PAGE]
        more = len(open_) > begin + PAGE
        return Backlog(orders=[self.orders[one] for one in page], next=page[-1] if more else None)

    async def _on_ended(self, ended: Ended) -> None:
        self.ends.setdefault(ended.command_id, []).append(ended)


class Stand:
    """One agent's state, its ledger, and runs of its program."""

    def __init__(self, ground: Ground, ledger: Ledger) -> None:
        self.ground = ground
        self.ledger = ledger
        self.effects_file = ground.directory / "effects"
        self.gate = ground.directory / "gate"
        (ground.directory / "state").mkdir()

    @contextmanager
    def running(self, failpoint: str = "", **config: Any) -> Iterator["subprocess.Popen[bytes]"]:
        told = {
            "server": self.ground.server.url, "seed": str(self.ground.seed_file(AGENT)),
            "state": str(self.ground.directory / "state"), "effects": str(self.effects_file), **config,
        }  # fmt: skip
        with (self.ground.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(told)],
                env={**os.environ, failpoints.VARIABLE: failpoint}, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def effects(self) -> Counter[str]:
        return Counter(self.effects_file.read_text().split() if self.effects_file.exists() else [])

    async def kill_at(self, point: str, nth: int, **config: Any) -> None:
        """Order some commands of an agent that dies at the point, and have another run go on."""
        orders = [some_terms(lane=f"lane-{number}") for number in range(3)]
        with self.running(f"{point}:kill9:{nth}", **config) as doomed:
            self.ledger.add(*orders)
            while doomed.poll() is None:
                await self.ledger.push(random.choice(orders))
                await asyncio.sleep(0.01)
        assert doomed.returncode == -9, (self.ground.directory / "log").read_text()
        with self.running(**config):
            await until(self.ledger.all_ended, 30)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with a_stand() as stand:
        yield stand


@asynccontextmanager
async def a_stand() -> AsyncIterator[Stand]:
    async with Ground(AGENT) as ground:
        ledger = Ledger(await ground.bus("state-store"), await ground.bus("operator"))
        await ledger.listen()
        yield Stand(ground, ledger)


ONCE_A_ROUND = {"result-outboxed", "acked", "floor"}
"""Points that are passed for several commands at once."""
SOAK = [pytest.mark.soak, pytest.mark.timeout(600)]


@pytest.mark.parametrize("times", [2, pytest.param(25, marks=SOAK)], ids=["2x", "25x"])
@pytest.mark.parametrize("point", failpoints.OF_A_COMMAND)
async def test_an_agent_killed_at_any_point_has_one_effect_of_each_command_and_one_end(
    stand: Stand, point: str, times: int
) -> None:
    for _ in range(times):
        await stand.kill_at(point, 1 if point in ONCE_A_ROUND else random.randint(1, 3))
    counts = stand.effects()
    assert max(counts.values(), default=0) <= 1
    for command_id, ends in stand.ledger.ends.items():
        assert len({end.message_id for end in ends}) == 1
        assert ends[0].state in {"succeeded", "interrupted"}
        assert ends[0].state == "interrupted" or counts[str(command_id)] == 1
    interrupted = sum(ends[0].state == "interrupted" for ends in stand.ledger.ends.values())
    # What was cut off between its beginning and its end says so.
    assert interrupted >= (times if point in {"before-exec", "after-exec"} else 0)


async def test_an_agent_that_forgets_what_it_began_has_two_effects_of_one_command(stand: Stand) -> None:
    await stand.kill_at("after-exec", 1, forgetful=True)
    assert max(stand.effects().values()) == 2


@pytest.mark.parametrize("many", [1000, pytest.param(10_000, marks=SOAK)], ids=["1000", "10000"])
async def test_outcomes_of_a_broker_outage_arrive_once_and_in_order_though_the_agent_is_killed(
    stand: Stand, many: int
) -> None:
    orders = [some_terms(lane=f"lane-{number % 50}", start_seconds=3600.0) for number in range(many)]
    stand.ledger.add(*orders)
    gate = {"gate": str(stand.gate)}
    with stand.running(**gate):
        await until(lambda: known(stand) == many, 100)
        stand.ground.server.kill()
        stand.gate.touch()
        await until(lambda: stand.effects().total() > many // 3, 60)
    assert not stand.ledger.ends
    with stand.running(**gate):
        await until(lambda: ended(stand) == many, 100)
        stand.ground.server.start()
        js = (await stand.ground.bus("provisioner")).client.jetstream()

        async def all_there() -> bool:
            return await kept(js) >= many

        await until(all_there, 100, every=0.1)
    assert max(stand.effects().values()) == 1
    stream = await in_the_stream(js)
    assert Counter(end.command_id for end in stream) == dict.fromkeys(stand.ledger.orders, 1)
    places = {end.command_id: place for place, end in enumerate(stream)}
    for lane in range(50):
        in_order = [places[one.command_id] for one in orders[lane::50]]
        assert in_order == sorted(in_order)
    states = Counter(end.state for end in stream)
    assert states.keys() <= {CommandState.SUCCEEDED, CommandState.INTERRUPTED}
    assert states[CommandState.INTERRUPTED] <= 50  # at most what each lane was at


def known(stand: Stand) -> int:
    return count(stand, "SELECT count(*) FROM commands")


def ended(stand: Stand) -> int:
    return count(stand, "SELECT count(*) FROM commands WHERE ended IS NOT NULL")


def count(stand: Stand, query: str) -> int:
    import sqlite3

    file = stand.ground.directory / "state" / "journal.db"
    if not file.exists():
        return 0
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        (number,) = db.execute(query).fetchone()
        return int(number)
    except sqlite3.OperationalError:  # its tables are not there yet
        return 0
    finally:
        db.close()


async def kept(js: JetStreamContext) -> int:
    """How many ends the stream keeps."""
    state = (await js.stream_info("COMMAND", subjects_filter=Ended.SUBJECT.bound(AGENT))).state
    return sum((state.subjects or {}).values())


async def in_the_stream(js: JetStreamContext) -> list[Ended]:
    """Everything the stream keeps, in its order."""
    many, ends = await kept(js), list[Ended]()
    inbox = await js.pull_subscribe(
        Ended.SUBJECT.bound(AGENT), stream="COMMAND", config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    while len(ends) < many:
        ends += [Ended.model_validate_json(one.data) for one in await inbox.fetch(500, timeout=10)]
    return ends
