"""What a scrape of the agent shows: its own doings, and its machine by the names of node_exporter.

Figures are read when somebody scrapes; between scrapes they cost nothing.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

from host_agent.checking import Checking
from host_agent.rounds import Sampling
from muster_agent import Agent
from muster_bus.bus import Bus
from muster_bus.spool import Spool
from muster_contracts.host.v1 import Vitals
from muster_runtime.metrics import Gauge

Figures = Mapping[tuple[str, ...], float]


def show_agent(agent: Agent, bus: Bus, spool: Spool, loop: asyncio.AbstractEventLoop) -> None:
    """Show how the agent fares: its voice, its spool, its connection."""

    def waiting() -> Figures:
        with suppress(Exception):  # a scrape is answered even while the loop or the disk hangs
            return _one(asyncio.run_coroutine_threadsafe(spool.size(), loop).result(1))
        return {}

    _total("muster_agent_heartbeats_total", "Heartbeats said.", lambda: agent.counts.heartbeats)
    _total("muster_agent_hellos_total", "Times the agent introduced itself.", lambda: agent.counts.hellos)
    _now("muster_agent_interval_seconds", "Between heartbeats, as granted.", lambda: agent.interval)
    _now("muster_agent_connected", "Whether the broker can be reached.", lambda: float(bus.connected))
    _total("muster_bus_disconnects_total", "Losses of the broker.", lambda: bus.counters.of("disconnects"))
    Gauge("muster_spool_letters", "Facts that wait for the broker's ack.", waiting)
    _total("muster_spool_dropped_total", "Facts dropped because the spool was full.", lambda: spool.dropped)


def show_checks(checking: Checking) -> None:
    """Show what health checks hold; how often and how they look is counted where they do."""

    def held() -> Figures:
        return {(health,): count for health, count in checking.held().items()}

    Gauge("muster_host_agent_checks", "Health checks by what they hold.", held, labels=("held",))


def show_machine(sampling: Sampling) -> None:
    """Show the last sample of the vitals."""

    def each(
        name: str, meaning: str, read: Callable[[Vitals], Figures], *labels: str, total: bool = False
    ) -> None:
        Gauge(
            name, meaning, lambda: read(sampling.last) if sampling.last else {}, labels=labels, monotone=total
        )

    each("node_load1", "Load over 1 minute.", lambda now: _one(now.load_1m))
    each("node_load5", "Load over 5 minutes.", lambda now: _one(now.load_5m))
    each("node_load15", "Load over 15 minutes.", lambda now: _one(now.load_15m))
    each("node_memory_MemTotal_bytes", "Main memory.", lambda now: _one(now.memory_total_bytes))
    each("node_memory_MemAvailable_bytes", "Memory to be had.", lambda now: _one(now.memory_available_bytes))
    each("node_memory_SwapTotal_bytes", "Swap.", lambda now: _one(now.swap_total_bytes))
    each("muster_host_cpu_busy_percent", "Busy share of all CPUs.", lambda now: _one(now.cpu_percent))
    each("muster_host_processes", "Processes.", lambda now: _one(now.processes))
    # fmt: off
    each("node_filesystem_size_bytes", "Size of a file system.",
         lambda now: {(one.mount_point,): one.total_bytes for one in now.disks}, "mountpoint")
    each("node_filesystem_avail_bytes", "Free for ordinary users.",
         lambda now: {(one.mount_point,): one.free_bytes for one in now.disks}, "mountpoint")
    each("node_disk_read_bytes_total", "Bytes read.",
         lambda now: {(one.device,): one.read_bytes for one in now.disk_traffic}, "device", total=True)
    each("node_disk_written_bytes_total", "Bytes written.",
         lambda now: {(one.device,): one.written_bytes for one in now.disk_traffic}, "device", total=True)
    each("node_network_receive_bytes_total", "Bytes received.",
         lambda now: {(one.interface,): one.received_bytes for one in now.network}, "device", total=True)
    each("node_network_transmit_bytes_total", "Bytes sent.",
         lambda now: {(one.interface,): one.sent_bytes for one in now.network}, "device", total=True)
    # fmt: on


def _one(value: float) -> Figures:
    return {(): value}


def _now(name: str, meaning: str, read: Callable[[], float]) -> None:
    Gauge(name, meaning, lambda: _one(read()))


def _total(name: str, meaning: str, read: Callable[[], float]) -> None:
    Gauge(name, meaning, lambda: _one(read()), monotone=True)
