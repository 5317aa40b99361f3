"""Heartbeats are evenly spaced, never pile up, and a fleet does not beat in step."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_agent.rhythm import Rhythm, sane

intervals = st.floats(0.05, 3600)
delays = st.lists(st.floats(0, 20_000), max_size=50)


def test_the_first_beat_is_due_at_once() -> None:
    assert Rhythm(5).wait(1000.0) == 0


@given(intervals, delays, st.floats(0, 1, exclude_max=True))
def test_after_each_beat_exactly_one_is_due_within_an_interval(
    interval: float, delays: list[float], chance: float
) -> None:
    rhythm, now = Rhythm(interval, chance=lambda: chance), 1000.0
    for delay in delays:
        rhythm.beat(now)
        assert 0 < rhythm.wait(now) <= interval * 1.001
        now += rhythm.wait(now) + delay


def test_beats_made_late_do_not_shift_the_later_ones() -> None:
    rhythm = Rhythm(5, chance=lambda: 0.0)
    rhythm.beat(0.0)
    due = []
    for late in (0.3, 0.0, 1.7, 12.0, 0.1):
        due.append(rhythm.due)
        rhythm.beat(rhythm.due + late)
    assert due == [5, 10, 15, 20, 35]


def test_agents_that_start_together_do_not_beat_together_ever_after() -> None:
    fleet = [Rhythm(10, chance=lambda part=part: part / 100) for part in range(100)]  # type: ignore[misc]
    for rhythm in fleet:
        rhythm.beat(0.0)
    dues = sorted(rhythm.due for rhythm in fleet)
    assert all(later - earlier < 0.2 for earlier, later in pairwise(dues))


def test_another_interval_makes_a_beat_due_at_once() -> None:
    rhythm = Rhythm(5)
    rhythm.beat(100.0)
    rhythm.adopt(60)
    assert rhythm.wait(100.1) == 0
    rhythm.beat(100.1)
    assert 0 < rhythm.wait(100.1) <= 60


@pytest.mark.parametrize("nonsense", [0, -1, 0.001, 1e9, float("inf"), float("nan")])
def test_an_interval_nobody_can_live_by_is_not_sane(nonsense: float) -> None:
    assert not sane(nonsense)
