"""A control plane of real processes: broker, Redis, registry, store, health-recovery, each to be killed."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Self

from muster_bus import Bus
from muster_bus.broker import Identity
from muster_contracts.audit.v1 import ReadAudit
from muster_contracts.fleet.v1 import GetSummary
from muster_contracts.health.v1 import GetFleetHealth
from muster_contracts.message import Ask
from muster_testing.ground import Ground
from muster_testing.program import Program
from muster_testing.servers import RedisServer
from muster_testing.wait import until


class ControlPlane(Ground):
    """``settings`` are added to the services' environment, for example to shorten intervals.

    state-store runs only where a test is about ``orders``, and so many ``replicas`` of health-recovery only
    where it is about ``health``, which needs orders. ``health`` is the first of them, ``replicas`` are all.
    """

    operator: Bus

    def __init__(
        self,
        *agents: str,
        others: Iterable[Identity] = (),
        settings: Mapping[str, str] | None = None,
        sync_always: bool = True,
        orders: bool = False,
        health: bool = False,
        replicas: int = 1,
    ) -> None:
        super().__init__(*agents, others=others, sync_always=sync_always)
        self.redis = RedisServer()
        self.registry = Program(
            "fleet-registry",
            {**self._registry_settings(), **(settings or {})},
            self.directory / "registry.log",
        )
        self.store = Program(
            "state-store", {**self._store_settings(), **(settings or {})}, self.directory / "store.log"
        )
        self.replicas = [
            Program(
                "health-recovery",
                {**self._health_settings(place), **(settings or {})},
                self.directory / f"health-{place}.log",
            )
            for place in range(replicas)
        ]
        self._orders, self._health = orders or health, health

    @property
    def health(self) -> Program:
        """health-recovery: the only replica, or the first one."""
        return self.replicas[0]

    @property
    def database(self) -> str:
        """The registry's database file."""
        return str(self.directory / "registry.db")

    @property
    def ledger(self) -> str:
        """The database file of state-store."""
        return str(self.directory / "store.db")

    @property
    def picture(self) -> str:
        """The database file of health-recovery."""
        return str(self.directory / "health.db")

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._write_identities()
        self._write_client()
        self.redis.start()
        self.registry.start()
        if self._orders:
            self.store.start()
        if self._health:
            for replica in self.replicas:
                replica.start()
        self.operator = await self.bus("operator")
        await self.served()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await super().__aexit__(*exc)
        finally:
            for replica in self.replicas:
                replica.kill()
            self.store.kill()
            self.registry.kill()
            self.redis.__exit__()

    async def served(self, seconds: float = 30.0) -> None:
        """Wait until the services answer."""
        now = datetime.now(UTC)
        await until(lambda: self._answers(GetSummary(occurred_at=now), self.registry), seconds)
        if self._orders:
            await until(lambda: self._answers(ReadAudit(occurred_at=now, limit=1), self.store), seconds)
        if self._health:
            await until(lambda: self._answers(GetFleetHealth(occurred_at=now), *self.replicas), seconds)

    async def _answers(self, question: Ask[Any], *services: Program) -> bool:
        try:
            await self.operator.ask(question, timeout=1.0)
        except Exception as error:
            ended = [service.log[-2000:] for service in services if not service.running]
            if len(ended) == len(services):
                raise RuntimeError(f"cannot use a service that ended: {ended[0]}") from error
            return False
        return True

    def _registry_settings(self) -> dict[str, str]:
        return {
            "FLEET_REGISTRY_NATS_URL": self.server.url,
            "FLEET_REGISTRY_SEED_FILE": str(self.seed_file("fleet-registry")),
            "FLEET_REGISTRY_SYSTEM_SEED_FILE": str(self.seed_file("system")),
            "FLEET_REGISTRY_IDENTITIES_FILE": str(self.directory / "identities.json"),
            "FLEET_REGISTRY_REDIS_URL": self.redis.url,
            "FLEET_REGISTRY_DATABASE_URL": f"sqlite+aiosqlite:///{self.database}",
        }

    def _store_settings(self) -> dict[str, str]:
        return {
            "STATE_STORE_NATS_URL": self.server.url,
            "STATE_STORE_SEED_FILE": str(self.seed_file("state-store")),
            "STATE_STORE_HEALTH_PORT_FILE": str(self.directory / "store.port"),
            "STATE_STORE_DATABASE_URL": f"sqlite+aiosqlite:///{self.ledger}",
        }

    def _health_settings(self, place: int) -> dict[str, str]:
        return {
            "HEALTH_RECOVERY_NATS_URL": self.server.url,
            "HEALTH_RECOVERY_SEED_FILE": str(self.seed_file("health-recovery")),
            "HEALTH_RECOVERY_HEALTH_PORT_FILE": str(self.directory / f"health-{place}.port"),
            "HEALTH_RECOVERY_DATABASE_URL": f"sqlite+aiosqlite:///{self.picture}",
        }

    def _write_identities(self) -> None:
        known = {one.public_key: {"role": str(one.role), "name": one.name} for one in self.identities}
        (self.directory / "identities.json").write_text(json.dumps(known))

    def _write_client(self) -> None:
        """What the muster command reads: ``MUSTER_DIR`` may name this directory."""
        client = {"servers": [self.server.url], "identity": "operator", "seed_file": "keys/operator.seed"}
        (self.directory / "client.json").write_text(json.dumps(client))
