"""Processes as /proc shows them: who one is, for good, and which ones belong to a run of a package.

A pid alone says little, because it is given to others later. A pid with the tick its process began at is
one process of this boot and no other.

A process belongs to a run if it carries the run's mark in its environment, is in the session of the run's
main process, or descends from one that does. Who leaves the session, loses its parent and clears its
environment, all at once, is known only to the run's control group.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from host_agent.adapters.files import names_in, read_or_nothing

MARK = "MUSTER_RUN"
"""The variable every process of a run inherits; its value is the run's id."""

TICKS = os.sysconf("SC_CLK_TCK")

DEAD = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of this boot, never another that got its pid later."""

    pid: int
    began: int
    """In clock ticks since boot."""

    def opened(self) -> int | None:
        """A descriptor that stands for this process alone; None if it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return None
        # Once the descriptor is there the pid cannot change hands unseen.
        if (status := look(self.pid)) and status.began == self.began:
            return handle
        os.close(handle)
        return None

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there and we may."""
        if (handle := self.opened()) is None:
            return
        try:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)

    def status(self) -> "Status | None":
        """How it is; None if it is gone."""
        status = look(self.pid)
        return status if status and status.began == self.began else None


@dataclass(frozen=True, slots=True)
class Status:
    """What /proc/PID/stat says."""

    pid: int
    state: str
    parent: int
    session: int
    began: int
    cpu_ticks: int
    """Its own and those of the children it has buried."""

    @property
    def process(self) -> Process:
        """Whose status this is."""
        return Process(self.pid, self.began)

    @property
    def alive(self) -> bool:
        """Whether it runs, or could; a zombie cannot."""
        return self.state not in DEAD


def look(pid: int) -> Status | None:
    """The status of whoever has this pid; None if nobody has."""
    fields = read_or_nothing(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return None
    cpu = sum(map(int, fields[11:15]))
    return Status(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]), cpu)


def is_stopped(status: Status) -> bool:
    """Whether a process is held by SIGSTOP, itself or by a child that was stopped between vfork and exec.

    Until such a child goes on its parent waits in the kernel, and stops only afterwards.
    """
    if status.state == "D":
        return any(child.state == "T" for child in map(look, children(status.pid)) if child)
    return status.state == "T"


def boot_id() -> str:
    """Of this boot: pids and ticks of another one mean nothing."""
    return read_or_nothing("/proc/sys/kernel/random/boot_id").strip()


def everybody() -> list[Status]:
    """Every process that is alive."""
    found = (look(int(name)) for name in names_in("/proc") if name.isdigit())
    return [status for status in found if status and status.alive]


def is_marked(pid: int, run: str) -> bool:
    """Whether a process carries the mark of a run, as far as we may see."""
    environment = f"\0{read_or_nothing(f'/proc/{pid}/environ', 1 << 20)}"
    return f"\0{MARK}={run}\0" in environment


def main_process(run: str) -> Process | None:
    """The main process of a run by its mark alone: the one that leads its session, the oldest of them."""
    led = [one for one in everybody() if one.session == one.pid and is_marked(one.pid, run)]
    return min(led, key=lambda one: one.began).process if led else None


def members(run: str, main: Process, known: AbstractSet[Process] = frozenset()) -> list[Status]:
    """Every living process of a run, by a look at all processes of the machine."""
    there = {status.pid: status for status in everybody()}
    leader = there.get(main.pid)
    # Another process may have got the number, and a session of its own by that name.
    session = main.pid if leader is None or leader.process == main else None
    found = {
        pid
        for pid, status in there.items()
        if status.session == session or status.process in known or is_marked(pid, run)
    }
    while more := {pid for pid, status in there.items() if status.parent in found} - found:
        found |= more
    return [there[pid] for pid in sorted(found - {os.getpid()})]


def left_to_us(run: str, main: Process, known: AbstractSet[Process], mains: AbstractSet[int]) -> list[Status]:
    """The living processes of a run whose parents have died, and who descend from them; a quick look.

    The kernel has made them children of this process, if it made the run: a spawner asks it to. ``mains`` are
    the children that are no orphans, ``main`` among them; it must not have been buried, so that its number is
    still its own.
    """
    orphans = [
        status
        for pid in children(os.getpid())
        if pid not in mains
        and (status := look(pid))
        and status.alive
        and status.began >= main.began  # which spares a look into the environments of older ones
        and (status.session == main.pid or status.process in known or is_marked(pid, run))
    ]
    return family(orphans)


def family(heads: Iterable[Status]) -> list[Status]:
    """These and all that descend from them, alive, without a look at others."""
    found: dict[int, Status] = {}
    queue = list(heads)
    while queue:
        status = queue.pop()
        if status.pid not in found:
            found[status.pid] = status
            queue += [child for pid in children(status.pid) if (child := look(pid)) and child.alive]
    return list(found.values())


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    tasks = f"/proc/{pid}/task"
    texts = (read_or_nothing(f"{tasks}/{task}/children") for task in names_in(tasks))
    return [int(child) for text in texts for child in text.split()]


def bury(keep: AbstractSet[int], seen: AbstractSet[int]) -> set[int]:
    """Reap dead orphans that came to us; who is dead and may still be waited for is returned.

    Not those in ``keep``, and none of our own session: whoever started them waits for them. Of the others
    those that were ``seen`` dead at the look before: nobody has waited for them since.
    """
    if not _somebody_is_dead():
        return set()
    ours = os.getsid(0)
    dead = {
        pid
        for pid in children(os.getpid())
        if pid not in keep and (status := look(pid)) and not status.alive and status.session != ours
    }
    for pid in dead & seen:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return dead - seen


def _somebody_is_dead() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # we have no children
        return False


def signal_all(targets: Iterable[Status], number: int) -> None:
    """Send a signal to each of them, and to no other that has got its pid."""
    for status in targets:
        status.process.send(number)


def cpu_seconds(statuses: Iterable[Status]) -> float:
    """CPU time of these, with the children they have buried."""
    return sum(status.cpu_ticks for status in statuses) / TICKS


def identities(pid: int) -> dict[str, list[str]]:
    """The lines Uid, Gid, Groups, CapEff, NoNewPrivs and others of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
