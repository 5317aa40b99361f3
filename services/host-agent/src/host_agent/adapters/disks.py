"""How full the file systems are, without ever waiting for a server that has gone."""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from host_agent.domain.proc import Mount
from muster_contracts.host.v1 import DiskUsage

Ask = Callable[[str], os.statvfs_result]


def usage(mount_point: str, ask: Ask = os.statvfs) -> DiskUsage:
    """How full one file system is; the share is of what an ordinary user could use, as ``df`` counts it.

    Raises:
        OSError: it cannot be asked, for instance because it is gone.
    """
    answer = ask(mount_point)
    total, free = answer.f_blocks * answer.f_frsize, answer.f_bavail * answer.f_frsize
    used = (answer.f_blocks - answer.f_bfree) * answer.f_frsize
    usable = used + free
    return DiskUsage(
        mount_point=mount_point,
        total_bytes=total,
        used_bytes=used,
        free_bytes=free,
        used_percent=round(100 * used / usable, 2) if usable else 0.0,
    )


class DiskGauge:
    """Asks local file systems directly, and remote ones behind their back.

    A call on a dead NFS mount never returns and cannot be given up. So each remote file system has at most
    one thread that waits for it, and the answer shown is the last one it gave; none until it has given one.
    """

    def __init__(self, ask: Ask = os.statvfs) -> None:
        self._ask = ask
        self._waiting: dict[str, threading.Thread] = {}
        self._answers: dict[str, DiskUsage] = {}

    def read(self, mounts: Sequence[Mount]) -> tuple[DiskUsage, ...]:
        """How full these file systems are; those that cannot be asked are left out."""
        found = (self._remote(each) if each.is_remote else self._local(each) for each in mounts)
        return tuple(each for each in found if each and each.total_bytes)

    def _local(self, mount: Mount) -> DiskUsage | None:
        with suppress(OSError):
            return usage(mount.mount_point, self._ask)
        return None

    def _remote(self, mount: Mount) -> DiskUsage | None:
        place = mount.mount_point
        if place not in self._waiting:
            thread = threading.Thread(
                target=self._wait_for, args=(place,), name=f"statvfs {place}", daemon=True
            )
            self._waiting[place] = thread
            thread.start()
        return self._answers.get(place)

    def _wait_for(self, place: str) -> None:
        try:
            self._answers[place] = usage(place, self._ask)
        except OSError:
            self._answers.pop(place, None)
        finally:
            del self._waiting[place]
