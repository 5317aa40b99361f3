"""A ground to test on: a real broker with accounts and permissions, its streams made, and a bus for anyone.

``async with Ground("a1", "a2") as ground: bus = await ground.bus("a1")``
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from muster_bus import Bus, BusSettings, Keypair, Spool
from muster_bus.broker import Identity, render
from muster_bus.permissions import Special
from muster_bus.streams import reconcile
from muster_contracts.message import Role
from muster_testing.servers import NatsServer, free_port

STANDING = {
    **{
        role.value: role
        for role in (Role.FLEET_REGISTRY, Role.STATE_STORE, Role.HEALTH_RECOVERY, Role.OPERATOR)
    },
    **{special.value: special for special in Special},
}
"""Identities every ground has: the services, an operator, the provisioner and the system's observer."""


class Ground:
    """A running broker and the keys of everybody on it; agents are named by their ids."""

    def __init__(
        self, *agents: str, others: Iterable[Identity] = (), sync_always: bool = False, extra: str = ""
    ) -> None:
        self._server = NatsServer(port=free_port())
        self._keys = {name: Keypair.generate() for name in (*STANDING, *agents)}
        self._others = list(others)
        self._sync_always = sync_always
        self._extra = extra
        self._buses = contextlib.AsyncExitStack()

    @property
    def server(self) -> NatsServer:
        """The broker's process: kill, pause, restart it."""
        return self._server

    @property
    def directory(self) -> Path:
        """A place for this ground's files, removed at its end."""
        return self._server.directory

    @property
    def identities(self) -> list[Identity]:
        """Everybody the broker knows: the standing ones, the agents, and the others."""
        own = [
            Identity(STANDING.get(name, Role.HOST_AGENT), name, key.public)
            for name, key in self._keys.items()
        ]
        return [*own, *self._others]

    async def __aenter__(self) -> Self:
        self._server.config = render(
            self.identities,
            port=self._server.port,
            store_dir=self.directory / "jetstream",
            sync_always=self._sync_always,
            extra=self._extra,
        )
        for name, key in self._keys.items():
            key.save(self.seed_file(name))
        self._server.start()
        provisioner = await Bus.connect(self.settings("provisioner"), first_try_seconds=10)
        await reconcile(provisioner.client.jetstream())
        await provisioner.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._buses.aclose()
        self._server.__exit__()

    def settings(self, identity: str, *, server: str | None = None, **changes: Any) -> BusSettings:
        """How ``identity`` reaches this broker; ``server`` goes through a proxy instead."""
        return BusSettings.model_validate(
            {
                "servers": [server or self._server.url],
                "identity": identity,
                "seed_file": self.seed_file(identity),
                **changes,
            }
        )

    async def bus(self, identity: str, *, spool: Spool | None = None) -> Bus:
        """A connected bus of ``identity``; closed when the ground is."""
        bus = await Bus.connect(self.settings(identity), spool=spool, first_try_seconds=10)
        self._buses.push_async_callback(bus.close)
        return bus

    def seed_file(self, identity: str) -> Path:
        """The key of ``identity``."""
        return self.directory / "keys" / f"{identity}.seed"
