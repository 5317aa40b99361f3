"""What the kernel's text files mean. Every function takes the text of one file."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from host_agent.domain.vitals import CpuTimes, Memory
from muster_contracts.host.v1 import DiskTraffic, NetworkTraffic

SECTOR_BYTES = 512
KIB = 1024
T = TypeVar("T")
NOT_DISKS = re.compile(r"(loop|ram|fd|sr)\d+$")
PARTITION = re.compile(r"((sd|hd|vd|xvd)[a-z]+\d+|(nvme\d+n\d+|mmcblk\d+|nbd\d+)p\d+)$")
CONTAINER_ENDS = re.compile(r"(veth|cali|lxc|cni-podman|tap[0-9a-f]{8})")
MOST_DEVICES = 64
STORED_WITHOUT_A_DEVICE = {"zfs", "btrfs", "bcachefs"}
READ_ONLY_IMAGES = {"squashfs", "iso9660", "erofs", "udf"}
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre",
    "beegfs", "afs", "9p", "virtiofs", "fuse.s3fs", "gpfs", "ocfs2",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo that is worth a look."""

    mount_point: str
    device: str
    file_system: str
    number: str
    """Major and minor number of the file system; equal for all its bind mounts."""

    @property
    def is_remote(self) -> bool:
        """Whether a server elsewhere can make every call on it hang."""
        return self.file_system in NETWORK_FILE_SYSTEMS


def cpu_times(stat: str) -> CpuTimes:
    """From /proc/stat. Guest time is part of user time already; waiting for a disk is idleness."""
    user, nice, system, idle, iowait, irq, softirq, steal = _first_cpu_line(stat)
    total = user + nice + system + idle + iowait + irq + softirq + steal
    return CpuTimes(busy=float(total - idle - iowait), total=float(total))


def _first_cpu_line(stat: str) -> list[int]:
    figures = [int(word) for word in stat.partition("\n")[0].split()[1:9]]
    return figures + [0] * (8 - len(figures))


def memory(meminfo: str) -> Memory:
    """From /proc/meminfo. Kernels before 3.14 do not tell what is available; free and cached is close."""
    kib = {
        key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in meminfo.splitlines())
    }
    available = kib.get("MemAvailable", kib["MemFree"] + kib.get("Buffers", 0) + kib.get("Cached", 0))
    swap_total, swap_free = kib.get("SwapTotal", 0), kib.get("SwapFree", 0)
    return Memory(
        total=kib["MemTotal"] * KIB,
        available=min(available, kib["MemTotal"]) * KIB,
        swap_total=swap_total * KIB,
        swap_used=(swap_total - swap_free) * KIB,
    )


def load(loadavg: str) -> tuple[float, float, float]:
    """From /proc/loadavg: over 1, 5 and 15 minutes."""
    one, five, fifteen = loadavg.split()[:3]
    return float(one), float(five), float(fifteen)


def disk_traffic(diskstats: str) -> tuple[DiskTraffic, ...]:
    """From /proc/diskstats: whole devices that have moved anything."""
    lines = (line.split() for line in diskstats.splitlines())
    moved = (words for words in lines if len(words) >= 14 and _is_busy_disk(words))
    return tuple(_traffic_of_disk(words) for words in _first(moved))


def _is_busy_disk(words: list[str]) -> bool:
    name, reads, writes = words[2], words[3], words[7]
    return (reads, writes) != ("0", "0") and not NOT_DISKS.match(name) and not PARTITION.match(name)


def _traffic_of_disk(words: list[str]) -> DiskTraffic:
    return DiskTraffic(
        device=words[2],
        reads=int(words[3]),
        read_bytes=int(words[5]) * SECTOR_BYTES,
        writes=int(words[7]),
        written_bytes=int(words[9]) * SECTOR_BYTES,
        busy_seconds=int(words[12]) / 1000,
    )


def network_traffic(dev: str) -> tuple[NetworkTraffic, ...]:
    """From /proc/net/dev: all interfaces but the machine's ends of its containers' cables."""
    lines = (line.partition(":") for line in dev.splitlines()[2:])
    named = ((name.strip(), figures.split()) for name, _, figures in lines)
    return tuple(_traffic_of_interface(*line) for line in _first(line for line in named if is_own(line[0])))


def _traffic_of_interface(name: str, figures: list[str]) -> NetworkTraffic:
    return NetworkTraffic(
        interface=name,
        received_bytes=int(figures[0]),
        received_packets=int(figures[1]),
        receive_errors=int(figures[2]),
        receive_drops=int(figures[3]),
        sent_bytes=int(figures[8]),
        sent_packets=int(figures[9]),
        send_errors=int(figures[10]),
        send_drops=int(figures[11]),
    )


def is_own(interface: str) -> bool:
    """Whether an interface is the machine's: one cable end per container would drown it in noise."""
    return not CONTAINER_ENDS.match(interface)


def mounts(mountinfo: str, file_systems: str, *, in_container: bool) -> tuple[Mount, ...]:
    """From /proc/self/mountinfo and /proc/filesystems: each real file system once, at its shortest path.

    In a container the root is an overlay: it stands for the disk that is behind it.
    """
    with_device = {line.strip() for line in file_systems.splitlines() if not line.startswith("nodev")}
    kinds = (with_device | STORED_WITHOUT_A_DEVICE | NETWORK_FILE_SYSTEMS) - READ_ONLY_IMAGES
    best: dict[str, Mount] = {}
    for mount in _mounts(mountinfo):
        real = mount.file_system in kinds or (in_container and mount.mount_point == "/")
        known = best.get(mount.number)
        if real and (known is None or len(mount.mount_point) < len(known.mount_point)):
            best[mount.number] = mount
    return tuple(sorted(_first(best.values()), key=lambda mount: mount.mount_point))


def _mounts(mountinfo: str) -> Iterator[Mount]:
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        words, (kind, device) = left.split(), right.split()[:2]
        yield Mount(_plain(words[4]), _plain(device), kind, words[2])


def _plain(text: str) -> str:
    r"""A name with the kernel's escapes (``\040`` for a space) undone."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text)


def os_name(os_release: str) -> str | None:
    """From /etc/os-release: the name for people."""
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    name = values.get("PRETTY_NAME") or values.get("NAME", "")
    return name.strip("\"'") or None


def cpu_model(cpuinfo: str) -> str | None:
    """From the beginning of /proc/cpuinfo; ARM and RISC-V kernels often tell none."""
    found = re.search(r"^(?:model name|cpu model|Hardware|uarch|cpu)\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else None


def _first(items: Iterable[T]) -> list[T]:
    return [item for _, item in zip(range(MOST_DEVICES), items, strict=False)]
