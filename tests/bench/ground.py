"""The ground under a benchmark: a broker with one key per role and agent, streams, Redis; gone at the end."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import SecretStr

from fleet_registry.settings import Presence, RegistrySettings
from muster_bus.broker import Identity, render
from muster_bus.bus import Bus
from muster_bus.identity import Keypair
from muster_bus.permissions import Special
from muster_bus.settings import BusSettings
from muster_bus.streams import reconcile
from muster_contracts.message import Role
from muster_testing.servers import NatsServer, RedisServer, free_port
from muster_testing.simulator import Roster

_READY_SECONDS = 30.0
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

    @property
    def identities(self) -> Path:
        """The file that tells the registry whose key is whose."""
        return self.directory / "identities.json"

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
    people = [*_roles(here), *(roster.identities if roster else ()), *agents]
    config = render(people, port=nats.port, store_dir=nats.directory / "jetstream")
    nats.config = roster.let_carrier_in(config) if roster else config
    known = {one.public_key: {"role": one.role.value, "name": one.name} for one in people}
    here.identities.write_text(json.dumps(known))
    try:
        with nats, redis:
            await _provision(here)
            yield here
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def registry_settings(here: Ground, presence: Presence) -> RegistrySettings:
    """A registry on this ground, with a database of its own."""
    return RegistrySettings(
        nats_url=here.nats.url,
        seed_file=here.seed(Role.FLEET_REGISTRY),
        system_seed_file=here.seed(Special.SYSTEM),
        identities_file=here.identities,
        redis_url=SecretStr(here.redis.url),
        database_url=SecretStr(f"sqlite+aiosqlite:///{here.directory}/registry.db"),
        health_port_file=here.directory / "registry.port",
        presence=presence,
        log_level="warning",
    )


@contextmanager
def registry(here: Ground, presence: Presence) -> Iterator[int]:
    """A registry in a process of its own, ready; yields its pid and ends it with the block."""
    config, log = here.directory / "registry.yaml", here.directory / "registry.log"
    config.write_text(yaml.safe_dump(_plain(registry_settings(here, presence))))
    (here.directory / "registry.port").unlink(missing_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "fleet_registry.main", "--config", str(config)], stdout=out, stderr=out
        )
    try:
        _wait_until_ready(child, here)
        yield child.pid
    finally:
        child.kill()
        child.wait(10)


def _plain(settings: RegistrySettings) -> dict[str, object]:
    """For YAML; the addresses of this ground hold no secrets."""
    plain = settings.model_dump(mode="json", exclude_none=True)
    urls = {"redis_url": settings.redis_url, "database_url": settings.database_url}
    return plain | {key: url.get_secret_value() for key, url in urls.items()}


def _wait_until_ready(child: "subprocess.Popen[bytes]", here: Ground) -> None:
    # It blocks, which harms nobody: there is no fleet yet.
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        if _is_ready(here.directory / "registry.port"):
            return
        time.sleep(0.05)
    raise RuntimeError(f"cannot start the registry: {(here.directory / 'registry.log').read_text()[-2000:]}")


def _is_ready(port_file: Path) -> bool:
    if not port_file.exists() or not (port := port_file.read_text().strip()):
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


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
