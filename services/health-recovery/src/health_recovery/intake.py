"""One door for all that changes the picture: what waits is judged together and committed as one batch.

While a batch is being written the next one gathers by itself. A batch that the database did not take is
taken back from the picture, whole; whoever waits for it is told, and the bus brings its facts again. If a
batch fails for what is in it, its halves are tried, down to each item alone, so that one cannot hold up the
others.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from health_recovery.domain.assessing import Changes, assess, due, open_windows
from health_recovery.domain.flapping import FlappingPolicy
from health_recovery.domain.hearing import Fact, Touched, hear
from health_recovery.domain.picture import Picture
from health_recovery.domain.timers import Timers
from health_recovery.ports import Fenced, OnAssessed, Store, Unavailable
from muster_runtime import Clock

LARGEST_BATCH = 2000

Work = Callable[[Picture, Touched, datetime], None]
"""Something that changes the picture; it may run twice, so it must have no effect but there."""


@dataclass(slots=True)
class _Item:
    work: Work
    outcome: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Intake:
    """Changes the picture, and keeps it as it is on disk."""

    def __init__(self, picture: Picture, store: Store, clock: Clock, policy: FlappingPolicy) -> None:
        self.picture = picture
        self.listeners: list[OnAssessed] = []
        self.on_committed: Callable[[int, Changes], None] = lambda _items, _changes: None
        self._store, self._clock, self._policy = store, clock, policy
        self._timers = Timers()
        self._waiting: deque[_Item] = deque()
        self._some = asyncio.Event()
        self._time_due()

    async def take(self, fact: Fact) -> None:
        """Have a fact judged; when this returns, all that follows from it is on disk.

        Raises:
            Unavailable: the database did not take it. Say it again.
            Fenced: another replica leads. It is for that one.
        """
        await self.do(lambda picture, touched, now: hear(picture, fact, touched, now))

    async def do(self, work: Work) -> None:
        """Have the picture changed; raises as ``take``, and whatever ``work`` raises."""
        item = _Item(work)
        self._waiting.append(item)
        self._some.set()
        await asyncio.shield(item.outcome)

    async def tick(self) -> None:
        """Judge again what time has made due: states that last too long, flapping, maintenance."""
        now = self._clock.now()
        windows = tuple(one for one in self.picture.windows.values() if one.is_open(now))
        keys = self._timers.pop(now)
        if not keys and windows == self.picture.open_windows:
            return

        def judge(picture: Picture, touched: Touched, at: datetime) -> None:
            open_windows(picture, at, touched)
            for key in keys:
                touched.package(key, at)

        try:
            await self.do(judge)
        except (Unavailable, Fenced):
            for key, at in keys.items():  # it is as due as before
                self._timers.put_back(at, key)
            raise

    async def run(self) -> None:
        """Take what waits, for ever; the owner cancels it."""
        while True:
            await self._some.wait()
            batch = [self._waiting.popleft() for _ in range(min(LARGEST_BATCH, len(self._waiting)))]
            if not self._waiting:
                self._some.clear()
            await self._take(batch)

    def close(self) -> None:
        """Tell whoever still waits that this replica leads no more."""
        while self._waiting:
            _fail([self._waiting.popleft()], Fenced("cannot judge: this replica leads no more"))

    async def _take(self, batch: list[_Item]) -> None:
        try:
            await self._commit(batch)
        except (Fenced, Unavailable) as error:
            _fail(batch, error)
        except asyncio.CancelledError:
            _fail(batch, Fenced("cannot judge: this replica leads no more"))
            raise
        except Exception as error:  # noqa: BLE001  (every caller is told)
            if len(batch) == 1:
                _fail(batch, error)
            else:
                half = len(batch) // 2
                await self._take(batch[:half])
                await self._take(batch[half:])

    async def _commit(self, batch: list[_Item]) -> None:
        now, touched = self._clock.now(), Touched()
        before = self.picture.begin()
        try:
            for item in batch:
                item.work(self.picture, touched, now)
            changes = assess(self.picture, before, touched, self._policy, now)
            if not changes.empty:
                await self._store.write(changes)
        except BaseException:
            self.picture.put_back()
            raise
        self.picture.keep()
        self._committed(batch, changes, now)

    def _committed(self, batch: list[_Item], changes: Changes, now: datetime) -> None:
        for package in changes.packages.values():
            if package and (at := due(package, self._policy)):
                self._timers.put(at, package.key)
        for item in batch:
            if not item.outcome.done():
                item.outcome.set_result(None)
        self.on_committed(len(batch), changes)
        if changes.assessed:
            keys = sorted(changes.assessed)
            for listener in self.listeners:
                listener(keys, now)

    def _time_due(self) -> None:
        for package in self.picture.packages():
            if at := due(package, self._policy):
                self._timers.put(at, package.key)


def _fail(items: list[_Item], error: Exception) -> None:
    for item in items:
        if not item.outcome.done():
            item.outcome.set_exception(error)
            item.outcome.exception()  # its caller may not be there any more to take it
