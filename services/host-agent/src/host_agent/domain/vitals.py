"""How the machine is: from what the kernel counts to what a person reads."""

from dataclasses import dataclass
from datetime import datetime

from host_agent.domain.speaker import Speaker
from muster_contracts.host.v1 import DiskTraffic, DiskUsage, NetworkTraffic, Temperature, Vitals

SHORTEST_WINDOW_SECONDS = 0.1
"""CPU use over less than this says more about the kernel's tick than about the machine."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Time all CPUs together have spent since boot, in any one unit."""

    busy: float
    total: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory and swap, in bytes."""

    total: int
    available: int
    swap_total: int
    swap_used: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the kernel says at one instant."""

    cpu: CpuTimes
    cpu_count: int
    load: tuple[float, float, float]
    memory: Memory
    disks: tuple[DiskUsage, ...]
    disk_traffic: tuple[DiskTraffic, ...]
    network: tuple[NetworkTraffic, ...]
    processes: int
    uptime_seconds: float
    temperatures: tuple[Temperature, ...]


class CpuMeter:
    """The busy share of all CPUs between one look and the next."""

    def __init__(self) -> None:
        self._times: CpuTimes | None = None
        self._looked_at = 0.0
        self._percent = 0.0

    def percent(self, times: CpuTimes, now: float) -> float:
        """0 to 100 since the last look; a look within 100 ms of the last one repeats its figure.

        Args:
            times: what the CPUs have spent by now.
            now: seconds of a monotonic clock.
        """
        if self._times is None:
            # Nothing to compare with yet: the average since boot is the honest figure.
            self._percent = _share(times.busy, times.total)
        elif now - self._looked_at < SHORTEST_WINDOW_SECONDS:
            return self._percent
        else:
            self._percent = _share(times.busy - self._times.busy, times.total - self._times.total)
        self._times, self._looked_at = times, now
        return self._percent


def _share(part: float, whole: float) -> float:
    """Part of whole in percent; counters may stand still or, on a virtual machine, run backwards."""
    return round(min(100.0, max(0.0, 100.0 * part / whole)), 2) if whole > 0 else 0.0


def vitals(reading: Reading, cpu_percent: float, speaker: Speaker, at: datetime) -> Vitals:
    """The fact to say of this reading."""
    memory = reading.memory
    return Vitals(
        occurred_at=at,
        agent_id=speaker.agent_id,
        epoch=speaker.epoch,
        cpu_percent=cpu_percent,
        cpu_count=reading.cpu_count,
        load_1m=reading.load[0],
        load_5m=reading.load[1],
        load_15m=reading.load[2],
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        memory_used_percent=_share(memory.total - memory.available, memory.total),
        swap_total_bytes=memory.swap_total,
        swap_used_bytes=memory.swap_used,
        disks=list(reading.disks),
        disk_traffic=list(reading.disk_traffic),
        network=list(reading.network),
        processes=reading.processes,
        uptime_seconds=reading.uptime_seconds,
        temperatures=list(reading.temperatures),
    )
