"""Said by host-agent of the machine it runs on: what it is, and how it is.

Units are in the names: bytes, seconds, percent (0 to 100), celsius. Counters count since boot.
"""

from typing import ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from muster_contracts.ids import AgentId, Epoch, LabelKey, LabelValue
from muster_contracts.message import Ask, DurableFact, LiveFact, Role, Subject


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Disk(_Part):
    """One mounted file system with storage behind it."""

    mount_point: str
    device: str
    file_system: str
    total_bytes: int


class NetworkInterface(_Part):
    """One network interface and its addresses."""

    name: str
    mac: str | None = None
    addresses: list[str] = Field(default_factory=list, description="IPv4 and IPv6, without prefix lengths.")
    speed_mbits: int | None = Field(default=None, description="Link speed in Mbit/s, where the driver tells.")
    mtu: int | None = None
    is_up: bool = True


class Described(DurableFact):
    """What the machine is. Said when the agent starts and whenever a part of it changes."""

    SUBJECT: ClassVar[Subject] = Subject("muster.host.v1.{agent_id}.described")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.FLEET_REGISTRY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    agent_version: str
    hostname: str
    os: str = Field(description="For example 'Debian GNU/Linux 12 (bookworm)'.")
    kernel: str = Field(description="For example 'Linux 6.1.0-18-amd64'.")
    architecture: str = Field(description="For example 'x86_64'.")
    python: str
    cpu_model: str | None = None
    cpu_count: int = Field(ge=1, description="Logical CPUs this machine may use.")
    memory_bytes: int
    swap_bytes: int = 0
    disks: list[Disk] = Field(default_factory=list)
    network: list[NetworkInterface] = Field(default_factory=list)
    virtualization: str | None = Field(
        default=None, description="'kvm', 'docker', 'lxc', …; null on bare metal."
    )
    booted_at: AwareDatetime
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)


class DiskUsage(_Part):
    """How full one file system is."""

    mount_point: str
    total_bytes: int
    used_bytes: int
    free_bytes: int = Field(description="Free for an ordinary user.")
    used_percent: float


class DiskTraffic(_Part):
    """What one block device moved since boot."""

    device: str
    read_bytes: int
    written_bytes: int
    reads: int
    writes: int
    busy_seconds: float | None = None


class NetworkTraffic(_Part):
    """What one interface moved since boot."""

    interface: str
    received_bytes: int
    sent_bytes: int
    received_packets: int
    sent_packets: int
    receive_errors: int = 0
    send_errors: int = 0
    receive_drops: int = 0
    send_drops: int = 0


class Temperature(_Part):
    """One thermal sensor."""

    sensor: str
    celsius: float
    high_celsius: float | None = None


class Vitals(LiveFact):
    """How the machine is just now. Sampled at the agent's sampling interval."""

    SUBJECT: ClassVar[Subject] = Subject("muster.host.v1.{agent_id}.vitals")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.OPERATOR,)

    agent_id: AgentId
    epoch: Epoch
    cpu_percent: float = Field(ge=0, le=100, description="Busy share of all CPUs since the sample before.")
    cpu_count: int
    load_1m: float
    load_5m: float
    load_15m: float
    memory_total_bytes: int
    memory_available_bytes: int = Field(description="What can be had without swapping.")
    memory_used_percent: float
    swap_total_bytes: int = 0
    swap_used_bytes: int = 0
    disks: list[DiskUsage] = Field(default_factory=list)
    disk_traffic: list[DiskTraffic] = Field(default_factory=list)
    network: list[NetworkTraffic] = Field(default_factory=list)
    processes: int
    uptime_seconds: float
    temperatures: list[Temperature] = Field(
        default_factory=list, description="Empty where there are no sensors."
    )


class ReadVitals(Ask[Vitals]):
    """How is the machine now? Answered with a sample not older than the agent's sampling interval."""

    SUBJECT: ClassVar[Subject] = Subject("muster.host.v1.{agent_id}.read-vitals")
    SAID_BY = (Role.OPERATOR,)
    HEARD_BY = (Role.HOST_AGENT,)
    ANSWER = Vitals

    agent_id: AgentId
