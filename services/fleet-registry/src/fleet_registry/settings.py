"""What can be set of fleet-registry: by YAML file and by variables that begin with FLEET_REGISTRY_."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from fleet_registry.domain.flapping import FlappingPolicy
from fleet_registry.domain.grants import GrantPolicy
from fleet_registry.domain.partition import PartitionPolicy
from muster_bus import BusSettings
from muster_runtime import Settings


class Presence(BaseModel):
    """How agents are judged, and what they are granted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_seconds: float = Field(default=5.0, ge=0.2, description="The interval granted to a small fleet.")
    budget_per_second: float = Field(
        default=4000.0, gt=0, description="Heartbeats per second of the whole fleet; a larger one is slowed."
    )
    longest_interval_seconds: float = Field(
        default=300.0, gt=0, description="No agent's own interval is believed beyond this."
    )
    sweep_seconds: float = Field(default=0.25, gt=0, description="How often silence is looked for.")
    hold_seconds: float = Field(
        default=0.8, ge=0, description="How long a broken connection may be replaced before it is a loss."
    )
    flapping_changes: int = Field(default=6, ge=2, description="Comings and goings that make an agent flap.")
    flapping_window_seconds: float = Field(default=60.0, gt=0, description="Within this long.")
    partition_share: float = Field(
        default=0.30, gt=0, lt=1, description="More of a site missing than this part: it is cut off."
    )
    partition_least: int = Field(default=10, ge=1, description="Smaller sites are never taken for cut off.")
    partition_limit_seconds: float = Field(
        default=600.0, gt=0, description="After this long the missing are lost one by one."
    )

    def grants(self) -> GrantPolicy:
        """As the policy of intervals."""
        return GrantPolicy(self.interval_seconds, self.budget_per_second, self.longest_interval_seconds)

    def flapping(self) -> FlappingPolicy:
        """As the policy of flapping."""
        return FlappingPolicy(self.flapping_changes, self.flapping_window_seconds)

    def partition(self) -> PartitionPolicy:
        """As the policy of partitions."""
        return PartitionPolicy(
            share=self.partition_share,
            least=self.partition_least,
            back_share=self.partition_share / 2,
            limit_seconds=self.partition_limit_seconds,
        )


class RegistrySettings(Settings):
    """Settings of fleet-registry."""

    ENV_PREFIX: ClassVar[str] = "FLEET_REGISTRY_"

    nats_url: str = Field(
        default="nats://127.0.0.1:4222", description="The broker; several of a cluster with commas."
    )
    seed_file: Path | None = Field(default=None, description="The key of the role fleet-registry.")
    system_seed_file: Path | None = Field(
        default=None,
        description="The key of the identity system, to hear of broken connections; without it they are "
        "noticed by silence only.",
    )
    identities_file: Path | None = Field(
        default=None,
        description='Who owns which key: {"<public nkey>": {"role": "host-agent", "name": "web-1"}}.',
    )
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="The presence index; the registry goes on without it.",
    )
    redis_password_file: Path | None = Field(
        default=None, description="A file that holds the password alone."
    )
    redis_timeout_seconds: float = Field(default=1.0, gt=0, description="Slower than this is taken for gone.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite+aiosqlite:///fleet-registry.db"),
        description="sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME.",
    )
    presence: Presence = Presence()
    history_days: float = Field(default=90.0, gt=0, description="How long history and sessions are kept.")
    per_agent_metrics: bool = Field(
        default=False, description="One last_seen series per agent: only for small fleets."
    )
    health_host: str = Field(default="127.0.0.1", description="Loopback unless said otherwise.")
    health_port: int = Field(default=0, ge=0, le=65535, description="0: the system chooses one.")
    health_port_file: Path | None = Field(
        default=None, description="Where to write the port once it listens."
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        default="info", description="The least severe lines that are written."
    )
    log_json: bool | None = Field(
        default=None, description="JSON, or lines for people; by default whatever standard error is."
    )

    def bus(self) -> BusSettings:
        """The connection the registry speaks through."""
        return self._bus("fleet-registry", self.seed_file)

    def system_bus(self) -> BusSettings | None:
        """The connection it hears the broker's advisories through, if it has a key for it."""
        return self._bus("system", self.system_seed_file) if self.system_seed_file else None

    def redis_password(self) -> str | None:
        """The password of Redis, if there is a file for it."""
        return self.redis_password_file.read_text().strip() if self.redis_password_file else None

    def _bus(self, identity: str, seed_file: Path | None) -> BusSettings:
        servers = [one.strip() for one in self.nats_url.split(",")]
        return BusSettings(servers=servers, identity=identity, seed_file=seed_file)
