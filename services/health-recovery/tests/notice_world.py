"""A leader's notifications on a real database, channels that do as a test says, and time that it tells."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from notice_makers import NOON, after
from sqlalchemy import select

from health_recovery.adapters.fence import Fence
from health_recovery.adapters.notice_tables import NOTICES
from health_recovery.adapters.sql_notices import SqlNotices
from health_recovery.adapters.tables import OUTBOX
from health_recovery.adapters.writer import Writer
from health_recovery.domain.assessment import Assessment
from health_recovery.domain.incidents import Rules
from health_recovery.domain.keys import Key
from health_recovery.domain.notice import Event, Notice
from health_recovery.domain.notices import Pace, Route
from health_recovery.notice_ports import CannotSend, Channel
from health_recovery.notifying import Notifying
from muster_contracts.health.v1 import Health
from muster_sql import Database, Outbox, migrate

AT_ONCE = Pace(group_wait=timedelta(0), group_interval=timedelta(0))


class HandClock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - NOON).total_seconds()


class Picture:
    """How packages are judged."""

    def __init__(self) -> None:
        self.seen: dict[Key, Assessment] = {}

    def ill(self) -> Iterable[Assessment]:
        return [one for one in self.seen.values() if one.health in {Health.WARNING, Health.CRITICAL}]

    def get(self, key: Key) -> Assessment | None:
        return self.seen.get(key)


class FakeActs:
    """What recovery did."""

    def __init__(self) -> None:
        self.done: dict[Key, list[str]] = {}
        self.given_up: set[Key] = set()
        self.retried: list[tuple[Key, str]] = []

    async def tried(self, key: Key) -> list[str]:
        return self.done.get(key, [])

    def gave_up(self, key: Key) -> bool:
        return key in self.given_up

    async def retry(self, key: Key, by: str) -> bool:
        if key not in self.given_up:
            return False
        self.given_up.discard(key)
        self.retried.append((key, by))
        return True


class FakeChannel:
    """Takes notices, or fails with ``errors``, one after the other."""

    def __init__(self, *errors: Exception | None) -> None:
        self.got: list[Notice] = []
        self.tries = 0
        self.errors: list[Exception | None] = list(errors)
        self.broken: Exception | None = None
        self.hangs = False
        self.gate = asyncio.Event()
        """It has the notice, and does not say so while this is not set."""
        self.gate.set()

    async def send(self, notice: Notice) -> None:
        self.tries += 1
        if self.hangs:
            await asyncio.Event().wait()
        error = self.errors.pop(0) if self.errors else self.broken
        if error:
            raise error
        self.got.append(notice)
        await self.gate.wait()

    async def close(self) -> None:
        pass

    @property
    def events(self) -> list[tuple[str, Event]]:
        """What it was told, in order."""
        return [(str(item.incident.cause), item.event) for notice in self.got for item in notice.items]


def down(channel: str = "ops", *, after: float | None = None) -> CannotSend:
    return CannotSend(f"cannot send through channel {channel}: it is down", again=True, after=after)


class World:
    """One database, and the leader of the moment."""

    def __init__(self, database: Database, **options: Any) -> None:
        self.database, self.options = database, options
        self.clock, self.picture, self.acts = HandClock(), Picture(), FakeActs()
        self.outbox = Outbox(database, OUTBOX)
        self.channels: dict[str, Channel] = {}
        self.epoch = 0
        self.notifying: Notifying

    def at(self, seconds: float) -> None:
        self.clock.at = after(seconds)

    async def take_over(self) -> Notifying:
        """Another replica leads from now on."""
        self.epoch += 1
        writer = Writer(self.database, Fence(self.epoch))
        self.store = SqlNotices(self.database, writer, self.outbox)
        paces: dict[str, Pace] = self.options.get("paces", {})
        routes: Sequence[Route] = self.options.get("routes", [])
        self.notifying = Notifying(
            judged=self.picture, store=self.store, acts=self.acts,
            channels={name: (one, paces.get(name, AT_ONCE)) for name, one in self.channels.items()},
            routes=routes, rules=self.options.get("rules", Rules()), clock=self.clock,
        )  # fmt: skip
        await self.notifying.load()
        return self.notifying

    async def see(self, seconds: float, *seen: Assessment, gone: Iterable[Key] = ()) -> None:
        """These are judged so; the leader looks, and what is due is sent."""
        self.at(seconds)
        for one in seen:
            self.picture.seen[one.key] = one
        for key in gone:
            self.picture.seen.pop(key, None)
        self.notifying.assessed([*(one.key for one in seen), *gone], self.clock.at)
        await self.notifying.look()
        await self.deliver()

    async def pass_time(self, since: int, until: int, step: int = 1) -> None:
        for second in range(since, until + 1, step):
            await self.see(second)

    async def deliver(self) -> None:
        """Send what is due by now, on every channel."""
        for line in self.notifying._lines.values():
            while line.waiting and line.waiting[0].next_at <= self.clock.at:
                await self.notifying._send_first(line)

    async def notices(self) -> list[Any]:
        async with self.database.read() as connection:
            return list(await connection.execute(select(NOTICES).order_by(NOTICES.c.created_at)))

    async def facts(self) -> list[str]:
        """What would be said on the bus, in order."""
        return [letter.subject.rpartition(".")[2] for letter in await self.outbox.take(100)]


@asynccontextmanager
async def world(place: Path | str, *channels: str, **options: Any) -> AsyncIterator[World]:
    """On SQLite below a directory, or at a URL."""
    url = f"sqlite+aiosqlite:///{place}/health.db" if isinstance(place, Path) else place
    async with Database.open(url) as database:
        await migrate(database, "health_recovery.migrations")
        made = World(database, **options)
        made.channels = {name: FakeChannel() for name in channels or ("ops",)}
        await made.take_over()
        yield made
