"""Tasks: they fail alone, come back, and are gone when their owner is."""

import asyncio
import contextlib

import pytest

from muster_runtime import Tasks
from muster_runtime.metrics import TASK_CRASHES
from muster_runtime.tasks import LONGEST_PAUSE_SECONDS, pause_after
from muster_testing.wait import until


def soon(_: int) -> float:
    return 0.0


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_fails_is_counted_and_started_again() -> None:
    before = TASK_CRASHES.get("phoenix")
    starts: list[int] = []

    async def phoenix() -> None:
        starts.append(1)
        if len(starts) < 4:
            raise RuntimeError("ashes")

    async with Tasks(soon) as tasks:
        await tasks.spawn("phoenix", phoenix)
        assert tasks.names == []
    assert len(starts) == 4
    assert TASK_CRASHES.get("phoenix") == before + 3


async def test_one_failing_task_does_not_touch_the_others() -> None:
    beats: list[int] = []

    async def fail() -> None:
        raise RuntimeError("again")

    async def work() -> None:
        while True:
            beats.append(1)
            await asyncio.sleep(0)

    async with Tasks(soon) as tasks:
        tasks.spawn("broken", fail)
        tasks.spawn("sound", work)
        await until(lambda: len(beats) > 50 and TASK_CRASHES.get("broken") > 5)
        assert tasks.names == ["broken", "sound"]
        [complaint] = tasks.complaints()
        assert complaint.startswith("task broken crashed")
        assert complaint.endswith("the last with RuntimeError")


async def test_a_cancellation_from_inside_is_a_crash_and_not_the_end() -> None:
    starts: list[int] = []

    async def work() -> None:
        starts.append(1)
        if len(starts) == 1:
            raise asyncio.CancelledError
        await forever()

    async with Tasks(soon) as tasks:
        tasks.spawn("worker", work)
        await until(lambda: len(starts) == 2)


async def test_a_round_that_swallows_its_cancellation_is_the_last_one() -> None:
    rounds: list[int] = []

    async def deaf() -> None:
        rounds.append(1)
        if len(rounds) == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()

    async with Tasks(soon, patience_seconds=0.2) as tasks:
        task = tasks.every("deaf", 0.01, deaf)
        await until(lambda: rounds)
    assert task.done()
    assert len(rounds) == 1


async def test_leaving_cancels_every_task_and_waits_for_its_end() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    async with Tasks() as tasks:
        task = tasks.spawn("worker", work)
        await until(lambda: tasks.names)
        await asyncio.sleep(0)
    assert ended == ["cleaned up"]
    assert task.cancelled()


async def test_a_task_that_ignores_its_end_does_not_hold_up_the_owner() -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with asyncio.timeout(20):
        async with Tasks(patience_seconds=0.05) as tasks:
            task = tasks.spawn("stubborn", stubborn)
            await asyncio.sleep(0)
    assert not task.done()
    release.set()
    await asyncio.wait([task])


async def test_two_tasks_of_one_name_are_refused() -> None:
    async with Tasks() as tasks:
        tasks.spawn("only", forever)
        with pytest.raises(ValueError, match="cannot start task only: one of this name is running"):
            tasks.spawn("only", forever)
        await tasks.cancel("only")
        await tasks.cancel("only")
        tasks.spawn("only", forever)
    with pytest.raises(RuntimeError, match="its owner is closing"):
        tasks.spawn("late", forever)


def test_the_pause_grows_is_jittered_and_never_longer_than_thirty_seconds() -> None:
    assert max(pause_after(1) for _ in range(200)) <= 0.1
    long = [pause_after(50) for _ in range(500)]
    assert max(long) <= LONGEST_PAUSE_SECONDS
    assert min(long) < 10
    assert max(long) > 20


@pytest.mark.looptime
async def test_rounds_come_on_a_fixed_beat() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    rounds: list[float] = []

    async def work() -> None:
        rounds.append(round(loop.time() - start))
        await asyncio.sleep(1)

    async with Tasks() as tasks:
        tasks.every("round", 5, work)
        await asyncio.sleep(21)
    assert rounds == [0, 5, 10, 15, 20]


@pytest.mark.looptime
async def test_a_long_round_lets_beats_go_by_and_piles_nothing_up() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    rounds: list[float] = []
    running = 0

    async def work() -> None:
        nonlocal running
        running += 1
        assert running == 1
        rounds.append(round(loop.time() - start))
        await asyncio.sleep(12 if len(rounds) == 1 else 0)
        running -= 1

    async with Tasks() as tasks:
        tasks.every("round", 5, work, first_after=2)
        await asyncio.sleep(28)
    assert rounds == [2, 17, 22, 27]


@pytest.mark.looptime
async def test_a_failing_round_is_counted_and_the_next_comes_at_its_time() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    before = TASK_CRASHES.get("shaky")
    rounds: list[float] = []

    async def work() -> None:
        rounds.append(round(loop.time() - start))
        if len(rounds) < 3:
            raise OSError("no disk")

    async with Tasks() as tasks:
        tasks.every("shaky", 5, work)
        await asyncio.sleep(6)
        assert tasks.complaints() == ["task shaky crashed 2 times in a row, the last with OSError"]
        await asyncio.sleep(5)
        assert tasks.complaints() == []
    assert rounds == [0, 5, 10]
    assert TASK_CRASHES.get("shaky") == before + 2


async def test_a_beat_of_nothing_is_refused() -> None:
    async with Tasks() as tasks:
        with pytest.raises(ValueError, match="cannot repeat spin every 0 s: give more than 0"):
            tasks.every("spin", 0, forever)
