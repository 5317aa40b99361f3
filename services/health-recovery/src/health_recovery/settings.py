"""What can be set of health-recovery: by YAML file and by variables that begin with HEALTH_RECOVERY_."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from health_recovery.domain.flapping import FlappingPolicy
from health_recovery.notice_settings import NotificationSettings
from health_recovery.recovery_settings import RecoverySettings
from muster_bus import BusSettings
from muster_contracts.health.v1 import HEALTH
from muster_runtime import Settings


class Judging(BaseModel):
    """How packages are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flapping_high: int = Field(default=6, ge=2, description="So many changes within the window make it flap.")
    flapping_low: int = Field(default=2, ge=0, description="So many or fewer, and it is stable again.")
    flapping_window_seconds: float = Field(default=60.0, gt=0, description="The window, a sliding one.")
    refresh_seconds: float = Field(
        default=30.0, gt=0, description="How often labels, groups and presence are asked of fleet-registry."
    )

    @model_validator(mode="after")
    def _low_is_lower(self) -> "Judging":
        if self.flapping_low >= self.flapping_high:
            raise ValueError(
                f"flapping_low ({self.flapping_low}) has to be less than flapping_high ({self.flapping_high})"
            )
        return self

    def flapping(self) -> FlappingPolicy:
        """As the policy of flapping."""
        return FlappingPolicy(self.flapping_high, self.flapping_low, self.flapping_window_seconds)


class HealthSettings(Settings):
    """Settings of health-recovery."""

    ENV_PREFIX: ClassVar[str] = "HEALTH_RECOVERY_"

    nats_url: str = Field(
        default="nats://127.0.0.1:4222", description="The broker; several of a cluster with commas."
    )
    seed_file: Path | None = Field(default=None, description="The key of the role health-recovery.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite+aiosqlite:///health-recovery.db"),
        description="sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME.",
    )
    lease_seconds: float = Field(
        default=6.0,
        ge=0.5,
        description="A leader that has not been heard of for so long is followed.",
    )
    judging: Judging = Judging()
    recovery: RecoverySettings = RecoverySettings()
    notifications: NotificationSettings = NotificationSettings()
    history_days: float = Field(default=90.0, gt=0, description="How long history is kept.")
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
        """The connection it speaks through."""
        servers = [one.strip() for one in self.nats_url.split(",")]
        return BusSettings(servers=servers, identity=HEALTH, seed_file=self.seed_file)
