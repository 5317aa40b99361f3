"""What a container may use of its machine: the limits at the root of its cgroup view.

Asked only inside a container. Outside, a limit on the agent's own cgroup (a systemd unit's MemoryMax) says
nothing about the machine.
"""

import math
from contextlib import suppress

from host_agent.adapters.files import read, read_or_nothing
from host_agent.domain.vitals import Memory

NO_LIMIT = 1 << 60
"""Version 1 says "no limit" by a number near 2^63."""


class ContainerLimits:
    """The limits found under ``root``, for cgroups of version 2 or 1."""

    def __init__(self, root: str = "/sys/fs/cgroup") -> None:
        self._root = root

    def cpus(self, allowed: int) -> int:
        """CPUs the quota leaves of those allowed, rounded up."""
        quota, period = self._quota()
        return max(1, min(allowed, math.ceil(quota / period))) if quota > 0 and period > 0 else allowed

    def memory(self, machine: Memory) -> Memory:
        """The machine's memory, narrowed to the container's limit where that is smaller."""
        limit, used = self._memory()
        if not 0 < limit < min(machine.total, NO_LIMIT):
            return machine
        available = max(0, min(machine.available, limit - used))
        return Memory(limit, available, machine.swap_total, machine.swap_used)

    def _quota(self) -> tuple[int, int]:
        if words := read_or_nothing(f"{self._root}/cpu.max").split():
            return (0, 0) if words[0] == "max" else (int(words[0]), int(words[1]))
        return self._number("cpu/cpu.cfs_quota_us"), self._number("cpu/cpu.cfs_period_us")

    def _memory(self) -> tuple[int, int]:
        """The limit, and what is used of it without what the kernel would give back at once."""
        if limit := self._number("memory.max"):
            return limit, self._number("memory.current") - self._inactive("memory.stat", "inactive_file")
        used = self._number("memory/memory.usage_in_bytes")
        inactive = self._inactive("memory/memory.stat", "total_inactive_file")
        return self._number("memory/memory.limit_in_bytes"), used - inactive

    def _number(self, name: str) -> int:
        """The number in a file; zero where there is none or it says ``max``."""
        with suppress(OSError, ValueError):
            return int(read(f"{self._root}/{name}"))
        return 0

    def _inactive(self, name: str, key: str) -> int:
        for line in read_or_nothing(f"{self._root}/{name}").splitlines():
            if line.startswith(f"{key} "):
                return int(line.split()[1])
        return 0
