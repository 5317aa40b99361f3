"""What can be set of state-store: by YAML file and by variables that begin with STATE_STORE_."""

from datetime import timedelta
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from muster_bus import BusSettings
from muster_runtime import Settings
from state_store.domain.streams import LEAST_CHARGE
from state_store.domain.target import Patience
from state_store.ports import Limits


class Orders(BaseModel):
    """How long orders are waited for, how often they are pushed, and how many there may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_seconds: float = Field(
        default=60.0, ge=0, description="After a target's time is over, so long may word of it be on its way."
    )
    push_at_once: int = Field(default=256, ge=1, description="Pushes under way at a time.")
    push_seconds: float = Field(
        default=5.0, gt=0, description="An agent that does not answer for so long may have got the order."
    )
    push_again_seconds: float = Field(
        default=30.0, gt=0, description="Before the second push; it doubles with each that follows."
    )
    longest_push_again_seconds: float = Field(default=600.0, gt=0, description="No pause is longer.")
    cancel_again_seconds: float = Field(default=5.0, gt=0, description="The same for the order to stop.")
    pushes_per_second: int = Field(default=300, ge=1, description="Of those that are pushed again.")
    sweep_seconds: float = Field(default=0.5, gt=0, description="How often deadlines are looked at.")
    targets_of_command: int = Field(default=50_000, ge=1, description="A command for more agents is refused.")
    open_of_agent: int = Field(
        default=10_000, ge=1, description="An agent with so many open commands gets no more."
    )
    bytes_of_stream: int = Field(
        default=64 << 20,
        ge=LEAST_CHARGE,
        description=f"Output of one target; what is more is refused. A chunk counts {LEAST_CHARGE} at least.",
    )

    def patience(self) -> Patience:
        """How long the ledger waits."""
        return Patience(
            grace=timedelta(seconds=self.grace_seconds),
            push_again=timedelta(seconds=self.push_again_seconds),
            longest_push_again=timedelta(seconds=self.longest_push_again_seconds),
            cancel_again=timedelta(seconds=self.cancel_again_seconds),
        )

    def limits(self) -> Limits:
        """How much there may be."""
        return Limits(self.targets_of_command, self.open_of_agent, self.bytes_of_stream)


class StoreSettings(Settings):
    """Settings of state-store."""

    ENV_PREFIX: ClassVar[str] = "STATE_STORE_"

    nats_url: str = Field(
        default="nats://127.0.0.1:4222", description="The broker; several of a cluster with commas."
    )
    seed_file: Path | None = Field(default=None, description="The key of the role state-store.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite+aiosqlite:///state-store.db"),
        description="sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME.",
    )
    orders: Orders = Orders()
    retention_days: float = Field(
        default=90.0, gt=0, description="How long ended commands and output are kept; the audit stays."
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
        """The connection it speaks through."""
        servers = [one.strip() for one in self.nats_url.split(",")]
        return BusSettings(servers=servers, identity="state-store", seed_file=self.seed_file)
