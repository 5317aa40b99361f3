"""How one process reaches the broker, and as whom."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from muster_contracts.ids import ServiceName


class BusSettings(BaseModel):
    """Where the broker is and who connects; the waits decide how fast a broken link is noticed and mended."""

    model_config = ConfigDict(frozen=True)

    servers: list[str] = Field(min_length=1, description="For example nats://127.0.0.1:4222.")
    identity: ServiceName = Field(description="A role's name or an agent's id; also the client's name.")
    seed_file: Path | None = Field(
        default=None, description="The nkey seed; none on a broker without accounts."
    )
    ping_interval_seconds: float = Field(
        default=10, gt=0, description="A half-open link is noticed after this, three times."
    )
    max_outstanding_pings: int = Field(default=2, ge=1)
    connect_timeout_seconds: float = Field(default=2, gt=0)
    reconnect_min_seconds: float = Field(
        default=0.25,
        gt=0,
        description="The first wait is between zero and this; each next one up to twice as long.",
    )
    reconnect_max_seconds: float = Field(
        default=2, gt=0, description="No wait is longer; attempts never end."
    )

    @property
    def inbox_prefix(self) -> str:
        """Where answers to this identity arrive; nobody else may subscribe there."""
        return f"_INBOX.{self.identity}"

    @property
    def places(self) -> list[str]:
        """The servers without user and password, for logs and errors."""
        return [server.rpartition("@")[2].removeprefix("nats://") for server in self.servers]
