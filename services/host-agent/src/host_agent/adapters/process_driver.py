"""Packages that are processes of this machine: made by us, adopted after us, ended whole.

- Every process of a run carries the run's id in its environment (``MUSTER_RUN``), so that it is found again
  even by an agent that was killed before it could write down the pid (decision 4).
- It runs on when the agent ends, printing to a file of its own that nobody else has to serve.
- A run ends with its main process: what is left of its tree is killed then, before anything is restarted.
- Of an adopted process nobody can tell the exit code; it is reported as not known.
"""

import asyncio
import os
import signal as signals
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from host_agent.adapters import cgroup_processes, process_tree, spawning
from host_agent.adapters.held_process import Held
from host_agent.adapters.package_log import PackageLog
from host_agent.adapters.process_tree import MARK, Process
from host_agent.adapters.run_records import Record, RunRecords
from host_agent.adapters.spawning import Plan, Spawned, Spawner
from host_agent.adapters.variables import variables
from host_agent.domain.look import Seen, unknown
from host_agent.domain.package import Exit, Loaded, Run, Usage
from host_agent.ports import CannotRun
from muster_contracts.package.v1 import StopSignal
from muster_runtime import Clock, SystemClock, logger

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Life:
    """A run, and the hold we have of it."""

    run: Run
    held: Held


class ProcessDriver:
    """Processes; what has to be remembered of them is in ``state_dir``, what they print in ``log_dir``.

    Raises:
        CannotRun: not on this system.
        OSError: a directory cannot be made.
    """

    def __init__(self, state_dir: Path, log_dir: Path, clock: Clock | None = None) -> None:
        self._records = RunRecords(state_dir / "runs")
        self._log_dir = log_dir
        # Users may reach their own logs in it, and list nothing.
        log_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._clock = clock or SystemClock()
        self._spawner = Spawner()
        self._boot = process_tree.boot_id()
        self._lives: dict[str, Life] = {}
        self._logs: dict[str, tuple[object, PackageLog]] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._dead: set[int] = set()
        self._mains: set[int] = set()

    def close(self) -> None:
        """Look away; packages run on."""
        for life in self._lives.values():
            life.held.close()
        self._lives.clear()
        self._spawner.close()

    def log_file(self, package: Loaded) -> Path:
        """Where a package's output goes."""
        return self._log_dir / f"{package.name}.log"

    async def tend(self) -> None:
        """To be called every few seconds: cut logs that have grown, bury orphans that have died."""
        self._dead = process_tree.bury(self._mains, self._dead)
        for name, (_, package_log) in list(self._logs.items()):
            try:
                await asyncio.to_thread(package_log.rotate)
            except OSError as error:
                log.warning("cannot turn the log over: trying again", package=name, error=str(error))

    # Driver ----------------------------------------------------------------------------------------------

    async def start(self, package: Loaded) -> Run:
        """Make its process, unless it runs; what was left of the run before is ended first."""
        async with self._starting.setdefault(package.name, asyncio.Lock()):
            if run := await self.find(package):
                return run
            await self._clear(package)
            making = asyncio.ensure_future(self._make(package))
            try:
                return await asyncio.shield(making)
            except asyncio.CancelledError:
                await asyncio.wait([making])
                if not making.cancelled() and making.exception() is None:
                    await asyncio.shield(self._lives[package.name].held.kill())
                raise

    async def find(self, package: Loaded) -> Run | None:
        """The run that goes on: held already, or as it was written down, or known by its mark alone."""
        life = self._lives.get(package.name)
        if life and not life.held.over.done():
            if life.held.ended.done():
                await asyncio.shield(life.held.over)
            else:
                return replace(life.run, adopted=True)
        record = self._records.read(package.name)
        if record is None or record.boot != self._boot:
            return None
        process = record.process or await asyncio.to_thread(process_tree.main_process, record.run)
        return self._adopt(package, record, process) if process else None

    async def wait(self, package: Loaded, run: Run) -> Exit:
        """Return when the main process has ended, and nothing of its tree is left."""
        held = self._held(package, run)
        return await asyncio.shield(held.over) if held else Exit(None)

    async def stop(self, package: Loaded, run: Run) -> Exit:
        """The stop signal to the main process; after the timeout SIGKILL to its whole tree."""
        if (held := self._held(package, run)) is None:
            return Exit(None)
        held.be_thorough()
        if not held.ended.done():
            self._send(package, run, package.spec.stop.signal, gone_is_well=True)
            await asyncio.to_thread(held.signal_tree, signals.SIGCONT)
            await asyncio.wait([held.ended], timeout=package.spec.stop.timeout_seconds)
        return await held.kill()

    async def signal(self, package: Loaded, run: Run, signal: StopSignal) -> None:
        """Send a signal to the main process."""
        self._send(package, run, signal)

    async def pause(self, package: Loaded, run: Run) -> None:
        """SIGSTOP to its whole tree."""
        await asyncio.to_thread(self._still(package, run).signal_tree, signals.SIGSTOP)

    async def resume(self, package: Loaded, run: Run) -> None:
        """SIGCONT to its whole tree."""
        await asyncio.to_thread(self._still(package, run).signal_tree, signals.SIGCONT)

    async def is_paused(self, package: Loaded, run: Run) -> bool:
        """Whether its main process is stopped; also of a run that is held by nobody yet."""
        held = self._held(package, run)
        status = held.process.status() if held else process_tree.look(run.pid or 0)
        ours = held is not None or process_tree.is_marked(run.pid or 0, run.id)
        return ours and status is not None and process_tree.is_stopped(status)

    async def usage(self, package: Loaded, run: Run) -> Usage:
        """Of the main process and those below it; without a look at the whole machine."""
        held = self._held(package, run)
        found = held.descendants() if held and not held.ended.done() else []
        pids = tuple(sorted(status.pid for status in found))
        if not pids:
            return Usage()
        return Usage(pids, cgroup_processes.resident_bytes(pids), process_tree.cpu_seconds(found))

    async def native_health(self, package: Loaded, run: Run) -> Seen:
        """Nobody but its own processes knows."""
        del run
        text = f"cannot ask the driver process how package {package.name} is: give a check of another kind"
        return unknown("no-native-health", text)

    async def read_log(
        self, package: Loaded, lines: int, from_offset: int | None
    ) -> tuple[list[str], int, bool]:
        """What its processes printed, whole lines; offsets count all that was ever printed."""
        return await asyncio.to_thread(self._log(package).read, lines, from_offset)

    # Making ----------------------------------------------------------------------------------------------

    async def _make(self, package: Loaded) -> Run:
        run = Run(uuid4().hex, self._clock.now().timestamp(), None, package.digest)
        plan = await asyncio.to_thread(_plan, package, run)
        record = Record(run.id, self._boot, run.digest, run.started_at)
        loop = asyncio.get_running_loop()
        spawned = await loop.run_in_executor(
            self._spawner.thread, partial(self._spawn, package, plan, record)
        )
        run = replace(run, pid=spawned.process.pid)
        self._hold(package, run, spawned.process, spawned.handle, child=True)
        return run

    def _spawn(self, package: Loaded, plan: Plan, record: Record) -> Spawned:
        """The intent, the process, the pid, in this order: killed in between, the next agent finds it."""
        try:
            output = self._log(package).open(plan.identity.uid, plan.identity.gid)
        except OSError as error:
            text = f"cannot {plan.what}: its log {self.log_file(package)} cannot be opened: {error.strerror}"
            raise CannotRun(text) from None
        try:
            self._write(plan, package, record)
            spawned = self._spawner.spawn(plan, output)
        except BaseException:
            self._records.remove(package.name)
            raise
        finally:
            os.close(output)
        process = spawned.process
        try:
            self._records.write(package.name, replace(record, pid=process.pid, began=process.began))
        except OSError as error:  # its mark tells the same, more slowly
            log.warning("cannot write down a pid", package=package.name, error=str(error))
        return spawned

    def _write(self, plan: Plan, package: Loaded, record: Record) -> None:
        try:
            self._records.write(package.name, record)
        except OSError as error:
            text = (
                f"cannot {plan.what}: its run cannot be written down: {error}; make room or repair the disk"
            )
            raise CannotRun(text) from None

    async def _clear(self, package: Loaded) -> None:
        """End what is left of a run whose end no agent saw."""
        record = self._records.read(package.name)
        if record and record.boot == self._boot:
            main = record.process or Process(-1, -1)
            while left := await asyncio.to_thread(process_tree.members, record.run, main):
                process_tree.signal_all(left, signals.SIGKILL)
                await asyncio.sleep(0.002)
        if record:
            self._records.remove(package.name)

    # Holding ---------------------------------------------------------------------------------------------

    def _adopt(self, package: Loaded, record: Record, process: Process) -> Run | None:
        status, handle = process.status(), process.opened()
        if handle is None or status is None:
            return None
        if not status.alive:
            os.close(handle)
            return None
        self._log(package)
        run = Run(record.run, record.started_at, process.pid, record.digest, adopted=True)
        self._hold(package, run, process, handle, child=status.parent == os.getpid())
        return run

    def _hold(self, package: Loaded, run: Run, process: Process, handle: int, *, child: bool) -> None:
        forget = partial(self._forget, package.name, run.id)
        held = Held(run.id, process, handle, child=child, mains=self._mains, at_end=forget)
        if before := self._lives.get(package.name):
            before.held.close()
        self._lives[package.name] = Life(run, held)

    def _forget(self, name: str, run: str) -> None:
        record = self._records.read(name)
        if record and record.run == run:
            self._records.remove(name)

    def _held(self, package: Loaded, run: Run) -> Held | None:
        life = self._lives.get(package.name)
        return life.held if life and life.run.id == run.id else None

    def _still(self, package: Loaded, run: Run) -> Held:
        held = self._held(package, run)
        if held is None or held.ended.done():
            raise CannotRun(f"cannot reach package {package.name}: run {run.id} has ended")
        return held

    def _send(self, package: Loaded, run: Run, signal: StopSignal, *, gone_is_well: bool = False) -> None:
        try:
            self._still(package, run).send(signals.Signals[f"SIG{signal.value}"])
        except ProcessLookupError:
            if not gone_is_well:
                text = f"cannot reach package {package.name}: run {run.id} has ended"
                raise CannotRun(text) from None
        except PermissionError:
            text = f"cannot send SIG{signal.value} to package {package.name}: it runs as another user"
            raise CannotRun(f"{text}; run the agent as root", "not-permitted") from None

    def _log(self, package: Loaded) -> PackageLog:
        policy = package.spec.log
        known = self._logs.get(package.name)
        if known is None or known[0] != policy:
            path = self.log_file(package)
            made = PackageLog(path, max_bytes=policy.max_bytes, keep_files=policy.keep_files)
            known = self._logs[package.name] = policy, made
        return known[1]


def _plan(package: Loaded, run: Run) -> Plan:
    """Everything a process needs; reads files.

    Raises:
        CannotRun: something of it is missing.
    """
    spec, what = package.spec, f"start package {package.name}"
    who = spawning.identity(what, spec.user, spec.group)
    directory = package.path(spec.directory) if spec.directory else package.directory
    if not directory.is_dir():
        raise CannotRun(f"cannot {what}: there is no directory {directory}", "no-directory")
    environment = who.variables() | variables(package, for_another=who.switched)
    environment |= {"MUSTER_PACKAGE": package.name, MARK: run.id}
    path = spawning.executable(what, spec.command[0], package.directory, environment["PATH"])
    umask = int(spec.umask, 8) if spec.umask else -1
    return Plan(what, spec.command, path, directory, environment, who, umask)
