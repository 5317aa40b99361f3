"""The machine as psutil knows it: for systems without a Linux /proc, and to check the other by."""

import os
import platform
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

import psutil

from host_agent.adapters.disks import usage
from host_agent.domain.machine import Machine
from host_agent.domain.proc import MOST_DEVICES, is_own
from host_agent.domain.vitals import CpuTimes, Memory, Reading
from muster_contracts.host.v1 import (
    Disk,
    DiskTraffic,
    DiskUsage,
    NetworkInterface,
    NetworkTraffic,
    Temperature,
)


class PortableKernel:
    """Implements the port ``Kernel`` with psutil, which leaves out network file systems by itself."""

    network_disks = False

    def cpu(self) -> CpuTimes:
        """What the CPUs have spent since boot."""
        times = psutil.cpu_times()
        parts = [getattr(times, name, 0.0) for name in times._fields if not name.startswith("guest")]
        idle = times.idle + getattr(times, "iowait", 0.0)
        return CpuTimes(busy=sum(parts) - idle, total=sum(parts))

    def read(self) -> Reading:
        """How the machine is now."""
        return Reading(
            cpu=self.cpu(),
            cpu_count=psutil.cpu_count() or 1,
            load=os.getloadavg(),
            memory=_memory(),
            disks=tuple(_disk_usages()),
            disk_traffic=tuple(_disk_traffic()),
            network=tuple(_network_traffic()),
            processes=len(psutil.pids()),
            uptime_seconds=time.time() - psutil.boot_time(),
            temperatures=tuple(_temperatures()),
        )

    def describe(self) -> Machine:
        """What the machine is."""
        memory = _memory()
        return Machine(
            hostname=socket.gethostname(),
            os=_system(),
            kernel=f"{platform.system()} {platform.release()}",
            cpu_model=platform.processor() or None,
            cpu_count=psutil.cpu_count() or 1,
            memory_bytes=memory.total,
            swap_bytes=memory.swap_total,
            disks=tuple(_disks()),
            network=tuple(_interfaces()),
            virtualization=None,
            booted_at=datetime.fromtimestamp(round(psutil.boot_time()), UTC),
        )


def _system() -> str:
    if version := platform.mac_ver()[0]:
        return f"macOS {version}"
    return f"{platform.system()} {platform.version()}"


def _memory() -> Memory:
    main, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Memory(main.total, main.available, swap.total, swap.used)


def _disks() -> Iterator[Disk]:
    for part in psutil.disk_partitions(all=False)[:MOST_DEVICES]:
        with suppress(OSError):
            total = usage(part.mountpoint).total_bytes
            yield Disk(
                mount_point=part.mountpoint, device=part.device, file_system=part.fstype, total_bytes=total
            )


def _disk_usages() -> Iterator[DiskUsage]:
    for part in psutil.disk_partitions(all=False)[:MOST_DEVICES]:
        with suppress(OSError):
            yield usage(part.mountpoint)


def _disk_traffic() -> Iterator[DiskTraffic]:
    for name, moved in list((psutil.disk_io_counters(perdisk=True) or {}).items())[:MOST_DEVICES]:
        busy = getattr(moved, "busy_time", None)
        yield DiskTraffic(
            device=name,
            read_bytes=moved.read_bytes,
            written_bytes=moved.write_bytes,
            reads=moved.read_count,
            writes=moved.write_count,
            busy_seconds=busy / 1000 if busy is not None else None,
        )


def _network_traffic() -> Iterator[NetworkTraffic]:
    for name, moved in list(psutil.net_io_counters(pernic=True).items())[:MOST_DEVICES]:
        yield NetworkTraffic(
            interface=name,
            received_bytes=moved.bytes_recv,
            sent_bytes=moved.bytes_sent,
            received_packets=moved.packets_recv,
            sent_packets=moved.packets_sent,
            receive_errors=moved.errin,
            send_errors=moved.errout,
            receive_drops=moved.dropin,
            send_drops=moved.dropout,
        )


def _interfaces() -> Iterator[NetworkInterface]:
    states = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        if not is_own(name):
            continue
        state = states.get(name)
        yield NetworkInterface(
            name=name,
            mac=next((each.address for each in addresses if each.family == psutil.AF_LINK), None),
            addresses=[
                each.address.partition("%")[0]
                for each in addresses
                if each.family in {socket.AF_INET, socket.AF_INET6}
            ],
            speed_mbits=(state.speed or None) if state else None,
            mtu=state.mtu if state else None,
            is_up=bool(state and state.isup),
        )


def _temperatures() -> Iterator[Temperature]:
    ask = getattr(psutil, "sensors_temperatures", dict)
    for chip, probes in ask().items():
        for probe in probes:
            yield Temperature(
                sensor=f"{chip}/{probe.label or 'temp'}", celsius=probe.current, high_celsius=probe.high
            )
