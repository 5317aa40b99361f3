"""Composition root: the only module that knows every part of state-store."""

import argparse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

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
from state_store import metrics
from state_store.adapters.fleet import Fleet
from state_store.adapters.post import Post
from state_store.adapters.pusher import Pusher
from state_store.adapters.sql_ledger import SqlLedger
from state_store.adapters.sql_queries import SqlQueries
from state_store.adapters.tables import OUTBOX
from state_store.handlers import from_agents, from_operators, from_readers
from state_store.ports import Unavailable
from state_store.rounds import Rounds
from state_store.settings import StoreSettings

log = logger(__name__)


class StateStore:
    """Every part, made in the order of dependence; nothing connects before ``open``."""

    service: ServiceBus
    pusher: Pusher
    rounds: Rounds
    tasks: Tasks

    def __init__(self, settings: StoreSettings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.database = Database.open(settings.database_url)
        self.outbox = Outbox(self.database, OUTBOX)
        self.ledger = SqlLedger(
            self.database,
            self.outbox,
            clock,
            patience=settings.orders.patience(),
            limits=settings.orders.limits(),
            told=metrics.told,
        )
        self.post = Post(self.outbox, self.ledger.delivered)
        # Tell the post of what is committed, so that it need not read it back.
        self.ledger.on_letters = self.post.posted
        self.queries = SqlQueries(self.database)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hear, push and end what is overdue, until the context ends.

        Raises:
            DatabaseError: the database cannot be opened or migrated.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.close)
            await migrate(self.database, "state_store.migrations")
            self.ledger.start()
            stack.push_async_callback(self.ledger.stop)
            opened = ServiceBus.open(self.settings.bus(), self._routes, self.post)
            self.service = await stack.enter_async_context(opened)
            stack.push_async_callback(self._anchor)
            self.tasks = await stack.enter_async_context(Tasks())
            self.tasks.spawn("push orders", self.pusher.run)
            self.rounds.start(self.tasks, self.settings.orders.sweep_seconds)
            metrics.expose(self.rounds, self.pusher, self.service.bus, lambda: self.outbox.dropped)
            yield

    def _routes(self, bus: Bus) -> list[Routes]:
        """What is heard, bound to the bus it is heard on."""
        orders, ledger, queries, clock = self.settings.orders, self.ledger, self.queries, self.clock
        if bus.courier:
            self.post.wake = bus.courier.wake
        self.pusher = Pusher(
            ledger, bus, clock, at_once=orders.push_at_once, answer_seconds=orders.push_seconds
        )
        self.rounds = Rounds(
            ledger=ledger, queries=queries, pushes=self.pusher, clock=clock,
            pushes_per_second=orders.pushes_per_second, retention_days=self.settings.retention_days,
        )  # fmt: skip
        limits, fleet = orders.limits(), Fleet(bus, clock.now)
        return [
            from_operators(
                ledger=ledger, queries=queries, agents=fleet, pushes=self.pusher, limits=limits, clock=clock
            ),
            from_readers(queries),
            from_agents(ledger=ledger, queries=queries, bus=bus, limits=limits, clock=clock),
        ]

    async def _anchor(self) -> None:
        """Say how far the audit is before the bus is left."""
        try:
            await self.ledger.anchor()
        except Unavailable as error:
            log.warning("cannot say how far the audit is; the next start does", why=str(error))


async def serve(settings: StoreSettings, shutdown: Shutdown) -> None:
    """Run state-store until it is asked to stop, and tell how it is over HTTP."""
    collect_garbage_seldom()
    store = StateStore(settings, SystemClock())
    health = HealthServer(settings.health_port, settings.health_host, settings.health_port_file)
    async with store.open():
        health.check("bus", store.service.healthy)
        health.check("database", store.database.ping)
        health.check("tasks", store.tasks.complaints)
        async with health:
            log.info("ready", health=health.url)
            await shutdown.wait()


def main() -> None:
    """Entry point: ``state-store [--config FILE]``."""
    options = argparse.ArgumentParser(
        prog="state-store",
        description="What was ordered and what became of it: commands, their output, the audit.",
        epilog=StoreSettings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--config", type=Path, help="a YAML file; the environment overrides it")
    chosen = options.parse_args()

    async def run(shutdown: Shutdown) -> None:
        settings = StoreSettings.load(chosen.config)
        configure_logs("state-store", level=settings.log_level, json=settings.log_json)
        await serve(settings, shutdown)

    launch(run)


if __name__ == "__main__":
    main()
