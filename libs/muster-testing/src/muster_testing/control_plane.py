"""A control plane of real processes: broker, Redis and fleet-registry, each of which a test may kill."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Self

from muster_bus import Bus
from muster_bus.broker import Identity
from muster_contracts.fleet.v1 import GetSummary
from muster_testing.ground import Ground
from muster_testing.program import Program
from muster_testing.servers import RedisServer
from muster_testing.wait import until


class ControlPlane(Ground):
    """``settings`` are added to the registry's environment, for example to shorten its intervals."""

    operator: Bus

    def __init__(
        self,
        *agents: str,
        others: Iterable[Identity] = (),
        settings: Mapping[str, str] | None = None,
        sync_always: bool = True,
    ) -> None:
        super().__init__(*agents, others=others, sync_always=sync_always)
        self.redis = RedisServer()
        self.registry = Program(
            "fleet-registry",
            {**self._registry_settings(), **(settings or {})},
            self.directory / "registry.log",
        )

    @property
    def database(self) -> str:
        """The registry's database file."""
        return str(self.directory / "registry.db")

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._write_identities()
        self._write_client()
        self.redis.start()
        self.registry.start()
        self.operator = await self.bus("operator")
        await self.served()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await super().__aexit__(*exc)
        finally:
            self.registry.kill()
            self.redis.__exit__()

    async def served(self, seconds: float = 30.0) -> None:
        """Wait until the registry answers."""
        await until(self._answers, seconds)

    async def _answers(self) -> bool:
        try:
            await self.operator.ask(GetSummary(occurred_at=datetime.now(UTC)), timeout=1.0)
        except Exception as error:
            if not self.registry.running:
                raise RuntimeError(
                    f"cannot use a registry that ended: {self.registry.log[-2000:]}"
                ) from error
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

    def _write_identities(self) -> None:
        known = {one.public_key: {"role": str(one.role), "name": one.name} for one in self.identities}
        (self.directory / "identities.json").write_text(json.dumps(known))

    def _write_client(self) -> None:
        """What the muster command reads: ``MUSTER_DIR`` may name this directory."""
        client = {"servers": [self.server.url], "identity": "operator", "seed_file": "keys/operator.seed"}
        (self.directory / "client.json").write_text(json.dumps(client))
