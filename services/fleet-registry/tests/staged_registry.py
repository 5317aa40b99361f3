"""A whole registry on a Stage: real handlers, roll, rounds and SQL; broker, Redis and time in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from fleet_registry.adapters.redis_index import CLAIM_SECONDS, RedisIndex, Sweep
from fleet_registry.domain.presence import LIVE
from fleet_registry.domain.sessions import LATE_AFTER, LOST_AFTER
from fleet_registry.main import Outside, Registry, RoutesOf
from fleet_registry.ports import Beat, Entry, Goodbye, Judged, News, Overdue
from fleet_registry.settings import Presence as PresenceSettings
from fleet_registry.settings import RegistrySettings
from muster_bus import Bus
from muster_bus.service import ServiceBus
from muster_contracts.agent.v1 import Left
from muster_contracts.fleet.v1 import REGISTRY, Presence
from muster_contracts.ids import boot_of
from muster_runtime import Clock, Tasks
from muster_runtime.tasks import Work
from muster_sql import Database, Outbox
from muster_testing.loop_time import standstill
from muster_testing.stage import Stage, StageBus, StageCourier

SELDOM = 30
"""So many times as rarely as in production the rounds go that read the database, or an hour would be long."""
WATCHFUL = {"notice hangs", "sweep"}


@dataclass(slots=True)
class _Row:
    entry: Entry
    spoke: float
    due: float
    contender: str | None = None
    contest_since: datetime | None = None


class MemoryRedis(RedisIndex):
    """What the scripts in Redis do, in this process and by its clock; never gone, never flushed."""

    def __init__(self, clock: Clock) -> None:
        self.realm = ""
        self._clock = clock
        self._rows: dict[str, _Row] = {}
        self._ready = False

    async def beat(self, beats: Sequence[Beat]) -> list[News]:
        return [news for beat in beats if (news := self._beat_one(beat))]

    def _beat_one(self, beat: Beat) -> News | None:
        row = self._rows.get(beat.agent_id)
        if row is None or (row.entry.presence not in LIVE and row.entry.presence is not Presence.RETIRED):
            return News(beat)
        if row.entry.presence is Presence.RETIRED:
            return None
        if row.entry.epoch == beat.epoch:
            row.entry = replace(
                row.entry, interval_seconds=beat.interval_seconds, last_seen=self._clock.now()
            )
            row.spoke = self._clock.monotonic()
            row.due = self._due_at(row)
            return News(beat) if row.entry.presence is Presence.LATE else None
        if boot_of(row.entry.epoch or "") == boot_of(beat.epoch):
            return News(beat)
        if row.contender != beat.epoch:
            row.contender, row.contest_since = beat.epoch, self._clock.now()
        return News(beat, row.contest_since, row.entry.last_seen)

    async def put(self, entries: Sequence[Entry], judged: Judged, now: datetime) -> set[str]:
        return {one.agent_id for one in entries if self._put_one(one, judged, now)}

    def _put_one(self, entry: Entry, judged: Judged, now: datetime) -> bool:
        """Whether it spoke after it was judged."""
        row = self._rows.get(entry.agent_id)
        if row and row.entry.version > entry.version:
            return False
        age = (now - entry.last_seen).total_seconds() if entry.last_seen else float("inf")
        spoke, after = self._clock.monotonic() - max(0.0, age), False
        if row and row.entry.epoch == entry.epoch and row.entry.last_seen:
            known, at = row.entry.last_seen, judged.get(entry.agent_id)
            after = at is not None and known > at
            if row.spoke > spoke:
                spoke, entry = row.spoke, replace(entry, last_seen=known)
        self._rows[entry.agent_id] = row = _Row(entry, spoke, 0.0)
        row.due = self._due_at(row)
        return after

    async def claim(self, limit: int, expected_now: float, floor_age: float) -> Sweep:
        now = self._clock.monotonic()
        found = [row for row in self._rows.values() if row.entry.presence in LIVE and row.due <= now][:limit]
        overdue = []
        for row in found:
            since = max(row.spoke, now - floor_age)
            row.due = self._due_at(row, since)
            if row.due <= now:
                row.due = now + CLAIM_SECONDS
                dead = now >= since + LOST_AFTER * row.entry.interval_seconds
                overdue.append(Overdue(row.entry.agent_id, row.entry.epoch or "", row.entry.last_seen, dead))
        # Its time is the registry's, so it is never found to have jumped.
        return Sweep(0.0, len(found), overdue)

    async def reset(self) -> None:
        for row in self._rows.values():
            row.spoke = self._clock.monotonic()
            row.due = self._due_at(row)

    async def seen(self, agent_ids: Sequence[str]) -> dict[str, datetime]:
        found = {one: self._rows[one].entry.last_seen for one in agent_ids if one in self._rows}
        return {one: seen for one, seen in found.items() if seen}

    async def strays(self, entries: Sequence[Entry]) -> list[Entry]:
        return [one for one in entries if self._place(one.agent_id) != (one.epoch, one.presence)]

    async def watched(self) -> set[str]:
        return {one for one, row in self._rows.items() if row.entry.presence in LIVE}

    async def drop(self, agent_ids: Iterable[str]) -> None:
        for one in agent_ids:
            self._rows.pop(one, None)

    async def is_ready(self) -> bool:
        return self._ready

    async def empty(self) -> None:
        self._rows.clear()

    async def ready(self) -> None:
        self._ready = True

    async def close(self) -> None:
        pass

    def _place(self, agent_id: str) -> tuple[str | None, Presence] | None:
        row = self._rows.get(agent_id)
        return (row.entry.epoch, row.entry.presence) if row else None

    @staticmethod
    def _due_at(row: _Row, since: float | None = None) -> float:
        factor = LATE_AFTER if row.entry.presence is Presence.ONLINE else LOST_AFTER
        return (row.spoke if since is None else since) + factor * row.entry.interval_seconds


class StillDatabase(Database):
    """Fake time stands still while a transaction runs in SQLite's thread."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        with standstill():
            async with super().begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        with standstill():
            async with super().read() as connection:
                yield connection

    @asynccontextmanager
    async def without_foreign_keys(self) -> AsyncIterator[AsyncConnection]:
        with standstill():
            async with super().without_foreign_keys() as connection:
                yield connection


class UnhurriedTasks(Tasks):
    """The same rounds, but seldom."""

    def every(self, name: str, seconds: float, work: Work, *, first_after: float = 0.0) -> asyncio.Task[None]:
        often = seconds if name in WATCHFUL else SELDOM * seconds
        return super().every(name, often, work, first_after=first_after)


async def at_once(_: Bus) -> bool:
    """A stage is always there."""
    return True


class StageGoodbyes:
    """The stream of goodbyes is the record of the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def last(self, agent_ids: Sequence[str]) -> dict[str, Goodbye]:
        return {
            left.agent_id: Goodbye(left.epoch, left.reason, left.occurred_at)
            for left in self._stage.heard(Left)
            if left.agent_id in agent_ids
        }


@dataclass(frozen=True)
class StagedService:
    """A ``ServiceBus``, as far as the registry needs it."""

    bus: StageBus

    def healthy(self) -> list[str]:
        return []


def staged_registry(stage: Stage, clock: Clock, **presence: Any) -> Registry:
    """A registry that opens ``stage`` when it opens itself; nothing of it leaves this process."""

    @asynccontextmanager
    async def serve(routes: RoutesOf, outbox: Outbox) -> AsyncIterator[ServiceBus]:
        bus = stage.bus(REGISTRY)
        bus.courier = StageCourier(stage, outbox)
        stage.cast(REGISTRY, lambda bus: routes(cast("Bus", bus)))
        async with stage, Tasks() as tasks:
            tasks.spawn("deliver letters", bus.courier.run)
            yield cast("ServiceBus", StagedService(bus))

    outside = Outside(
        database=StillDatabase.open("sqlite+aiosqlite://"),
        redis=MemoryRedis(clock),
        serve=serve,
        goodbyes=lambda _: StageGoodbyes(stage),
        round_trip=at_once,
        tasks=UnhurriedTasks,
    )
    return Registry(RegistrySettings(presence=PresenceSettings(**presence)), clock, outside)
