"""The Linux reader against reality: psutil on the same machine, and trees made to measure."""

import os
import socket
import struct
import threading
import time
from pathlib import Path

import psutil
import pytest

from host_agent.adapters import netlink, sensors
from host_agent.adapters.cgroup import ContainerLimits
from host_agent.adapters.disks import DiskGauge
from host_agent.adapters.linux import LinuxKernel
from host_agent.adapters.portable import PortableKernel
from host_agent.domain.proc import Mount
from host_agent.domain.vitals import Memory

GIB = 1 << 30


@pytest.fixture(scope="module")
def kernel() -> LinuxKernel:
    return LinuxKernel()


def test_vitals_agree_with_psutil(kernel: LinuxKernel) -> None:
    ours, theirs = kernel.read(), PortableKernel().read()
    assert ours.memory.total == psutil.virtual_memory().total
    assert ours.memory.available == pytest.approx(theirs.memory.available, abs=256 << 20)
    assert ours.memory.swap_total == theirs.memory.swap_total
    assert ours.load == pytest.approx(os.getloadavg(), abs=0.5)
    assert ours.uptime_seconds == pytest.approx(time.time() - psutil.boot_time(), abs=2)
    assert ours.processes == pytest.approx(len(psutil.pids()), abs=20)
    assert ours.cpu_count == len(psutil.Process().cpu_affinity() or [])


def test_cpu_times_agree_with_psutil(kernel: LinuxKernel) -> None:
    ours, theirs = kernel.cpu(), PortableKernel().cpu()
    ticks = os.sysconf("SC_CLK_TCK")
    assert ours.total / ticks == pytest.approx(theirs.total, rel=0.01)
    assert ours.busy / ticks == pytest.approx(theirs.busy, rel=0.05, abs=1)


def test_disks_agree_with_the_file_system(kernel: LinuxKernel) -> None:
    for disk in kernel.read().disks:
        truth = psutil.disk_usage(disk.mount_point)
        assert disk.total_bytes == truth.total
        assert disk.used_percent == pytest.approx(truth.percent, abs=1)
    assert [disk.mount_point for disk in kernel.describe().disks] == [
        disk.mount_point for disk in kernel.read().disks
    ]


def test_counters_of_disks_and_interfaces_agree_with_psutil(kernel: LinuxKernel) -> None:
    before = PortableKernel().read()
    ours = kernel.read()
    after = PortableKernel().read()
    assert {one.interface for one in ours.network} <= {one.interface for one in after.network}
    for one in ours.network:
        low = next((other for other in before.network if other.interface == one.interface), None)
        high = next((other for other in after.network if other.interface == one.interface), None)
        if low and high:
            assert low.received_bytes <= one.received_bytes <= high.received_bytes
    for disk in ours.disk_traffic:
        low_disk = next(other for other in before.disk_traffic if other.device == disk.device)
        high_disk = next(other for other in after.disk_traffic if other.device == disk.device)
        assert low_disk.written_bytes <= disk.written_bytes <= high_disk.written_bytes


def test_the_description_agrees_with_psutil_and_is_the_same_twice(kernel: LinuxKernel) -> None:
    ours, theirs = kernel.describe(), PortableKernel().describe()
    assert (ours.hostname, ours.kernel, ours.memory_bytes) == (
        theirs.hostname,
        theirs.kernel,
        theirs.memory_bytes,
    )
    assert abs((ours.booted_at - theirs.booted_at).total_seconds()) <= 2
    assert {card.name: sorted(card.addresses) for card in ours.network} == {
        card.name: sorted(card.addresses) for card in theirs.network
    }
    assert {card.name: card.mtu for card in ours.network} == {card.name: card.mtu for card in theirs.network}
    assert kernel.describe() == ours


def test_a_container_is_as_large_as_its_limits(tmp_path: Path) -> None:
    machine = Memory(total=8 * GIB, available=6 * GIB, swap_total=0, swap_used=0)
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 2}\n")
    limits = ContainerLimits(str(tmp_path))
    assert limits.cpus(8) == 2
    assert limits.memory(machine) == Memory(2 * GIB, 2 * GIB - GIB // 2, 0, 0)


def test_a_container_of_the_older_kind_is_as_large_as_its_limits(tmp_path: Path) -> None:
    machine = Memory(total=8 * GIB, available=6 * GIB, swap_total=0, swap_used=0)
    for name, text in {
        "cpu/cpu.cfs_quota_us": "50000",
        "cpu/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": f"{GIB}",
        "memory/memory.usage_in_bytes": f"{GIB // 2}",
        "memory/memory.stat": "total_inactive_file 0",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    limits = ContainerLimits(str(tmp_path))
    assert limits.cpus(8) == 1
    assert limits.memory(machine) == Memory(GIB, GIB // 2, 0, 0)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu.max": "max 100000", "memory.max": "max"},
        {
            "memory/memory.limit_in_bytes": "9223372036854771712",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_a_container_without_limits_is_as_large_as_its_machine(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    machine = Memory(total=8 * GIB, available=6 * GIB, swap_total=0, swap_used=0)
    limits = ContainerLimits(str(tmp_path))
    assert (limits.cpus(8), limits.memory(machine)) == (8, machine)


def test_a_dead_file_server_keeps_nobody_waiting_and_has_one_thread_wait_for_it() -> None:
    alive, asked = threading.Event(), []

    def ask(path: str) -> os.statvfs_result:
        if path == "/mnt/far":
            asked.append(path)
            alive.wait(30)
        return os.statvfs("/")

    gauge = DiskGauge(ask)
    mounts = [Mount("/", "/dev/a", "ext4", "8:1"), Mount("/mnt/far", "server:/", "nfs4", "0:50")]
    started = time.monotonic()
    for _ in range(20):
        assert [disk.mount_point for disk in gauge.read(mounts)] == ["/"]
    assert time.monotonic() - started < 10
    assert len(asked) == 1
    alive.set()
    deadline = time.monotonic() + 10
    while len(gauge.read(mounts)) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [disk.mount_point for disk in gauge.read(mounts)] == ["/", "/mnt/far"]


def test_a_file_system_that_has_gone_is_left_out() -> None:
    gone = Mount("/nowhere/at/all", "/dev/z", "ext4", "8:9")
    assert DiskGauge().read([gone]) == ()


def test_sensors_are_read_with_their_names_and_limits(tmp_path: Path) -> None:
    chip = tmp_path / "class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    for name, text in {
        "name": "k10temp", "temp1_input": "45125", "temp1_label": "Tctl", "temp1_max": "95000",
        "temp2_input": "33000", "temp3_input": "-273000", "temp4_input": "asleep", "fan1_input": "900",
    }.items():  # fmt: skip
        (chip / name).write_text(f"{text}\n")
    found = [sensor.read() for sensor in sensors.find(str(tmp_path))]
    told = {one.sensor: (one.celsius, one.high_celsius) for one in found if one}
    assert told == {"k10temp/Tctl": (45.125, 95.0), "k10temp/temp2": (33.0, None)}


def test_without_hwmon_the_thermal_zones_are_read(tmp_path: Path) -> None:
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51000\n")
    [sensor] = sensors.find(str(tmp_path))
    told = sensor.read()
    assert told
    assert (told.sensor, told.celsius) == ("cpu-thermal", 51.0)


def test_a_machine_without_sensors_has_none(tmp_path: Path) -> None:
    assert sensors.find(str(tmp_path)) == []


def test_addresses_are_those_the_system_resolves_loopback_to() -> None:
    addresses = netlink.addresses()
    assert "127.0.0.1" in addresses[socket.if_nametoindex("lo")]


def test_a_point_to_point_link_is_told_by_its_local_end() -> None:
    def attribute(kind: int, address: str) -> bytes:
        return struct.pack("=HH", 8, kind) + socket.inet_aton(address)

    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, 7)
    body += attribute(1, "10.0.0.2") + attribute(2, "10.0.0.1")
    assert netlink.address_in(body) == (7, "10.0.0.1")
