"""What processes cost: CPU time and memory of a process and its children, over a bounded time."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Cost:
    """CPU as a share of one core (1.0 is a whole core), memory in bytes at the end."""

    cpu: float
    rss: int
    pss: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.cpu + other.cpu, self.rss + other.rss, self.pss + other.pss)


class Watch:
    """Measures from its making until ``cost``; children that end in between are counted by their parents."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)
        self._began = time.monotonic()
        self._used = {pid: _cpu_seconds(pid) for pid in self._pids}

    def cost(self) -> dict[int, Cost]:
        """What each process and its children used since the beginning."""
        took = time.monotonic() - self._began
        return {pid: self._cost(pid, took) for pid in self._pids}

    def _cost(self, pid: int, took: float) -> Cost:
        rss, pss = memory(pid)
        return Cost((_cpu_seconds(pid) - self._used[pid]) / took, rss, pss)


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional memory of a process and its children, in bytes."""
    rss = pss = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            full = process.memory_full_info()
            rss += full.rss
            pss += full.pss
    return rss, pss


def _cpu_seconds(pid: int) -> float:
    used = 0.0
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    times = psutil.Process(pid).cpu_times()
    return used + times.children_user + times.children_system


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
