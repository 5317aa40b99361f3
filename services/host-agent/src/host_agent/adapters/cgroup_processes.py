"""The processes of a control group: who they are, and what they use.

systemd and container engines put each of their charges into a control group. Its ``cgroup.procs`` gives
pids as the reader sees them, also where the engine counts in another pid namespace; who the reader cannot
see is a 0.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from host_agent.adapters.files import read_or_nothing

MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
"""Where groups are: version 2, and the two trees without controllers that stand beside version 1."""

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def processes(control_group: str) -> list[int]:
    """The pids of a control group and of all groups below it, in order; none if there is no such group."""
    for mount in MOUNTS:
        top = mount + control_group
        if control_group.strip("/") and Path(top, "cgroup.procs").exists():
            texts = (read_or_nothing(f"{folder}/cgroup.procs", 1 << 20) for folder, _, _ in os.walk(top))
            return sorted({int(pid) for text in texts for pid in text.split()} - {0})
    return []


def here(pid: int, control_group: str) -> int | None:
    """The pid, as we see it, of the process in ``control_group`` that its own namespace calls ``pid``."""
    members = processes(control_group)
    likeliest_first = sorted(members, key=pid.__ne__)
    return next((member for member in likeliest_first if _innermost(member) == pid), None)


def is_in(pid: int, group: str) -> bool:
    """Whether a process of this machine is in a control group whose path holds ``group``."""
    return group in read_or_nothing(f"/proc/{pid}/cgroup")


def beside(pid: int, group: str) -> list[int]:
    """All processes of the control group that ``pid`` is in, if that group's path holds ``group``."""
    for line in read_or_nothing(f"/proc/{pid}/cgroup").splitlines():
        path = line.split(":", 2)[-1]
        if group in path and (found := processes(path)):
            return found
    return []


def is_begun(pid: int) -> bool:
    """Whether it has executed its program: until then systemd shows its name in parentheses."""
    return not read_or_nothing(f"/proc/{pid}/comm").startswith("(")


def are_held(pids: Sequence[int]) -> bool:
    """Whether there are any, and each is stopped."""
    states = [fields[0] for pid in pids if (fields := _stat(pid))]
    return bool(states) and set(states) <= {"T", "Z"}


def resident_bytes(pids: Sequence[int]) -> int | None:
    """Resident memory of them all, pages they share counted for each; None where none could be read."""
    pages = [int(words[1]) for pid in pids if (words := read_or_nothing(f"/proc/{pid}/statm").split())]
    return sum(pages) * PAGE if pages else None


def cpu_seconds(pids: Sequence[int]) -> float | None:
    """CPU time of those that live; None where none could be read."""
    ticks = [int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid))]
    return sum(ticks) / TICKS if ticks else None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before them may hold anything."""
    return read_or_nothing(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _innermost(pid: int) -> int | None:
    for line in read_or_nothing(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            with suppress(ValueError):
                return int(line.split()[-1])
    return pid
