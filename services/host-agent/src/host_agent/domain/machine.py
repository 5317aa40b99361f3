"""What the machine is, and whether that has changed."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from host_agent.domain.speaker import Speaker
from muster_contracts.host.v1 import Described, Disk, NetworkInterface

MOST_PARTS = 64
"""More disks or interfaces than this are left out, so that a description always fits a message."""
MOST_ADDRESSES = 16
"""Of one interface; a load balancer's may have thousands."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A description of the machine; two are equal when nothing worth telling differs."""

    hostname: str
    os: str
    kernel: str
    cpu_model: str | None
    cpu_count: int
    memory_bytes: int
    swap_bytes: int
    disks: tuple[Disk, ...]
    network: tuple[NetworkInterface, ...]
    virtualization: str | None
    # Computed from the uptime, so it wobbles by the clock's corrections.
    booted_at: datetime = field(compare=False)


def describe(machine: Machine, speaker: Speaker, labels: Mapping[str, str], at: datetime) -> Described:
    """The fact to say of this machine."""
    return Described(
        occurred_at=at,
        agent_id=speaker.agent_id,
        epoch=speaker.epoch,
        agent_version=speaker.version,
        hostname=machine.hostname,
        os=machine.os,
        kernel=machine.kernel,
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu_model=machine.cpu_model,
        cpu_count=machine.cpu_count,
        memory_bytes=machine.memory_bytes,
        swap_bytes=machine.swap_bytes,
        disks=list(machine.disks[:MOST_PARTS]),
        network=[_bounded(one) for one in machine.network[:MOST_PARTS]],
        virtualization=machine.virtualization,
        booted_at=machine.booted_at,
        labels=dict(labels),
    )


def _bounded(interface: NetworkInterface) -> NetworkInterface:
    return interface.model_copy(update={"addresses": interface.addresses[:MOST_ADDRESSES]})
