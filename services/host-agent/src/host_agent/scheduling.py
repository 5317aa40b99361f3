"""Having many checks look at their beats: one timer for all, few at once, never two looks of one check."""

import asyncio
from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from host_agent.domain.schedule import Beat
from muster_runtime import logger

CLOSE_SECONDS = 0.002
"""What is due this soon is begun, too: one waking for several."""


PATIENCE_SECONDS = 3.0
"""Looks that go on at the end may take this long to leave nothing behind."""

log = logger(__name__)


class Looker(Protocol):
    """What looks at a beat."""

    @property
    def heavy(self) -> bool:
        """Whether a look starts a process."""

    async def look(self, late_seconds: float) -> None:
        """Look once; raises nothing. It begins so long after it was due."""

    def skipped(self, *, waiting: bool) -> None:
        """It could not look at a beat: the look before goes on, or is still ``waiting`` for its turn."""


class _Place:
    """One check on the schedule."""

    __slots__ = ("asked", "beat", "due", "first", "gone", "looker", "task", "waiting")

    def __init__(self, looker: Looker, beat: Beat, now: float) -> None:
        self.looker, self.beat = looker, beat
        self.due = beat.first(now)
        self.first = True
        self.asked = self.due
        """When the look that goes on, or waits for its turn, was due."""
        self.task: asyncio.Task[None] | None = None
        self.waiting = False
        self.gone = False

    def next(self, now: float) -> float:
        """The beat after the one that is due; those that went by unseen are none."""
        if self.first:
            self.first = False
            return self.beat.second(max(self.due, now))
        return self.beat.after(max(self.due, now))


class _Lane:
    """Looks of one weight, so many at once; the others wait in the order they were due."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.queue: deque[_Place] = deque()
        self.looking = 0


class Scheduler:
    """Begins looks when they are due. All of it happens in the loop it is first used in."""

    def __init__(self, at_once: int, heavy_at_once: int) -> None:
        self._lanes = {False: _Lane(at_once), True: _Lane(heavy_at_once)}
        self._places: dict[Looker, _Place] = {}
        self._heap: list[tuple[float, int, _Place]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, looker: Looker, beat: Beat) -> None:
        """Have it look from now on; after the close nothing looks any more."""
        if self._closed:
            return
        place = self._places[looker] = _Place(looker, beat, asyncio.get_running_loop().time())
        self._push(place)

    def remove(self, looker: Looker) -> None:
        """Have it look no more; a look that goes on is cancelled."""
        if place := self._places.pop(looker, None):
            place.gone = True
            if place.task:
                place.task.cancel()

    async def close(self) -> None:
        """Have none look any more; returns when every look has ended, or is past waiting for."""
        self._closed = True
        tasks = [place.task for place in self._places.values() if place.task]
        for looker in list(self._places):
            self.remove(looker)
        if self._timer:
            self._timer.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)

    def _push(self, place: _Place) -> None:
        heappush(self._heap, (place.due, next(self._numbers), place))
        if self._heap[0][2] is place:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._heap[0][0], self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now + CLOSE_SECONDS:
            place = heappop(self._heap)[2]
            if not place.gone:
                self._beat(place, now)
        if self._heap:
            self._set_timer()

    def _beat(self, place: _Place, now: float) -> None:
        due, place.due = place.due, place.next(now)
        self._push(place)
        if place.task or place.waiting:
            place.looker.skipped(waiting=place.waiting)
            return
        place.asked, place.waiting = due, True
        lane = self._lanes[place.looker.heavy]
        lane.queue.append(place)
        self._turn(lane)

    def _turn(self, lane: _Lane) -> None:
        """Begin as many of those that wait as there is room for."""
        while lane.queue and lane.looking < lane.at_once:
            place = lane.queue.popleft()
            if not place.gone:
                self._begin(place, lane)

    def _begin(self, place: _Place, lane: _Lane) -> None:
        late = max(0.0, asyncio.get_running_loop().time() - place.asked)
        place.waiting = False
        lane.looking += 1
        place.task = asyncio.create_task(place.looker.look(late))
        place.task.add_done_callback(lambda task: self._ended(place, lane, task))

    def _ended(self, place: _Place, lane: _Lane, task: asyncio.Task[None]) -> None:
        place.task = None
        lane.looking -= 1
        if not task.cancelled() and (error := task.exception()):
            log.error("look failed", exc_info=error)
        self._turn(lane)
