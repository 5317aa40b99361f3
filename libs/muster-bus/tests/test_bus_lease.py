"""Of several replicas one holds the lease; it passes on when the holder cannot renew."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muster_bus import Bus
from muster_bus.broker import render
from muster_bus.ending import end
from muster_bus.lease import Cell, Entry, Lease, Refused, Unreachable
from muster_bus.streams import LEASES_BYTES, LIMITS
from muster_testing.chaos_proxy import ChaosProxy
from muster_testing.ground import Ground
from muster_testing.wait import until

TTL = 1.2
NAME = "health-recovery"
HOLDER = Path(__file__).parent / "lease_holder.py"


class Replica:
    """One contender; it notes what it holds, and contends again after a loss."""

    def __init__(self, bus: Bus, cell: Cell | None = None, ttl_seconds: float = TTL) -> None:
        self.cell = cell or Cell(bus, NAME)
        self.lease = Lease(self.cell, ttl_seconds=ttl_seconds)
        self.epochs: list[int] = []
        self.losses = 0
        self.holds = False
        self._task = asyncio.create_task(self._contend())

    async def _contend(self) -> None:
        while True:
            self.epochs.append(await self.lease.acquire())
            self.holds = True
            try:
                await self.lease.lost()
                self.losses += 1
            finally:
                self.holds = False
                await self.lease.release()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground() as made:
        yield made


@contextlib.asynccontextmanager
async def replicas(*buses: Bus) -> AsyncIterator[list[Replica]]:
    made = [Replica(bus) for bus in buses]
    try:
        yield made
    finally:
        for one in made:
            await one.end()


@contextlib.asynccontextmanager
async def holder(ground: Ground) -> AsyncIterator[Process]:
    """A replica in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HOLDER),
        ground.server.url,
        str(ground.seed_file(NAME)),
        str(TTL),
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(process: Process) -> tuple[str, int]:
    assert process.stdout
    async with asyncio.timeout(20):
        what, epoch = (await process.stdout.readline()).split()
    return what.decode(), int(epoch)


async def test_of_two_one_holds_and_the_other_has_it_at_once_when_it_is_given_back(ground: Ground) -> None:
    async with replicas(await ground.bus(NAME), await ground.bus(NAME)) as both:
        await until(lambda: any(one.holds for one in both))
        first, second = sorted(both, key=lambda one: not one.holds)
        while (renewed := (await second.cell.read()).revision) < first.epochs[0] + 4:
            assert (first.holds, second.holds) == (True, False)
        await first.end()
        freed = await second.cell.read()
        await until(lambda: second.holds)
    assert freed.holder in {None, second.lease.me}
    assert second.epochs[0] > renewed
    assert first.losses == 0


async def test_who_waits_takes_a_lease_whose_holder_was_killed(ground: Ground) -> None:
    async with holder(ground) as process:
        _, epoch = await said(process)
        async with replicas(await ground.bus(NAME)) as [waiting]:
            process.kill()
            await until(lambda: waiting.holds)
    assert waiting.epochs[0] > epoch


async def test_a_holder_that_was_stopped_learns_of_its_loss_and_takes_nothing_back(ground: Ground) -> None:
    async with holder(ground) as process:
        assert (await said(process))[0] == "held"
        async with replicas(await ground.bus(NAME)) as [waiting]:
            os.kill(process.pid, signal.SIGSTOP)
            await until(lambda: waiting.holds)
            os.kill(process.pid, signal.SIGCONT)
            assert (await said(process))[0] == "lost"
            assert waiting.holds
            assert waiting.losses == 0


async def test_a_holder_steps_down_before_another_may_begin_while_it_is_cut_off(ground: Ground) -> None:
    async with ChaosProxy(ground.server.port) as proxy, contextlib.AsyncExitStack() as stack:
        cut = await Bus.connect(ground.settings(NAME, server=proxy.url), first_try_seconds=10)
        stack.push_async_callback(cut.close)
        [first] = await stack.enter_async_context(replicas(cut))
        await until(lambda: first.holds)
        [second] = await stack.enter_async_context(replicas(await ground.bus(NAME)))
        proxy.black_hole()
        await until(lambda: not first.holds or second.holds)
        assert not second.holds
        await until(lambda: second.holds)
        proxy.heal()
    assert first.losses == 1
    assert second.epochs[0] > first.epochs[0]


async def test_a_broker_that_restarts_at_once_costs_nobody_the_lease(ground: Ground) -> None:
    only = Replica(await ground.bus(NAME), ttl_seconds=5 * TTL)
    await until(lambda: only.holds)
    before = (await only.cell.read()).revision
    ground.server.restart()
    await until(lambda: only.lease._revision > before)
    await only.end()
    assert (len(only.epochs), only.losses) == (1, 0)


async def test_while_the_broker_is_away_nobody_holds_and_somebody_does_when_it_is_back(
    ground: Ground,
) -> None:
    async with replicas(await ground.bus(NAME), await ground.bus(NAME)) as both:
        await until(lambda: any(one.holds for one in both))
        ground.server.kill()
        await until(lambda: not any(one.holds for one in both))
        assert all(not one.lease.valid for one in both)
        await until(lambda: all("the broker is away" in (one.lease.complaint or "") for one in both))
        ground.server.start()
        await until(lambda: [one.holds for one in both].count(True) == 1, seconds=20)
        await until(lambda: all(one.lease.complaint is None for one in both))


class Blind(Cell):
    """The twin without compare-and-set: whoever writes last is right."""

    async def write(self, holder: str | None, after: int) -> int:
        while True:
            with contextlib.suppress(Refused):
                return await super().write(holder, (await self.read()).revision)


@pytest.mark.parametrize(("cell", "leaders"), [(Cell, 1), (Blind, 2)])
async def test_without_compare_and_set_two_would_lead(ground: Ground, cell: type[Cell], leaders: int) -> None:
    class Gate(cell):  # type: ignore[misc, valid-type]  # the one or the other
        """Nobody writes before both have read."""

        async def write(self, holder: str | None, after: int) -> int:
            with contextlib.suppress(asyncio.BrokenBarrierError):
                await gate.wait()
                await gate.abort()
            return int(await super().write(holder, after))

    gate = asyncio.Barrier(2)
    buses = [await ground.bus(NAME), await ground.bus(NAME)]
    both = [Replica(bus, Gate(bus, NAME)) for bus in buses]
    await until(lambda: sum(len(one.epochs) for one in both) >= leaders)
    await until(lambda: sum(one.holds for one in both) == leaders)
    for one in both:
        await one.end()


async def test_a_write_that_was_stored_though_no_answer_came_does_not_cost_the_lease(ground: Ground) -> None:
    class Deaf(Cell):
        """Hears the answers to none but the first and every third of its writes."""

        writes = 0

        async def write(self, holder: str | None, after: int) -> int:
            revision = await super().write(holder, after)
            self.writes += 1
            if self.writes % 3 != 1:
                raise Unreachable("cannot reach it: no answer")
            return revision

    bus = await ground.bus(NAME)
    cell = Deaf(bus, NAME)
    replica = Replica(bus, cell)
    await until(lambda: cell.writes > 8)
    await replica.end()
    assert (len(replica.epochs), replica.losses) == (1, 0)


async def test_the_epochs_go_on_above_those_of_a_store_that_is_no_more(ground: Ground) -> None:
    bus = await ground.bus(NAME)
    lease = Lease(Cell(bus, NAME), ttl_seconds=TTL)
    first = await lease.acquire()
    await lease.release()
    lease.outgrow(1000)
    second = await lease.acquire()
    await lease.release()
    assert first < 1000 < second


async def test_a_lease_that_nobody_provisioned_is_complained_of(ground: Ground) -> None:
    provisioner = await ground.bus("provisioner")
    await provisioner.client.jetstream().delete_stream("KV_leases")
    async with replicas(await ground.bus(NAME)) as [one]:
        await until(lambda: one.lease.complaint)
        assert not one.epochs


async def test_a_service_reaches_its_own_lease_and_no_other(ground: Ground) -> None:
    bus = await ground.bus("state-store")
    assert await Cell(bus, "state-store").read() == Entry()
    foreign = Cell(bus, NAME)
    with pytest.raises(Unreachable, match="no permission"):
        await foreign.read()
    with pytest.raises(Unreachable, match="no permission"):
        await foreign.write("thief", 0)


def test_the_leases_fit_the_store_beside_all_streams() -> None:
    promised = re.search(r"max_file_store: (\d+)", render([], port=1, store_dir=Path("/nowhere")))
    assert promised
    assert sum(limits.max_bytes for limits in LIMITS.values()) + LEASES_BYTES <= int(promised[1])


async def test_a_task_that_loses_its_first_cancellation_is_ended_all_the_same() -> None:
    lost = []

    async def deaf_once() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost.append("the first")
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    await end(task)
    assert (task.cancelled(), lost) == (True, ["the first"])
