"""The bus of a service: its routes on FastStream, on the one connection it also speaks through."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Self

from nats.errors import Error as NatsError

from muster_bus.bus import Bus
from muster_bus.ending import end
from muster_bus.service.mounting import LentBroker, Watched, mount
from muster_bus.service.pulling import BoundJetStream
from muster_bus.service.routes import Route, Routes, Way
from muster_bus.service.watchdog import Watchdog
from muster_bus.settings import BusSettings
from muster_bus.spool import Spool

log = logging.getLogger("muster.bus")

SomeRoutes = Routes | Sequence[Routes]
RoutesOf = Callable[[Bus], SomeRoutes]
"""Handlers that speak need the bus before they exist: ``lambda bus: handlers(agents, bus)``."""


class ServiceBus:
    """A service on the bus: ``async with ServiceBus.open(settings, routes) as service``."""

    def __init__(self, bus: Bus, routes: SomeRoutes) -> None:
        self.bus = bus
        several = [routes] if isinstance(routes, Routes) else list(routes)
        self._routes = [(one.service, route) for one in several for route in one.all]
        self._jetstream = BoundJetStream(bus.client)
        self._broker = LentBroker()
        self._broker.lent = bus.client
        self._watchdog = Watchdog(self._jetstream, self._mount())
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        settings: BusSettings,
        routes: SomeRoutes | RoutesOf,
        spool: Spool | None = None,
        *,
        first_try_seconds: float | None = None,
    ) -> AsyncIterator[Self]:
        """Connect and hear; at the end finish what runs, deliver what can be delivered, and leave.

        Returns when everything is heard, or, while the broker cannot be reached, after the first attempt:
        hearing then begins once it can. With ``first_try_seconds`` the broker has to be there within them.

        Raises:
            CannotConnect: not within ``first_try_seconds``.
        """
        bus = await Bus.connect(settings, spool=spool, first_try_seconds=first_try_seconds)
        try:
            service = cls(bus, routes(bus) if callable(routes) else routes)
            await service.start()
            try:
                yield service
            finally:
                await service.stop()
        finally:
            await bus.close()

    async def start(self) -> None:
        """Begin to hear, now or as soon as the broker can be reached."""
        await self.bus.once_connected(self._start)
        self._watching = asyncio.create_task(self._watchdog.watch(), name="watchdog of the bus")

    async def stop(self) -> None:
        """Take nothing more, and finish what is being worked on."""
        self.bus.client.leave()
        if self._watching:
            await end(self._watching)
        if self._broker.running:
            with contextlib.suppress(ExceptionGroup):
                await self._broker.give_back()

    def healthy(self) -> list[str]:
        """What is wrong now, for people; empty when all is well."""
        link = self.bus.client
        complaints = [] if link.up.is_set() else [f"no broker for {time.monotonic() - link.down_since:.0f} s"]
        complaints += [f"no permission to hear {subject}" for subject in sorted(link.deaf_to)]
        if self.bus.courier and self.bus.courier.complaint:
            complaints.append(self.bus.courier.complaint)
        return complaints + (self._watchdog.complaints() if link.up.is_set() else [])

    async def look(self) -> list[str]:
        """Have the watchdog look now, and return its complaints."""
        await self._watchdog.look()
        return self.healthy()

    def _mount(self) -> Watched:
        watched: Watched = {}
        for service, route in self._routes:
            if route.way is not Way.BATCHES:
                found = mount(self._broker, service, [route], self.bus.dead_letters, self.bus.counters)
                watched |= found
        return watched

    async def _start(self) -> None:
        await self._broker.connect()
        # FastStream asks its state for JetStream; ours binds to what is provisioned and stays calm.
        self._broker.config.connection_state.connect(self.bus.client, self._jetstream)
        await self._broker.start()
        for service, route in self._routes:
            if route.way is Way.BATCHES:
                await self._hear_batches(service, route)
        # The broker answers a flush after it has taken every subscription: whoever asks now is heard.
        with contextlib.suppress(NatsError):
            await self.bus.client.flush()

    async def _hear_batches(self, service: str, route: Route) -> None:
        # A firehose goes past FastStream, which takes a tenth of what nats-py can read.
        await self.bus.hear_batches(
            route.contract,
            route.handler,
            queue=service,
            max_batch=route.max_batch,
            max_wait_seconds=route.max_wait_seconds,
            max_pending=route.max_pending,
        )
