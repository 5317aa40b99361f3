"""The ground under a benchmark: a broker with one key per role and agent, streams, Redis; gone at the end."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from muster_bus.broker import Identity, render
from muster_bus.bus import Bus
from muster_bus.identity import Keypair
from muster_bus.permissions import Special
from muster_bus.settings import BusSettings
from muster_bus.streams import reconcile
from muster_contracts.message import Role
from muster_testing.servers import NatsServer, RedisServer, free_port
from muster_testing.simulator import Roster

_ROLES = (Role.FLEET_REGISTRY, Role.OPERATOR, Special.PROVISIONER, Special.SYSTEM)


@dataclass
class Ground:
    """A running broker and Redis, and how to connect as each role."""

    directory: Path
    nats: NatsServer
    redis: RedisServer

    def settings(self, role: Role | Special) -> BusSettings:
        """How ``role`` connects."""
        return BusSettings(servers=[self.nats.url], identity=role.value, seed_file=self.seed(role))

    def seed(self, role: Role | Special) -> Path:
        """The role's key file."""
        return self.directory / f"{role.value}.seed"


@asynccontextmanager
async def ground(roster: Roster | None = None, agents: Iterable[Identity] = ()) -> AsyncIterator[Ground]:
    """Start everything, make the streams, and end everything with the block.

    The agents of ``roster`` may each connect with its own key, and its carrier may speak for all of them.
    """
    directory = Path(tempfile.mkdtemp(prefix="muster-bench-"))
    nats, redis = NatsServer("", free_port()), RedisServer()
    here = Ground(directory, nats, redis)
    people = [*_roles(here), *(roster.identities() if roster else ()), *agents]
    nats.config = render(people, port=nats.port, store_dir=nats.directory / "jetstream")
    try:
        with nats, redis:
            await _provision(here)
            yield here
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _roles(here: Ground) -> list[Identity]:
    identities = []
    for role in _ROLES:
        key = Keypair.generate()
        key.save(here.seed(role))
        identities.append(Identity(role, role.value, key.public))
    return identities


async def _provision(here: Ground) -> None:
    bus = await Bus.connect(here.settings(Special.PROVISIONER), first_try_seconds=10)
    try:
        await reconcile(bus.client.jetstream())
    finally:
        await asyncio.wait_for(bus.close(), 10)
