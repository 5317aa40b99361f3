"""Output: live, bounded, resumed after any cut, gone from the machine when the store has it."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obedience_ground import AGENT, EPOCH, Life, MemoryStore, Scribe, some_terms

from muster_agent.obedience import Limits, Obedience, Result, Work
from muster_agent.obedience.output import Output
from muster_agent.obedience.uploading import packed
from muster_bus import Bus
from muster_bus.errors import AskFailed, NoAnswer
from muster_bus.spool import FileSpool
from muster_contracts.chunk.v1 import LARGEST_CHUNK, ChunkTaken, PutChunk
from muster_contracts.command.v1 import Backlog, Cancel, Ended, Execute, GetBacklog
from muster_contracts.message import Problem
from muster_testing.chaos_proxy import ChaosProxy
from muster_testing.ground import Ground
from muster_testing.wait import until

SEED = int.from_bytes(os.urandom(4), "big")

fake_time = pytest.mark.looptime


@pytest.fixture
async def life(tmp_path: Path) -> AsyncIterator[Life]:
    life = Life(tmp_path, limits=Limits(output_bytes=100_000, waiting_output_bytes=150_000))
    await life.begin()
    yield life
    await life.end()


def files(life: Life) -> list[Path]:
    return list((life.directory / "output").iterdir())


@fake_time
async def test_output_arrives_whole_is_described_by_the_end_and_leaves_the_machine(life: Life) -> None:
    order = some_terms(life.clock, print="hello " * 10_000)
    await life.bus.order(order)
    [end] = await life.ended(order)
    stream = f"output/{order.command_id}"
    await until(lambda: stream in life.bus.store.complete)
    assert bytes(life.bus.store.streams[stream]) == b"hello " * 10_000
    assert (end.output_bytes, end.output_sha256) == (60_000, life.bus.store.complete[stream])
    await until(lambda: not files(life))


@fake_time
async def test_output_is_there_while_the_command_still_runs(life: Life) -> None:
    order = some_terms(life.clock, print="begun\n", sleep=100)
    await life.bus.order(order)
    await asyncio.sleep(1)
    assert bytes(life.bus.store.streams[f"output/{order.command_id}"]) == b"begun\n"
    assert not life.bus.ends(order)
    await life.ended(order)


@fake_time
async def test_a_command_that_prints_nothing_has_no_stream(life: Life) -> None:
    order = some_terms(life.clock)
    await life.bus.order(order)
    [end] = await life.ended(order)
    await asyncio.sleep(1)
    assert (end.output_bytes, end.output_sha256, life.bus.store.streams) == (0, None, {})


@fake_time
async def test_more_output_than_allowed_is_truncated_and_says_so(life: Life) -> None:
    order = some_terms(life.clock, print="x" * 200_000)
    await life.bus.order(order)
    [end] = await life.ended(order)
    await until(lambda: bool(life.bus.store.complete))
    [data] = life.bus.store.streams.values()
    assert data.startswith(b"x" * 100_000 + b"\n[truncated: ")
    assert end.output_bytes == len(data) < 100_100


@fake_time
async def test_outputs_that_wait_for_a_store_that_is_away_are_bounded_and_the_oldest_is_dropped(
    life: Life,
) -> None:
    life.bus.connected = False
    orders = [some_terms(life.clock, print=f"{number}" * 60_000) for number in range(3)]
    for order in orders:
        await life.bus.order(order)
        await life.ended(order)
    # Time is a fake and the disk is not: on a busy machine a minute of the one is over before the other.
    await until(lambda: life.obedience.counts.of("outputs_dropped") == 1, 3600)
    assert {file.name for file in files(life)} == {str(one.command_id) for one in orders[1:]}
    life.bus.reconnect()
    await until(lambda: len(life.bus.store.complete) == 2, 60)


@fake_time
async def test_output_of_a_run_that_died_goes_on_where_the_store_is(life: Life) -> None:
    order = some_terms(life.clock, print="y" * 50_000, sleep=100)
    await life.bus.order(order)
    await asyncio.sleep(0.01)
    await life.crash()
    stream = life.bus.store.streams.setdefault(f"output/{order.command_id}", bytearray())
    stream[:] = b"y" * 12_345
    (stray := life.directory / "output" / ".stray").touch()
    await life.begin()
    [end] = await life.ended(order)
    await until(lambda: bool(life.bus.store.complete), 60)
    assert len(stream) == end.output_bytes == 50_000
    assert files(life) == [stray]


@fake_time
async def test_an_output_the_store_refuses_for_ever_is_dropped_and_holds_up_no_other(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = some_terms(life.clock, print="bad"), some_terms(life.clock, print="good")
    take = life.bus.store.put

    async def put(question: PutChunk) -> ChunkTaken:
        if question.stream.endswith(str(bad.command_id)):
            raise AskFailed(Problem(code="invalid", text="cannot keep it: too much"))
        return await take(question)

    monkeypatch.setattr(life.bus.store, "put", put)
    await life.bus.order(bad)
    await life.bus.order(good)
    await life.ended(bad, good)
    await until(lambda: len(life.bus.store.complete) == 1 and not files(life), 60)
    assert life.obedience.counts.of("outputs_dropped") == 1


@pytest.mark.parametrize("data", [b"a" * LARGEST_CHUNK, random.Random(1).randbytes(LARGEST_CHUNK)])
def test_the_largest_chunk_fits_into_a_message_however_it_packs(data: bytes) -> None:
    question = PutChunk(
        occurred_at=datetime.now(UTC), agent_id=AGENT, stream="output/x", chunk=packed(data, 1 << 40)
    )
    assert len(question.model_dump_json()) <= PutChunk.MAX_BYTES


# Capability 12, on a real broker behind a bad cable -----------------------------------------------------


class Scissors(ChaosProxy):
    """Cuts every connection each time so many bytes went one way: within a chunk, or within its answer."""

    def __init__(self, target_port: int, dice: random.Random, at_chunks: float) -> None:
        super().__init__(target_port)
        self._chance_of_chunks = at_chunks
        self.cuts = 0
        self.most = 12
        self._dice = dice
        self._aim()

    def _aim(self) -> None:
        self._at_chunks = self._dice.random() < self._chance_of_chunks
        self._left = self._dice.randint(5_000, 150_000) if self._at_chunks else self._dice.randint(100, 3000)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        of_chunks = writer.get_extra_info("peername")[1] == self._target_port
        while data := await reader.read(4096):
            if of_chunks == self._at_chunks:
                self._left -= len(data)
            if self._left <= 0 and self.cuts < self.most:
                self.cuts += 1
                writer.write(data[: self._left])
                await writer.drain()
                self._aim()
                self.cut()
                return
            writer.write(data)
            await writer.drain()


class Printing(Scribe):
    """Prints bytes that do not compress, in pieces of any size."""

    def __init__(self, data: bytes, dice: random.Random) -> None:
        super().__init__()
        self._data = data
        self._dice = dice

    async def perform(self, work: Work) -> Result:
        at = 0
        while at < len(self._data):
            piece = self._data[at : at + self._dice.randint(1, 50_000)]
            await work.write(piece)
            at += len(piece)
            await asyncio.sleep(0.005)
        return Result()


class StandIn:
    """state-store, as far as an agent with one command sees it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.ends: list[Ended] = []

    async def listen(self, ground: Ground) -> Bus:
        bus = await ground.bus("state-store")
        await bus.answer(PutChunk, self.store.put)
        await bus.answer(GetBacklog, self._nothing)
        await (await ground.bus("operator")).hear(Ended, self._ended)
        return bus

    async def _nothing(self, _: GetBacklog) -> Backlog:
        return Backlog(orders=[])

    async def _ended(self, ended: Ended) -> None:
        self.ends.append(ended)


class Careless(MemoryStore):
    """Takes whatever comes, wherever it belongs, as something new."""

    async def put(self, question: PutChunk) -> ChunkTaken:
        if question.chunk:
            kept = self.streams.setdefault(question.stream, bytearray())
            at = question.chunk.model_copy(update={"offset": len(kept)})
            question = question.model_copy(update={"chunk": at, "end": None})
        return await super().put(question)


async def print_through_cuts(
    ground: Ground,
    store: MemoryStore,
    directory: Path,
    *,
    at_chunks: float = 0.5,
    until_complete: bool = True,
) -> tuple[bytes, Scissors]:
    """Have one command print two MiB while the cable is cut a dozen times; what it printed."""
    dice = random.Random(SEED)
    data = dice.randbytes(2 << 20)
    stand_in = StandIn(store)
    ledger = await stand_in.listen(ground)
    spool = FileSpool(directory / "spool.db")
    order = some_terms()
    async with Scissors(ground.server.port, dice, at_chunks) as scissors:
        bus = await Bus.connect(ground.settings(AGENT, server=scissors.url), spool=spool)
        obedience = Obedience(bus, AGENT, EPOCH, directory, Printing(data, dice))
        await obedience.listen()
        running = asyncio.create_task(obedience.run())

        async def ordered() -> bool:
            question = Execute(occurred_at=datetime.now(UTC), agent_id=AGENT, terms=order)
            try:
                await ledger.ask(question, timeout=1)
            except (NoAnswer, AskFailed):
                return False
            return True

        await until(ordered)

        def there() -> bool:
            whole = any(len(stream) >= len(data) for stream in store.streams.values())
            return whole and (bool(store.complete) or not until_complete) and bool(stand_in.ends)

        await until(there, 20)
        await obedience.stop(0)
        running.cancel()
        await asyncio.wait([running])
        await bus.close()
    spool.close()
    assert stand_in.ends[0].output_sha256 == hashlib.sha256(data).hexdigest()
    return data, scissors


async def test_output_cut_at_random_bytes_has_no_gap_and_nothing_twice(tmp_path: Path) -> None:
    async with Ground(AGENT) as ground:
        store = MemoryStore()
        data, scissors = await print_through_cuts(ground, store, tmp_path)
        assert scissors.cuts >= 5
        assert [bytes(stream) for stream in store.streams.values()] == [data], f"seed {SEED}"
        assert list(store.complete.values()) == [hashlib.sha256(data).hexdigest()]


async def test_without_offsets_the_same_cuts_leave_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Output, "unsure", property(lambda _: False, lambda _, __: None), raising=False)
    async with Ground(AGENT) as ground:
        store = Careless()
        data, _ = await print_through_cuts(ground, store, tmp_path, at_chunks=0, until_complete=False)
        assert not any(stream.startswith(data) for stream in store.streams.values()), f"seed {SEED}"


async def test_a_cancel_reaches_the_performer_within_a_second_on_a_real_broker(tmp_path: Path) -> None:
    async with Ground(AGENT) as ground:
        stand_in, scribe, spool = StandIn(MemoryStore()), Scribe(), FileSpool(tmp_path / "spool.db")
        ledger = await stand_in.listen(ground)
        bus = await ground.bus(AGENT, spool=spool)
        obedience = Obedience(bus, AGENT, EPOCH, tmp_path, scribe)
        await obedience.listen()
        running = asyncio.create_task(obedience.run())
        order = some_terms(sleep=3600)

        async def ordered() -> bool:
            try:
                await ledger.ask(Execute(occurred_at=datetime.now(UTC), agent_id=AGENT, terms=order))
            except AskFailed:  # its agent has just begun
                return False
            return True

        await until(ordered)
        await until(lambda: scribe.began == [order.command_id])
        said_at = datetime.now(UTC)
        await ledger.say(Cancel(occurred_at=said_at, agent_id=AGENT, command_id=order.command_id))
        await until(lambda: bool(stand_in.ends))
        assert stand_in.ends[0].state == "cancelled"
        assert stand_in.ends[0].occurred_at - said_at < timedelta(seconds=1)
        assert scribe.cleaned_up == [order.command_id]
        await obedience.stop(0)
        running.cancel()
        await asyncio.wait([running])
        await bus.close()
        spool.close()
