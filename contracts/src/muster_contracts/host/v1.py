"""Said by host-agent of the machine it runs on: what it is, and how it is.

Units are in the names: bytes, seconds, percent (0 to 100), celsius. Counters count since boot.
"""

from typing import ClassVar

from pydantic import AwareDatetime, Field

from muster_contracts.ids import AgentId, Epoch, LabelKey, LabelValue
from muster_contracts.message import Ask, DurableFact, LiveFact, Part, Role, Subject


class Disk(Part):
    """One mounted file system with storage behind it."""

    mount_point: str = Field(description="Where it is mounted, such as /var.")
    device: str = Field(description="The block device, such as /dev/vda1.")
    file_system: str = Field(description="Its type, such as ext4.")
    total_bytes: int


class NetworkInterface(Part):
    """One network interface and its addresses."""

    name: str = Field(description="Such as eth0.")
    mac: str | None = Field(default=None, description="Its hardware address, if it has one.")
    addresses: list[str] = Field(default_factory=list, description="IPv4 and IPv6, without prefix lengths.")
    speed_mbits: int | None = Field(default=None, description="Link speed in Mbit/s, where the driver tells.")
    mtu: int | None = Field(default=None, description="The largest packet it takes, in bytes.")
    is_up: bool = Field(default=True, description="Whether it is switched on.")


class Described(DurableFact):
    """What the machine is. Said when the agent starts and whenever a part of it changes."""

    SUBJECT: ClassVar[Subject] = Subject("muster.host.v1.{agent_id}.described")
    SAID_BY = (Role.HOST_AGENT,)
    HEARD_BY = (Role.FLEET_REGISTRY, Role.OPERATOR)

    agent_id: AgentId
    epoch: Epoch
    agent_version: str = Field(description="The version of the agent's package, such as 0.1.0.")
    hostname: str = Field(description="What the machine calls itself.")
    os: str = Field(description="For example 'Debian GNU/Linux 12 (bookworm)'.")
    kernel: str = Field(description="For example 'Linux 6.1.0-18-amd64'.")
    architecture: str = Field(description="For example 'x86_64'.")
    python: str = Field(description="The version of Python the agent runs on.")
    cpu_model: str | None = Field(default=None, description="As the processor names itself, if it does.")
    cpu_count: int = Field(ge=1, description="Logical CPUs this machine may use.")
    memory_bytes: int
    swap_bytes: int = 0
    disks: list[Disk] = Field(default_factory=list)
    network: list[NetworkInterface] = Field(default_factory=list)
    virtualization: str | None = Field(
        default=None, description="'kvm', 'docker', 'lxc', …; null on bare metal."
    )
    booted_at: AwareDatetime = Field(description="When the machine started.")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)


class DiskUsage(Part):
    """How full one file system is."""

    mount_point: str = Field(description="Where it is mounted, such as /var.")
    total_bytes: int
    used_bytes: int
    free_bytes: int = Field(description="Free for an ordinary user.")
    used_percent: float


class DiskTraffic(Part):
    """What one block device moved since boot."""

    device: str = Field(description="The block device, such as vda.")
    read_bytes: int
    written_bytes: int
    reads: int = Field(description="Read operations since boot.")
    writes: int = Field(description="Write operations since boot.")
    busy_seconds: float | None = None


class NetworkTraffic(Part):
    """What one interface moved since boot."""

    interface: str = Field(description="Such as eth0.")
    received_bytes: int
    sent_bytes: int
    received_packets: int = Field(description="Since boot.")
    sent_packets: int = Field(description="Since boot.")
    receive_errors: int = Field(default=0, description="Packets that came damaged, since boot.")
    send_errors: int = Field(default=0, description="Packets that could not be sent, since boot.")
    receive_drops: int = Field(default=0, description="Packets that came and found no room, since boot.")
    send_drops: int = Field(default=0, description="Packets that were to go and found no room, since boot.")


class Temperature(Part):
    """One thermal sensor."""

    sensor: str = Field(description="As the kernel names it, such as coretemp.")
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
    cpu_count: int = Field(description="Logical CPUs this machine may use.")
    load_1m: float = Field(description="Processes running or waiting, averaged over a minute.")
    load_5m: float = Field(description="The same over five minutes.")
    load_15m: float = Field(description="The same over fifteen minutes.")
    memory_total_bytes: int
    memory_available_bytes: int = Field(description="What can be had without swapping.")
    memory_used_percent: float
    swap_total_bytes: int = 0
    swap_used_bytes: int = 0
    disks: list[DiskUsage] = Field(default_factory=list)
    disk_traffic: list[DiskTraffic] = Field(default_factory=list)
    network: list[NetworkTraffic] = Field(default_factory=list)
    processes: int = Field(description="How many there are.")
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
