"""Processes, known by pid and by the instant of their birth, so that a reused pid is never mistaken."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_STATE, _START = 0, 19
"""Fields of ``/proc/PID/stat`` after the command's name."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this machine, for good: not the next one that gets its pid."""

    pid: int
    born: str
    """The clock tick it was started at and the boot that is counted from; opaque, compared only."""

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has ``pid`` now; None if none has, or only its remains (a zombie)."""
        born = _born(pid)
        return None if born is None else cls(pid, born)

    @classmethod
    def me(cls) -> "Process":
        """This very process."""
        own = cls.of(os.getpid())
        assert own
        return own

    @property
    def alive(self) -> bool:
        """Whether it still runs, however many others had its pid since."""
        return _born(self.pid) == self.born

    def signal(self, which: signal.Signals) -> bool:
        """Send a signal to this process and no other; False if it is gone.

        Raises:
            PermissionError: it belongs to somebody else.
        """
        try:
            handle = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            if handle is None:
                os.kill(self.pid, which)
            else:
                signal.pidfd_send_signal(handle, which)
        except ProcessLookupError:
            return False
        finally:
            if handle is not None:
                os.close(handle)
        return True

    def stop(self, patience_seconds: float) -> bool:
        """Ask it to end, insist after ``patience_seconds``, and wait; False if it was gone already."""
        if not self.signal(signal.SIGTERM):
            return False
        # A paused process does not hear SIGTERM until it goes on.
        self.signal(signal.SIGCONT)
        if not self.wait(patience_seconds):
            self.signal(signal.SIGKILL)
            self.wait(10)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for its end; False if it outlived ``seconds``. It need not be a child of ours."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True


def uptime_of(process: Process) -> float | None:
    """For how many seconds it has run; None if it is gone."""
    if not process.alive:
        return None
    if sys.platform != "linux":
        import psutil  # noqa: PLC0415  (only where /proc is not)

        return time.time() - float(psutil.Process(process.pid).create_time())
    ticks = int(process.born.partition("@")[0])
    up = float((_PROC / "uptime").read_text().split()[0])
    return max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))


def memory_of(process: Process) -> tuple[int, str] | None:
    """Its memory in bytes, and whether that is ``pss`` or, where the system tells no better, ``rss``."""
    if not process.alive:
        return None
    with suppress(OSError, ValueError, IndexError):
        return _pss(process.pid), "pss"
    with suppress(Exception):  # psutil has kinds of its own for a process that has gone
        return _rss(process.pid), "rss"
    return None


def _pss(pid: int) -> int:
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("cannot find the Pss line")


def _rss(pid: int) -> int:
    import psutil  # noqa: PLC0415  (only where smaps_rollup is not)

    return int(psutil.Process(pid).memory_info().rss)


def _born(pid: int) -> str | None:
    if sys.platform != "linux":
        return _born_elsewhere(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[_STATE] in (b"Z", b"X"):
        return None
    return f"{int(fields[_START])}@{_boot()}"


def _born_elsewhere(pid: int) -> str | None:
    import psutil  # noqa: PLC0415  (only where /proc is not)

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}@{_boot()}"
    except psutil.NoSuchProcess:
        return None


@cache
def _boot() -> str:
    """Ticks count from the boot, so a birth is told apart from one before the last boot."""
    with suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return "this-boot"
