"""A look at a package's processes, by /proc: at those its driver knows, never at the whole machine."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from host_agent.adapters import process_tree
from host_agent.domain.look import Seen, Settled, critical, unknown
from host_agent.domain.package import Run, Usage
from host_agent.domain.processes import Load, judge
from host_agent.ports import CannotRun, LookContext
from muster_contracts.package.specification import ProcessCheck
from muster_contracts.package.v1 import Driver

T = TypeVar("T")


class ProcessLook:
    """Implements ``host_agent.ports.Look``."""

    stage = "asking the driver for the processes"

    def __init__(
        self, check: ProcessCheck, context: LookContext, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._context = context
        self._now = now
        self._before: tuple[str, float, float] | None = None
        """Of the look before: the run, when it was, and the CPU time until then."""

    async def look(self) -> Seen:
        """Whether the main process is there and goes on, and what all of them use."""
        if (run := self._context.run()) is None:
            return critical("gone", "it does not run")
        try:
            usage = await self._context.driver.usage(self._context.package, run)
            await self._look_at_main(run, usage)
            return judge(self._check, self._load(run, usage))
        except Settled as settled:
            return settled.seen
        except CannotRun as error:
            return unknown(error.reason, str(error))

    async def _look_at_main(self, run: Run, usage: Usage) -> None:
        """Settled, if the main process is gone, dead or held."""
        status = process_tree.look(run.pid) if run.pid in usage.pids and run.pid else None
        if status is None:
            await self._look_for_main(run)
        elif process_tree.is_stopped(status):
            text = f"its main process {run.pid} is stopped, as by SIGSTOP: let it go on, or restart it"
            raise Settled(critical("stopped", text))

    async def _look_for_main(self, run: Run) -> None:
        """The main process is not among those that are seen."""
        package, driver = self._context.package, self._context.driver
        if package.spec.driver is Driver.PROCESS:
            # Of a dead one whose end the agent has yet to notice the pid is its own still.
            there = process_tree.look(run.pid or 0)
            how, reason = ("is a zombie", "zombie") if there else ("is gone", "gone")
            raise Settled(critical(reason, f"its main process {run.pid} {how}"))
        # An engine may count its processes in a namespace that we cannot see into.
        found = await driver.find(package)
        if found is None or found.id != run.id:
            raise Settled(critical("gone", "its driver says that it has ended"))

    def _load(self, run: Run, usage: Usage) -> Load:
        check = self._check
        if check.memory_warning_bytes or check.memory_critical_bytes:
            _seen("memory", usage.memory_bytes)
        if check.cpu_warning_percent or check.cpu_critical_percent:
            _seen("CPU time", usage.cpu_seconds)
        files = None
        if check.files_warning or check.files_critical:
            files = _open_files(_seen("open files", run.pid if run.pid in usage.pids else None))
        return Load(len(usage.pids), usage.memory_bytes, self._cpu_percent(run, usage.cpu_seconds), files)

    def _cpu_percent(self, run: Run, cpu_seconds: float | None) -> float | None:
        now, before = self._now(), self._before
        self._before = None if cpu_seconds is None else (run.id, now, cpu_seconds)
        if cpu_seconds is None or before is None or before[0] != run.id or now <= before[1]:
            return None
        # Less than before, if a child took its time with it to whoever has buried it.
        return max(0.0, 100 * (cpu_seconds - before[2]) / (now - before[1]))


def _seen(what: str, measured: T | None) -> T:
    if measured is None:
        raise Settled(_not_visible(what))
    return measured


def _not_visible(what: str) -> Seen:
    text = f"cannot see the {what} of its processes: run the agent as root, where its driver runs"
    return unknown("not-visible", text)


def _open_files(pid: int) -> int:
    """How many descriptors a process has open.

    Raises:
        Settled: that cannot be told.
    """
    directory = f"/proc/{pid}/fd"
    try:
        # Linux 6.2 tells their number as the size; before, they have to be listed.
        return os.stat(directory).st_size or len(os.listdir(directory))  # noqa: PTH116, PTH208  (cheap)
    except PermissionError:
        raise Settled(_not_visible("open files")) from None
    except OSError:
        raise Settled(critical("gone", f"its main process {pid} is gone")) from None
