"""What Muster's heartbeat ingest is held against: the fastest Python there is, and what one writes first."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import nats
from faststream.nats import NatsBroker, NatsNKey
from nats.aio.msg import Msg
from redis.asyncio import Redis
from tests.bench.b19_codec import Struct
from tests.bench.ground import Ground, registry_settings

from fleet_registry.main import Registry
from fleet_registry.ports import Beat, News
from fleet_registry.settings import Presence
from muster_contracts.agent.v1 import Heartbeat
from muster_contracts.message import Role
from muster_runtime import SystemClock
from muster_runtime.metrics import Count

INTERVAL_SECONDS = 15.0
DEADLINE_SECONDS = 37.5


class Contestant(Protocol):
    """Takes heartbeats; ``seen`` counts those whose agent's presence is up to date since ``reset``."""

    seen: int

    def reset(self) -> None:
        """Begin to count anew."""


@dataclass
class Muster:
    """The registry itself, all of it: its firehose, its handler, its index in Redis, its rounds."""

    registry: Registry
    _since: float = 0

    def __post_init__(self) -> None:
        self._beat, self.registry.index.beat = self.registry.index.beat, self._counted  # type: ignore[method-assign]
        self.seen = 0

    def reset(self) -> None:
        """Begin to count anew."""
        self._since, self.seen = _heartbeats(), 0

    async def _counted(self, beats: Sequence[Beat]) -> list[News]:
        news = await self._beat(beats)
        # Batches are handled one at a time: all that was heard so far is in the index now.
        self.seen = int(_heartbeats() - self._since)
        return news


def _heartbeats() -> float:
    """How many the registry has heard, by its own count."""
    return next(one for one in Count.all if one.name == "muster_fleet_heartbeats_total").get()


@asynccontextmanager
async def muster(ground: Ground) -> AsyncIterator[Contestant]:
    """The registry, open."""
    presence = Presence(interval_seconds=INTERVAL_SECONDS)
    registry = Registry(registry_settings(ground, presence), SystemClock())
    contestant = Muster(registry)
    async with registry.open():
        yield contestant


@dataclass
class Limit:
    """nats-py's callback, msgspec without checks, and one ZADD for whatever came since the last one."""

    redis: "Redis"
    seen: int = 0
    _heard: int = 0
    _deadlines: dict[str, float] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _decoder: msgspec.json.Decoder[Struct] = field(default_factory=lambda: msgspec.json.Decoder(Struct))

    def reset(self) -> None:
        """Begin to count anew."""
        self.seen = self._heard = 0

    async def take(self, message: Msg) -> None:
        """One heartbeat, from nats-py."""
        beat = self._decoder.decode(message.data)
        self._deadlines[beat.agent_id] = beat.occurred_at.timestamp() + DEADLINE_SECONDS
        self._heard += 1
        self._some.set()

    async def write(self) -> None:
        """Bring Redis up to date for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            deadlines, heard, self._deadlines = self._deadlines, self._heard, {}
            await self.redis.zadd("limit", deadlines)
            self.seen = heard


@asynccontextmanager
async def limit(ground: Ground) -> AsyncIterator[Contestant]:
    """The physical limit, subscribed."""
    settings = ground.settings(Role.FLEET_REGISTRY)
    client = await nats.connect(
        settings.servers, nkeys_seed=str(settings.seed_file), inbox_prefix=settings.inbox_prefix
    )
    redis = Redis.from_url(ground.redis.url)
    contestant = Limit(redis)
    writer = asyncio.ensure_future(contestant.write())
    await client.subscribe(Heartbeat.SUBJECT.pattern, cb=contestant.take)
    await client.flush()
    try:
        yield contestant
    finally:
        writer.cancel()
        await client.close()
        await redis.aclose()


@dataclass
class Naive:
    """A FastStream handler with the Pydantic contract that brings Redis up to date for each heartbeat."""

    redis: "Redis | None" = None
    seen: int = 0
    presence: dict[str, float] = field(default_factory=dict)

    def reset(self) -> None:
        """Begin to count anew."""
        self.seen = 0

    async def take(self, beat: Heartbeat) -> None:
        """One heartbeat; without Redis into a dict, the cheapest store there is."""
        deadline = time.time() + DEADLINE_SECONDS
        if self.redis:
            await self.redis.zadd("naive", {beat.agent_id: deadline})
        else:
            self.presence[beat.agent_id] = deadline
        self.seen += 1


@asynccontextmanager
async def naive(ground: Ground) -> AsyncIterator[Contestant]:
    """FastStream as its tutorial shows it, presence in Redis."""
    redis = Redis.from_url(ground.redis.url)
    async with _faststream(ground, Naive(redis)) as contestant:
        yield contestant
    await redis.aclose()


@asynccontextmanager
async def in_memory(ground: Ground) -> AsyncIterator[Contestant]:
    """The same, presence in a dict."""
    async with _faststream(ground, Naive()) as contestant:
        yield contestant


@asynccontextmanager
async def _faststream(ground: Ground, contestant: Naive) -> AsyncIterator[Contestant]:
    settings = ground.settings(Role.FLEET_REGISTRY)
    assert settings.seed_file
    key = NatsNKey.from_file(settings.seed_file)
    broker = NatsBroker(settings.servers, security=key, inbox_prefix=settings.inbox_prefix, logger=None)

    @broker.subscriber(Heartbeat.SUBJECT.pattern)
    async def on_heartbeat(beat: Heartbeat) -> None:
        await contestant.take(beat)

    await broker.start()
    try:
        yield contestant
    finally:
        await broker.stop()
