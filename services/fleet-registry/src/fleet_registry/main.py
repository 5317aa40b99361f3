"""Composition root: the only module that knows every part of the registry."""

import argparse
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from fleet_registry import counting, metrics
from fleet_registry.adapters.advisories import Connections
from fleet_registry.adapters.goodbyes import StreamGoodbyes
from fleet_registry.adapters.identities import Identities
from fleet_registry.adapters.presence_index import PresenceIndex
from fleet_registry.adapters.redis_index import RedisIndex
from fleet_registry.adapters.round_trip import round_trip
from fleet_registry.adapters.sql_queries import SqlQueries
from fleet_registry.adapters.sql_store import SqlStore
from fleet_registry.adapters.tables import OUTBOX
from fleet_registry.address_book import AddressBook
from fleet_registry.domain.holds import Holds
from fleet_registry.ear import Ear
from fleet_registry.fleet_view import FleetView
from fleet_registry.granting import Grants
from fleet_registry.handlers import about_groups, from_agents, from_deciders, from_readers
from fleet_registry.hearing import Hearing, Newsroom
from fleet_registry.ports import Goodbyes, Recorded, Unavailable
from fleet_registry.roll import Policies, Roll
from fleet_registry.rounds import Rounds, learn_aliases
from fleet_registry.settings import RegistrySettings
from muster_bus import Bus
from muster_bus.service import Routes, ServiceBus
from muster_runtime import (
    Clock,
    HealthServer,
    Shutdown,
    SystemClock,
    Tasks,
    collect_garbage_seldom,
    configure_logs,
    launch,
    logger,
)
from muster_sql import Database, Outbox, migrate

log = logger(__name__)


RoutesOf = Callable[[Bus], list[Routes]]


@dataclass(frozen=True, slots=True)
class Outside:
    """What a registry stands on: database, Redis and broker, or what a Stage has in their place."""

    database: Database
    redis: RedisIndex
    serve: Callable[[RoutesOf, Outbox], AbstractAsyncContextManager[ServiceBus]]
    goodbyes: Callable[[Bus], Goodbyes] = StreamGoodbyes
    round_trip: Callable[[Bus], Awaitable[bool]] = round_trip
    tasks: Callable[[], Tasks] = Tasks

    @classmethod
    def of(cls, settings: RegistrySettings) -> Self:
        """The real things, as they are set."""
        redis = RedisIndex(
            settings.redis_url.get_secret_value(),
            password=settings.redis_password(),
            timeout_seconds=settings.redis_timeout_seconds,
        )
        return cls(
            database=Database.open(settings.database_url),
            redis=redis,
            serve=lambda routes, outbox: ServiceBus.open(settings.bus(), routes, outbox),
        )


class Registry:
    """Every part, made in the order of dependence; nothing connects before ``open``."""

    service: ServiceBus
    rounds: Rounds
    tasks: Tasks

    def __init__(self, settings: RegistrySettings, clock: Clock, outside: Outside | None = None) -> None:
        self.settings, self.clock = settings, clock
        self.outside = outside or Outside.of(settings)

        # The truth, and the letters that wait in it.
        self.database = self.outside.database
        self.outbox = Outbox(self.database, OUTBOX)
        self.store = SqlStore(self.database, self.outbox, self._told)
        self.queries = SqlQueries(self.database)

        # The presence index: a cache of who spoke last when.
        self.redis = self.outside.redis
        self.index = PresenceIndex(self.redis, self.store.entries, clock)

        # The broker's word on connections, if there is a key to hear it with.
        self.holds = Holds(settings.presence.hold_seconds)
        self.identities = Identities(settings.identities_file)
        self.connections: Connections | None = None

        # The roll, and what people see of it.
        policies = Policies(settings.presence.flapping(), settings.presence.partition())
        self.roll = Roll(self.store, self.index, clock, policies)
        self.roll.is_given = self.identities.is_given
        self.grants = Grants(settings.presence.grants())
        self.view = FleetView(
            queries=self.queries, index=self.index, roll=self.roll, grants=self.grants,
            outbox=self.outbox, clock=clock,
        )  # fmt: skip

    def _told(self, recorded: Recorded) -> None:
        """Something was committed."""
        counting.told(recorded)
        self.view.note(recorded)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hear, judge and say, until the context ends.

        Raises:
            DatabaseError: the database cannot be opened or migrated.
        """
        async with AsyncExitStack() as stack:
            await self._load(stack)
            await self._listen_to_the_broker(stack)
            opened = self.outside.serve(self._routes, self.outbox)
            self.service = await stack.enter_async_context(opened)
            self._mind_outages(self.service.bus)
            # Left first: nobody is to be judged while the rest is being closed.
            self.tasks = await stack.enter_async_context(self.outside.tasks())
            await self._watch(self.tasks)
            self.rounds.start(self.tasks, self.settings.presence.sweep_seconds)
            self._expose_figures()
            yield

    async def _load(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.database.close)
        stack.push_async_callback(self.store.settle)
        stack.push_async_callback(self.queries.settle)
        await migrate(self.database, "fleet_registry.migrations")
        self.redis.realm = self.roll.realm = await self.store.realm()
        stack.push_async_callback(self.index.close)
        await self.index.recover()
        learn_aliases(self.roll, await self.store.aliases())
        await self.view.refresh()
        self.grants.review(self.view.live)
        stack.push_async_callback(self._remember)

    async def _remember(self) -> None:
        try:
            await self.store.remember_seen(self.index.take_touched())
        except Unavailable as error:
            log.warning("cannot write when agents last spoke", why=str(error))

    async def _listen_to_the_broker(self, stack: AsyncExitStack) -> None:
        settings = self.settings.system_bus()
        if settings is None:
            log.warning("no key for the identity system: killed agents are noticed by their silence only")
            return
        system = await Bus.connect(settings)
        stack.push_async_callback(system.close)
        self.connections = Connections(system, self.identities)

    def _routes(self, bus: Bus) -> list[Routes]:
        """What is heard, bound to the bus it is heard on."""
        goodbyes = self.outside.goodbyes(bus)
        hearing = Hearing(
            roll=self.roll, index=self.index, grants=self.grants, holds=self.holds,
            goodbyes=goodbyes, addresses=self, clock=self.clock,
        )  # fmt: skip
        newsroom = Newsroom(hearing)
        self.rounds = Rounds(
            roll=self.roll, index=self.index, store=self.store, view=self.view, grants=self.grants,
            holds=self.holds, hearing=hearing, newsroom=newsroom, goodbyes=goodbyes, bus=bus,
            ear=self._ear(bus), clock=self.clock, history_days=self.settings.history_days,
        )  # fmt: skip
        if bus.courier:
            self.roll.on_commit = bus.courier.wake
        return [
            from_agents(
                hearing=hearing,
                newsroom=newsroom,
                grants=self.grants,
                store=self.store,
                bus=bus,
                clock=self.clock,
            ),
            from_readers(self.view, self.queries, self.clock, bus),
            from_deciders(self.view, self.queries, self.roll, self.clock),
            about_groups(self.view, self.store),
        ]

    def address(self, agent_id: str) -> str | None:
        """Where an agent connects from, if the broker tells."""
        return self.connections.address(agent_id) if self.connections else None

    def _ear(self, bus: Bus) -> Ear:
        def hears_again() -> None:
            self.holds.postpone(self.clock.monotonic())
            self.index.hear_from_now()

        return Ear(
            lambda: self.outside.round_trip(bus),
            self.clock,
            lambda: self.grants.interval_seconds,
            hears_again,
        )

    def _mind_outages(self, bus: Bus) -> None:
        """While the broker is away nothing is heard, and its end of connections says nothing of agents."""

        def back() -> None:
            self.holds.clear()
            self.index.hear_from_now()

        bus.on_disconnect(self.holds.clear)
        bus.on_reconnect(back)
        self.index.hear_from_now()

    def _expose_figures(self) -> None:
        metrics.expose(
            metrics.Figures(
                view=self.view, index=self.index, roll=self.roll, grants=self.grants,
                bus=self.service.bus, clock=self.clock, per_agent=self.settings.per_agent_metrics,
            )
        )  # fmt: skip

    async def _watch(self, tasks: Tasks) -> None:
        """Tell the holds of connections, and the store of addresses."""
        if self.connections is None:
            return
        book = AddressBook(self.store.remember_addresses)

        def dropped(agent_id: str, at: datetime) -> None:
            self.holds.dropped(agent_id, at, self.clock.monotonic())

        self.connections.on_dropped = dropped
        self.connections.on_connected = lambda one: self.holds.connected(one, self.clock.monotonic())
        self.connections.on_addresses = book.note
        self.connections.on_outage = self.holds.clear
        tasks.spawn("remember addresses", book.keep_writing)
        tasks.spawn("complete the connections", self.connections.keep_complete)
        await self.connections.start()


async def serve(settings: RegistrySettings, shutdown: Shutdown) -> None:
    """Run the registry until it is asked to stop, and tell how it is over HTTP."""
    collect_garbage_seldom()
    registry = Registry(settings, SystemClock())
    health = HealthServer(settings.health_port, settings.health_host, settings.health_port_file)
    async with registry.open():
        health.check("bus", registry.service.healthy)
        health.check("database", registry.database.ping)
        health.check("tasks", registry.tasks.complaints)
        async with health:
            log.info("ready", health=health.url)
            await shutdown.wait()


def main() -> None:
    """Entry point: ``fleet-registry [--config FILE]``."""
    options = argparse.ArgumentParser(
        prog="fleet-registry",
        description="Who is in the fleet: identity, presence, history, labels and groups.",
        epilog=RegistrySettings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--config", type=Path, help="a YAML file; the environment overrides it")
    chosen = options.parse_args()

    async def run(shutdown: Shutdown) -> None:
        settings = RegistrySettings.load(chosen.config)
        configure_logs("fleet-registry", level=settings.log_level, json=settings.log_json)
        await serve(settings, shutdown)

    launch(run)


if __name__ == "__main__":
    main()
