"""What the kernel's texts mean, and what kind of machine leaves which traces."""

from datetime import UTC, datetime

import pytest

from host_agent.domain import proc
from host_agent.domain.machine import Machine, describe
from host_agent.domain.speaker import Speaker
from host_agent.domain.virtualization import Traces, container, virtualization
from host_agent.domain.vitals import CpuMeter, CpuTimes
from muster_contracts.host.v1 import Described, NetworkInterface

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EPOCH = "0123456789ab-018f00000000"

STAT = "cpu  100 10 50 800 40 5 5 10 7 3\ncpu0 1 2 3 4\nintr 5\n"
MEMINFO = """\
MemTotal:  1000 kB
MemFree:    100 kB
MemAvailable: 600 kB
SwapTotal:   50 kB
SwapFree:    20 kB
HugePages_Total: 0
"""
DISKSTATS = """\
   8       0 sda 10 0 200 5 20 0 400 9 0 7500 14 0 0 0 0 3 2
   8       1 sda1 9 0 190 5 20 0 400 9 0 7000 14 0 0 0 0 0 0
 259       0 nvme0n1 1 0 8 1 0 0 0 0 0 12 13
 259       1 nvme0n1p1 1 0 8 1 0 0 0 0 0 12 13 0 0 0 0
   7       0 loop0 5 0 5 5 0 0 0 0 0 12 13 0 0 0 0
   8      16 sdb 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 253       0 dm-0 3 0 16 1 2 0 8 0 0 12 13 0 0 0 0
"""
NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0
  eth0:1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0
veth1a2b: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0
"""
FILE_SYSTEMS = (
    "nodev\tsysfs\nnodev\ttmpfs\nnodev\toverlay\n\text4\n\tvfat\n\tsquashfs\n\tfuseblk\nnodev\tnfs4\n"
)
MOUNTINFO = """\
22 1 259:1 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p1 rw
23 22 0:5 / /dev rw shared:2 - devtmpfs udev rw
24 22 259:1 /home/data /srv/bind rw shared:3 - ext4 /dev/nvme0n1p1 rw
25 22 8:17 / /media/usb\\040stick rw shared:4 master:1 - vfat /dev/sdb1 rw
26 22 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
27 22 0:50 / /mnt/far rw - nfs4 server:/export rw
28 22 0:51 / /tank rw - zfs tank rw
29 22 0:52 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
"""


def test_guest_time_is_not_counted_twice_and_waiting_for_a_disk_is_idleness() -> None:
    assert proc.cpu_times(STAT) == CpuTimes(busy=180, total=1020)


def test_an_old_kernel_without_steal_time_is_understood() -> None:
    assert proc.cpu_times("cpu 1 2 3 4 5\n") == CpuTimes(busy=6, total=15)


def test_cpu_use_is_measured_from_look_to_look() -> None:
    meter = CpuMeter()
    assert meter.percent(CpuTimes(50, 100), 0.0) == 50
    assert meter.percent(CpuTimes(60, 200), 1.0) == 10
    assert meter.percent(CpuTimes(160, 300), 2.0) == 100


def test_a_look_too_soon_repeats_the_figure_and_does_not_move_the_window() -> None:
    meter = CpuMeter()
    meter.percent(CpuTimes(0, 100), 0.0)
    assert meter.percent(CpuTimes(10, 200), 1.0) == 10
    assert meter.percent(CpuTimes(100, 290), 1.05) == 10
    assert meter.percent(CpuTimes(20, 300), 2.0) == 10


@pytest.mark.parametrize("later", [CpuTimes(50, 100), CpuTimes(40, 90), CpuTimes(40, 200)])
def test_counters_that_stand_still_or_run_backwards_give_no_nonsense(later: CpuTimes) -> None:
    meter = CpuMeter()
    meter.percent(CpuTimes(50, 100), 0.0)
    assert meter.percent(later, 1.0) == 0


def test_memory_is_told_in_bytes() -> None:
    memory = proc.memory(MEMINFO)
    assert (memory.total, memory.available) == (1000 * 1024, 600 * 1024)
    assert (memory.swap_total, memory.swap_used) == (50 * 1024, 30 * 1024)


def test_an_old_kernel_that_does_not_tell_available_memory_is_understood() -> None:
    assert (
        proc.memory("MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 25 kB\n").available == 40 * 1024
    )


def test_only_whole_disks_that_moved_something_are_told() -> None:
    disks = {disk.device: disk for disk in proc.disk_traffic(DISKSTATS)}
    assert set(disks) == {"sda", "nvme0n1", "dm-0"}
    sda = disks["sda"]
    assert (sda.reads, sda.read_bytes, sda.writes, sda.written_bytes) == (10, 200 * 512, 20, 400 * 512)
    assert sda.busy_seconds == 7.5


def test_interfaces_are_told_without_the_cables_of_containers() -> None:
    loopback, ethernet = proc.network_traffic(NET_DEV)
    assert loopback.interface == "lo"
    assert (ethernet.received_bytes, ethernet.sent_bytes) == (1000, 2000)
    assert (ethernet.receive_errors, ethernet.receive_drops, ethernet.send_errors, ethernet.send_drops) == (
        1,
        2,
        3,
        4,
    )


def test_each_real_file_system_is_told_once_at_its_shortest_path() -> None:
    mounts = proc.mounts(MOUNTINFO, FILE_SYSTEMS, in_container=False)
    assert [mount.mount_point for mount in mounts] == ["/", "/media/usb stick", "/mnt/far", "/tank"]
    assert [mount.mount_point for mount in mounts if mount.is_remote] == ["/mnt/far"]


def test_in_a_container_the_overlay_stands_for_the_disk() -> None:
    overlay = "30 1 0:60 / / rw - overlay overlay rw\n"
    assert proc.mounts(overlay, FILE_SYSTEMS, in_container=False) == ()
    assert [mount.mount_point for mount in proc.mounts(overlay, FILE_SYSTEMS, in_container=True)] == ["/"]


def test_a_machine_with_a_thousand_disks_and_interfaces_still_fits_a_message() -> None:
    lines = "".join(f"{n} 1 8:{n} / /d{n} rw - ext4 /dev/d{n} rw\n" for n in range(1000))
    assert len(proc.mounts(lines, FILE_SYSTEMS, in_container=False)) == 64
    assert len(proc.network_traffic("\n\n" + "".join(f"eth{n}: {'0 ' * 16}\n" for n in range(1000)))) == 64


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n', "Debian GNU/Linux 12 (bookworm)"),
        ("NAME=Alpine\nID=alpine\n", "Alpine"),
        ("", None),
    ],
)
def test_the_system_is_called_what_it_calls_itself(text: str, name: str | None) -> None:
    assert proc.os_name(text) == name


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n", "AMD EPYC"),
        ("processor : 0\nBogoMIPS : 50\n", None),
        ("Hardware : BCM2835\n", "BCM2835"),
    ],
)
def test_the_cpu_is_called_what_the_kernel_calls_it(text: str, model: str | None) -> None:
    assert proc.cpu_model(text) == model


@pytest.mark.parametrize(
    ("traces", "kind"),
    [
        (Traces(), None),
        (Traces(cpu_has_hypervisor=True), "vm"),
        (Traces(cpu_has_hypervisor=True, clock_sources="tsc kvm-clock "), "kvm"),
        (Traces(vendor="QEMU Standard PC (Q35 + ICH9, 2009)", cpu_has_hypervisor=True), "qemu"),
        (Traces(vendor="Amazon EC2 m5.large"), "kvm"),
        (Traces(vendor="VMware, Inc. VMware Virtual Platform"), "vmware"),
        (Traces(vendor="Microsoft Corporation Virtual Machine"), "hyper-v"),
        (Traces(vendor="Microsoft Corporation Surface Laptop"), None),
        (Traces(vendor="Dell Inc. PowerEdge R640"), None),
        (Traces(first_cgroup="0::/docker/8f3a\n", vendor="QEMU"), "docker"),
        (Traces(first_cgroup="12:memory:/system.slice/docker-8f3a.scope\n"), "docker"),
        (
            Traces(first_cgroup="0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-1.scope\n"),
            "kubernetes",
        ),
        (Traces(first_cgroup="0::/lxc/web\n"), "lxc"),
        (Traces(first_cgroup="0::/machine.slice/libpod-1.scope\n"), "podman"),
        (Traces(first_cgroup="0::/\n", has_containerenv=True), "podman"),
        (Traces(first_cgroup="0::/\n", container_variable="lxc"), "lxc"),
        (Traces(first_cgroup="0::/\n", has_dockerenv=True, overlay_root=True), "docker"),
        (Traces(first_cgroup="0::/init.scope\n", in_kubernetes=True), "kubernetes"),
        (Traces(first_cgroup="0::/init.scope\n"), None),
    ],
)
def test_a_machine_is_told_by_the_traces_it_leaves(traces: Traces, kind: str | None) -> None:
    assert virtualization(traces) == kind


def test_a_disk_image_made_from_a_container_is_no_container() -> None:
    assert container(Traces(first_cgroup="0::/\n", has_dockerenv=True)) is None


def test_a_machine_with_thousands_of_addresses_still_fits_its_message() -> None:
    balancer = NetworkInterface(
        name="kube-ipvs0", addresses=[f"10.0.{n // 256}.{n % 256}" for n in range(5000)]
    )
    machine = Machine(
        hostname="web-1",
        os="Debian",
        kernel="Linux",
        cpu_model=None,
        cpu_count=1,
        memory_bytes=1,
        swap_bytes=0,
        disks=(),
        network=(balancer,) * 200,
        virtualization=None,
        booted_at=NOON,
    )
    described = describe(machine, Speaker("web-1", EPOCH, "1"), {}, NOON)
    assert len(described.model_dump_json()) < Described.MAX_BYTES
