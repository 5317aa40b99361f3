"""The presence index as the registry uses it: Redis while it can be used, memory while it cannot.

Degraded means: what agents say is still taken, goodbyes and broken connections are still judged, but
nobody is judged by silence. When Redis is back it is rebuilt from SQL and the mirror, and silence
counts only from then on: a verdict takes one whole interval again.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from fleet_registry.adapters.mirror import Mirror
from fleet_registry.adapters.redis_index import ClockJumped, IndexFlushed, IndexGone, RedisIndex, Sweep
from fleet_registry.ports import Beat, Entry, Judged, News, Overdue
from muster_contracts.fleet.v1 import Degraded
from muster_runtime import Clock, logger

STALL_SECONDS = 2.0
"""Longer between two ticks, and this process was not hearing either: silence counts from now on."""

log = logger(__name__)

Recorded = Callable[[], Awaitable[list[Entry]]]
"""Every agent that is live or retired, as SQL knows it."""


class PresenceIndex:
    """Redis before a mirror; see ``ports.Index``."""

    def __init__(self, redis: RedisIndex, recorded: Recorded, clock: Clock) -> None:
        self.mirror = Mirror()
        self._rebuilt = 0
        self._redis, self._recorded, self._clock = redis, recorded, clock
        self._degraded: Degraded | None = Degraded(
            since=clock.now(), text="the presence index is not loaded yet"
        )
        self._heard_since = clock.monotonic()
        self._swept_at = 0.0
        self._ticked_at = 0.0
        self._redis_then = 0.0

    @property
    def degraded(self) -> Degraded | None:
        """What cannot be known just now."""
        return self._degraded

    @property
    def rebuilt(self) -> int:
        """How often Redis had to be filled again."""
        return self._rebuilt

    def hear_from_now(self) -> None:
        """Nothing could be heard until now: silence counts from here, for everyone."""
        self._heard_since = self._clock.monotonic()
        self._redis_then = 0.0

    async def beat(self, beats: Sequence[Beat]) -> list[News]:
        """Note that agents spoke; returns only what needs a decision."""
        news = self.mirror.beat(beats, self._clock.now())
        if self._degraded:
            return news
        try:
            return await self._redis.beat(beats)
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
            return news

    async def put(self, entries: Sequence[Entry], judged: Judged | None = None) -> set[str]:
        """Take over what was recorded; of the ``judged`` returns those that spoke after they were judged."""
        self.mirror.put(entries)
        if self._degraded or not entries:
            return set()
        try:
            return await self._redis.put(entries, judged or {}, self._clock.now())
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
            return set()

    async def claim(self, limit: int) -> list[Overdue]:
        """The agents whose silence is due; none while degraded, and none right after this process hung."""
        now = self._clock.monotonic()
        if self._ticked_at and now - self._ticked_at > STALL_SECONDS:
            seconds = round(now - self._ticked_at, 1)
            log.warning("this process hung: silence counts from now on", seconds=seconds)
            self.hear_from_now()
            self._ticked_at = now
        expected = self._redis_then + (now - self._swept_at) if self._redis_then else 0.0
        self._swept_at = now
        if self._degraded:
            return []
        try:
            return await self._sweep(limit, expected)
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
        except ClockJumped:
            await self._clock_jumped()
        return []

    async def _sweep(self, limit: int, expected: float) -> list[Overdue]:
        while True:
            age = self._clock.monotonic() - self._heard_since
            sweep: Sweep = await self._redis.claim(limit, expected, age)
            self._redis_then, expected = sweep.redis_now, 0.0
            if sweep.overdue or sweep.looked_at < limit:
                return sweep.overdue

    async def seen(self, agent_ids: Sequence[str]) -> dict[str, datetime]:
        """When agents last spoke, of those that are known."""
        here = self.mirror.last_seen(agent_ids)
        if self._degraded or not agent_ids:
            return here
        try:
            there = await self._redis.seen(agent_ids)
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
            return here
        return {one: max(here.get(one, moment), moment) for one, moment in {**here, **there}.items()}

    def tick(self) -> None:
        """This process is not hung; to be called at least every second."""
        now = self._clock.monotonic()
        # After a hang the sweep may come first or the tick: either notices.
        if self._ticked_at and now - self._ticked_at > STALL_SECONDS:
            self.hear_from_now()
        self._ticked_at = now

    async def recover(self) -> None:
        """While degraded: look whether Redis is back, and fill it again."""
        if self._degraded is None:
            return
        try:
            if not await self._redis.is_ready():
                await self._redis.empty()
            await self._redis.put(await self._everyone(), {}, self._clock.now())
            await self._redis.ready()
            # A Redis that was away may still hold agents that were lost meanwhile, and swallow their beats.
            await self._tend()
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
            return
        self._rebuilt += 1
        self.hear_from_now()
        log.info("the presence index is complete", degraded_since=self._degraded.since.isoformat())
        self._degraded = None
        # What was heard while the index was being filled is only in the mirror.
        await self.put(self.mirror.entries())

    async def tend(self) -> int:
        """Compare the index with SQL and mend what differs; returns how many agents did."""
        if self._degraded:
            return 0
        try:
            return await self._tend()
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
            return 0

    def live_epoch(self, agent_id: str) -> str | None:
        """The run an agent is taken to be in, if it is taken to run at all, as far as is known here."""
        return self.mirror.live_epoch(agent_id)

    def take_touched(self) -> list[Entry]:
        """The agents heard here since this was last asked."""
        return self.mirror.take_touched()

    def seen_here(self) -> dict[str, datetime]:
        """When each live agent last spoke, as far as is known here."""
        return self.mirror.seen_live()

    async def close(self) -> None:
        """Let go of Redis."""
        await self._redis.close()

    async def _tend(self) -> int:
        live = [one for one in await self._recorded() if one.epoch]
        strays = await self._redis.strays([one for one in live if one.presence in {"online", "late"}])
        unknown = await self._redis.watched() - {one.agent_id for one in live}
        if unknown:
            # A newcomer may have been recorded after SQL was read: only what is still unknown goes.
            unknown -= {one.agent_id for one in await self._recorded()}
            await self._redis.drop(unknown)
        if strays:
            # What differs may be on its way: the row version decides which of the two is newer.
            await self._redis.put(strays, {}, self._clock.now())
        return len(strays) + len(unknown)

    async def _everyone(self) -> list[Entry]:
        recorded = await self._recorded()
        self.mirror.put(recorded)
        return self.mirror.entries()

    async def _clock_jumped(self) -> None:
        log.warning("the clock of Redis was set: silence counts from now on")
        try:
            await self._redis.reset()
        except (IndexGone, IndexFlushed) as error:
            self._degrade(error)
        self.hear_from_now()

    def _degrade(self, error: Exception) -> None:
        self._redis_then = 0.0
        if self._degraded is None:
            why = "Redis was flushed" if isinstance(error, IndexFlushed) else str(error)
            text = f"{why}: nobody is judged by silence, and last_seen may be out of date"
            self._degraded = Degraded(since=self._clock.now(), text=text)
            log.warning("the presence index is degraded", why=why)
