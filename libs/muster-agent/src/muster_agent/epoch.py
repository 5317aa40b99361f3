"""The epoch of this run of this agent: which boot of the machine, and when the run began."""

import time
from hashlib import sha256
from pathlib import Path

from muster_contracts.ids import Epoch, make_epoch

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(source: Path = BOOT_ID) -> str:
    """A name of the machine's present boot: the kernel's own, else one made from the time of the boot."""
    try:
        return source.read_text().strip()
    except OSError:
        import psutil  # noqa: PLC0415  (only where there is no /proc, so that agents on Linux stay small)

        return sha256(f"{int(psutil.boot_time())}".encode()).hexdigest()


def new_epoch() -> Epoch:
    """The epoch of a run that begins now."""
    return make_epoch(boot_id(), time.time_ns() // 1_000_000)
