"""Composition root: the only module that knows every part of health-recovery."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from health_recovery import metrics
from health_recovery.adapters.channels import close_channels, open_channels
from health_recovery.adapters.fence import Fence
from health_recovery.adapters.fleet import RegistryFleet
from health_recovery.adapters.ledger import StateStore
from health_recovery.adapters.sql_health import SqlHealth
from health_recovery.adapters.sql_history import SqlHistory
from health_recovery.adapters.sql_notices import SqlNotices
from health_recovery.adapters.sql_recovery import SqlRecovery
from health_recovery.adapters.tables import OUTBOX
from health_recovery.adapters.writer import Writer
from health_recovery.census import Census
from health_recovery.domain.picture import Picture
from health_recovery.handlers import Known, from_agents, from_historians, from_readers, from_workers
from health_recovery.intake import Intake
from health_recovery.judged import PictureView
from health_recovery.leading import Leader
from health_recovery.notice_handlers import notice_routes
from health_recovery.notice_ports import Channel
from health_recovery.notifying import Notifying
from health_recovery.recovering import Recovering
from health_recovery.recovery_handlers import from_ledger, from_operators
from health_recovery.rounds import Rounds
from health_recovery.settings import HealthSettings
from muster_bus import Bus
from muster_bus.lease import Cell, Lease
from muster_bus.service import Routes, ServiceBus
from muster_contracts.health.v1 import HEALTH
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


class HealthRecovery:
    """One replica: what it has whether it leads or not; nothing connects before ``open``."""

    bus: Bus
    lease: Lease
    leader: Leader
    tasks: Tasks

    def __init__(self, settings: HealthSettings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.database = Database.open(settings.database_url)
        self.outbox = Outbox(self.database, OUTBOX)
        self.history = SqlHistory(self.database)
        self.channels: dict[str, Channel] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Wait for the lease and lead whenever it is held, until the context ends.

        Raises:
            DatabaseError: the database cannot be opened or migrated.
            ConfigurationError: a channel of notifications cannot be used as it is set.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.database.close)
            await migrate(self.database, "health_recovery.migrations")
            self.channels = await open_channels(self.settings.notifications, self.clock)
            stack.push_async_callback(close_channels, self.channels)
            # The lease has a connection of its own, so that it is kept whatever a term is at.
            self.bus = await Bus.connect(self.settings.bus())
            stack.push_async_callback(self.bus.close)
            self.lease = Lease(Cell(self.bus, HEALTH), ttl_seconds=self.settings.lease_seconds)
            self.leader = Leader(self.lease, self.begin)
            self.tasks = await stack.enter_async_context(Tasks(patience_seconds=20.0))
            self.tasks.spawn("lead", self.leader.run)
            metrics.expose(self._picture, lambda: self.bus)
            yield

    @asynccontextmanager
    async def begin(self, epoch: int) -> "AsyncIterator[Office]":
        """One term: raise the fence, load the picture, hear, judge and act, until the context ends.

        Raises:
            Unavailable: the database cannot be used.
            Fenced: a later leader has begun.
        """
        office = Office(self, epoch)
        async with office.open():
            yield office

    def _picture(self) -> Picture | None:
        term = self.leader.term
        return term.picture if isinstance(term, Office) else None


class Office:
    """All that a leader has for the time of one term. See ``leading.Term``."""

    picture: Picture
    intake: Intake
    rounds: Rounds
    notifying: Notifying
    recovering: Recovering
    service: ServiceBus
    tasks: Tasks

    def __init__(self, replica: HealthRecovery, epoch: int) -> None:
        self.replica, self.fence = replica, Fence(epoch)
        self.writer = Writer(replica.database, self.fence)
        self._fenced = asyncio.Event()
        self.writer.on_fenced = self._fenced.set
        self.store = SqlHealth(replica.database, self.writer, replica.outbox)
        self.notices = SqlNotices(replica.database, self.writer, replica.outbox)
        self.acts = SqlRecovery(replica.database, self.writer, replica.outbox)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Load what the leader before wrote, and take its place."""
        settings, clock = self.replica.settings, self.replica.clock
        # From here on no leader before this one can write, so what is loaded is the last of it.
        await self.store.raise_fence()
        self.picture = await self.store.load()
        self.intake = Intake(self.picture, self.store, clock, settings.judging.flapping())
        self.intake.on_committed = metrics.told
        self._introduce()
        await self.recovering.load()
        await self.notifying.load()
        async with AsyncExitStack() as stack:
            # Ended in this order: what acts by the clock, what is heard, and last what both write through.
            judging = await stack.enter_async_context(Tasks())
            judging.spawn("judge", self.intake.run)
            stack.callback(self.intake.close)
            opened = ServiceBus.open(settings.bus(), self._routes, self.replica.outbox)
            self.service = await stack.enter_async_context(opened)
            self.tasks = await stack.enter_async_context(Tasks())
            self.rounds.start(self.tasks)
            self.notifying.start(self.tasks)
            self.recovering.start(self.tasks)
            yield

    def _introduce(self) -> None:
        """Make those who act by the picture, and tell the intake about them."""
        settings, clock = self.replica.settings, self.replica.clock
        view = PictureView(self.picture)
        self.recovering = Recovering(
            judged=view, store=self.acts, ledger=StateStore(lambda: self.service.bus, clock.now),
            population=Census(self.picture, clock), clock=clock, settings=settings.recovery,
        )  # fmt: skip
        told = settings.notifications
        self.notifying = Notifying(
            judged=view, store=self.notices, acts=self.recovering,
            channels={
                name: (channel, told.pace(told.channels[name]))
                for name, channel in self.replica.channels.items()
            },
            routes=told.to(), rules=told.rules(), clock=clock,
            give_up=timedelta(seconds=told.give_up_seconds),
            retention=timedelta(days=told.retention_days),
        )  # fmt: skip
        self.intake.listeners += [self.notifying.assessed, self.recovering.assessed]

    def _routes(self, bus: Bus) -> list[Routes]:
        """What is heard, bound to the bus it is heard on."""
        clock, judging = self.replica.clock, self.replica.settings.judging
        if bus.courier:
            self.writer.on_commit = bus.courier.wake
        self.rounds = Rounds(
            intake=self.intake, store=self.store, fleet=RegistryFleet(bus, clock.now), clock=clock,
            refresh_seconds=judging.refresh_seconds, history_days=self.replica.settings.history_days,
        )  # fmt: skip
        known = Known(self.picture, self.notifying, self.recovering, lambda: self.replica.lease.holder)
        return [
            from_agents(self.intake),
            from_readers(known),
            from_historians(self.replica.history, clock),
            from_workers(intake=self.intake, store=self.store, clock=clock),
            notice_routes(notifying=self.notifying, store=self.notices, acts=self.recovering),
            from_ledger(self.recovering),
            from_operators(self.recovering, self.acts),
        ]

    async def over(self) -> int:
        """Return when another leader's fence was met, with its epoch."""
        await self._fenced.wait()
        return self.fence.seen

    def complaints(self) -> list[str]:
        """What is wrong now, for people; empty when all is well."""
        return [
            *self.service.healthy(),
            *self.tasks.complaints(),
            *self.rounds.complaints(),
            *self.notifying.complaints(),
        ]


async def serve(settings: HealthSettings, shutdown: Shutdown) -> None:
    """Run one replica until it is asked to stop, and tell how it is over HTTP."""
    collect_garbage_seldom()
    replica = HealthRecovery(settings, SystemClock())
    health = HealthServer(settings.health_port, settings.health_host, settings.health_port_file)
    async with replica.open():
        health.check("leading", replica.leader.complaints)
        health.check("database", replica.database.ping)
        health.check("tasks", replica.tasks.complaints)
        async with health:
            log.info("ready", health=health.url)
            await shutdown.wait()


def main() -> None:
    """Entry point: ``health-recovery [--config FILE]``."""
    options = argparse.ArgumentParser(
        prog="health-recovery",
        description="How the fleet is: judged health, root causes, recovery, notifications.",
        epilog=HealthSettings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--config", type=Path, help="a YAML file; the environment overrides it")
    chosen = options.parse_args()

    async def run(shutdown: Shutdown) -> None:
        settings = HealthSettings.load(chosen.config)
        configure_logs("health-recovery", level=settings.log_level, json=settings.log_json)
        await serve(settings, shutdown)

    launch(run)


if __name__ == "__main__":
    main()
