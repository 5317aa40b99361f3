"""When checks look: at their own beats, without drift, few at once, never twice at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.domain.schedule import FIRST_WITHIN_SECONDS, Beat, share
from host_agent.scheduling import PATIENCE_SECONDS, Scheduler

beats = st.builds(Beat, st.floats(0.1, 86_400), st.floats(0, 1, exclude_max=True))
moments = st.floats(0, 1e7)


@given(beats, moments)
def test_beats_are_a_period_apart_for_ever(beat: Beat, now: float) -> None:
    first = beat.after(now)
    assert now < first <= now + beat.every * 1.001
    thousandth = first
    for _ in range(50):
        thousandth = beat.after(thousandth + beat.every * 0.3)
    assert thousandth == pytest.approx(first + 50 * beat.every, rel=1e-9)


@given(beats, moments)
def test_the_first_look_is_soon_and_the_second_on_the_beat(beat: Beat, now: float) -> None:
    first = beat.first(now)
    assert now <= first <= now + min(beat.every, FIRST_WITHIN_SECONDS)
    second = beat.second(first)
    assert first + beat.every / 2 < second <= first + 1.501 * beat.every


def test_checks_are_spread_evenly_over_their_period() -> None:
    shares = [share("web-1", f"package-{number // 5}", f"check-{number}") for number in range(500)]
    tenths = Counter(int(each * 10) for each in shares)
    assert min(tenths.values()) > 25
    assert max(tenths.values()) < 75


def test_the_same_check_has_its_own_beat_on_each_machine_and_keeps_it() -> None:
    assert share("web-1", "web", "http") == share("web-1", "web", "http")
    assert share("web-1", "web", "http") != share("web-2", "web", "http")
    assert share("a", "bc") != share("ab", "c")


class Looker:
    """Looks for so long, and remembers when."""

    def __init__(self, seconds: float = 0.0, *, heavy: bool = False) -> None:
        self.seconds, self.heavy = seconds, heavy
        self.looks: list[float] = []
        self.late: list[float] = []
        self.skips: list[bool] = []
        self.going_on = self.most = 0
        self.cancelled = False

    async def look(self, late_seconds: float) -> None:
        self.looks.append(asyncio.get_running_loop().time())
        self.late.append(late_seconds)
        self.going_on += 1
        self.most = max(self.most, self.going_on)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            self.going_on -= 1

    def skipped(self, *, waiting: bool) -> None:
        self.skips.append(waiting)


class Broken(Looker):
    async def look(self, late_seconds: float) -> None:
        await super().look(late_seconds)
        raise ValueError("broken")


@pytest.fixture
async def scheduler() -> AsyncGenerator[Scheduler]:
    made = Scheduler(at_once=3, heavy_at_once=1)
    yield made
    await made.close()


pytestmark = pytest.mark.looptime


async def test_a_check_looks_at_every_beat(scheduler: Scheduler) -> None:
    looker = Looker(0.2)
    scheduler.add(looker, Beat(10.0, 0.5))
    await asyncio.sleep(100)
    assert looker.looks[0] == pytest.approx(2.5, abs=0.01)
    assert looker.looks[1:] == pytest.approx([15.0 + 10 * each for each in range(9)], abs=0.01)
    assert max(looker.late) < 0.01
    assert looker.skips == []


async def test_a_look_longer_than_its_period_skips_beats_and_is_never_doubled(scheduler: Scheduler) -> None:
    looker = Looker(2.5)
    scheduler.add(looker, Beat(1.0, 0.0))
    await asyncio.sleep(30)
    assert looker.most == 1
    assert [after - before for before, after in pairwise(looker.looks[1:])] == pytest.approx(
        [3.0] * 8, abs=0.01
    )
    assert looker.skips == [False] * 20


async def test_no_more_looks_go_on_than_allowed_and_the_others_wait_in_order(scheduler: Scheduler) -> None:
    lookers = [Looker(1.0) for _ in range(7)]
    for number, looker in enumerate(lookers):
        scheduler.add(looker, Beat(100.0, number / 1000))
    await asyncio.sleep(4)
    begins = [looker.looks[0] for looker in lookers]
    assert begins == pytest.approx([0, 0.005, 0.01, 1.0, 1.005, 1.01, 2.0], abs=0.02)
    assert lookers[6].late == pytest.approx([1.97], abs=0.02)


async def test_scripts_that_hang_hold_up_no_other_kind(scheduler: Scheduler) -> None:
    hung, waiting, light = Looker(1000.0, heavy=True), Looker(heavy=True), Looker()
    scheduler.add(hung, Beat(10.0, 0.0))
    scheduler.add(waiting, Beat(10.0, 0.1))
    scheduler.add(light, Beat(10.0, 0.2))
    await asyncio.sleep(100)
    assert len(light.looks) >= 9
    assert waiting.looks == []
    assert waiting.skips == [True] * 9
    assert set(hung.skips) == {False}


async def test_what_is_removed_looks_no_more_and_ends_its_look(scheduler: Scheduler) -> None:
    looker, other = Looker(5.0), Looker()
    scheduler.add(looker, Beat(10.0, 0.0))
    scheduler.add(other, Beat(10.0, 0.0))
    await asyncio.sleep(1)
    scheduler.remove(looker)
    scheduler.remove(looker)
    await asyncio.sleep(50)
    assert looker.cancelled
    assert len(looker.looks) == 1
    assert len(other.looks) == 6


async def test_a_place_is_free_again_after_a_look_that_was_cancelled_or_failed(scheduler: Scheduler) -> None:
    hung, broken, patient = Looker(1000, heavy=True), Broken(heavy=True), Looker(heavy=True)
    scheduler.add(hung, Beat(10.0, 0.0))
    scheduler.add(broken, Beat(10.0, 0.1))
    scheduler.add(patient, Beat(10.0, 0.2))
    await asyncio.sleep(5)
    scheduler.remove(hung)
    await asyncio.sleep(15)
    assert len(broken.looks) == 2
    assert len(patient.looks) == 2


async def test_a_look_that_does_not_end_holds_up_no_end_and_nothing_looks_afterwards() -> None:
    class Stubborn(Looker):
        async def look(self, late_seconds: float) -> None:
            try:
                await super().look(late_seconds)
            finally:
                await asyncio.sleep(60)

    closing = Scheduler(at_once=3, heavy_at_once=1)
    stubborn, other = Stubborn(1000.0), Looker()
    closing.add(stubborn, Beat(10.0, 0.0))
    closing.add(other, Beat(10.0, 0.5))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await closing.close()
    assert asyncio.get_running_loop().time() - began == pytest.approx(PATIENCE_SECONDS, abs=0.1)
    closing.add(other, Beat(10.0, 0.5))
    await asyncio.sleep(100)
    assert other.looks == []
    assert stubborn.cancelled
