"""What host-agent needs of the world."""

from typing import Protocol

from host_agent.domain.machine import Machine
from host_agent.domain.vitals import CpuTimes, Reading
from muster_contracts.host.v1 import Vitals


class Kernel(Protocol):
    """The machine's own knowledge of itself."""

    network_disks: bool
    """Whether file systems of other machines count as this one's disks; may be changed at any time."""

    def cpu(self) -> CpuTimes:
        """What the CPUs have spent since boot; the cheapest look."""

    def read(self) -> Reading:
        """How the machine is now; never waits for a disk of another machine."""

    def describe(self) -> Machine:
        """What the machine is; looks again for disks, interfaces and sensors."""


class Pulse(Protocol):
    """The latest vitals."""

    async def vitals(self, not_older_than_seconds: float) -> Vitals:
        """The last sample if it is young enough, else a fresh one."""
