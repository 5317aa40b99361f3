"""One supervised process: started, found ready, watched, and started again when it dies."""

import asyncio
import os
import signal
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from muster_client.embedded.errors import CannotStart, PortTaken
from muster_client.embedded.journal import Journal
from muster_client.embedded.layout import Layout
from muster_client.embedded.locks import Lock
from muster_client.embedded.logfiles import Line, open_log
from muster_client.embedded.processes import Process
from muster_client.embedded.pulse import until_it_stops
from muster_client.embedded.readiness import Probe
from muster_client.embedded.record import Entry, State

LONGEST_BACKOFF_SECONDS = 10.0
STABLE_SECONDS = 30.0
"""A process that ran this long is forgiven the deaths before."""
_POLL_SECONDS = 0.03
_QUOTED_BYTES = 16 * 1024
HUNG = "hung"
"""How a process ended that no longer answered."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 30.0
"""Waits before what follows readiness is tried again; they double."""


async def _nothing() -> None:
    return


def _unmended() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Part:
    """What a process of the fleet is, and how it is looked after."""

    name: str
    command: list[str]
    directory: Path
    endpoint: str
    ready: Probe
    env: Mapping[str, str] = field(default_factory=dict)
    first_restart_seconds: float = 0.2
    """The wait before the first restart; it doubles with each death that follows soon."""
    stop_seconds: float = 10.0
    """How long it may take over an ordinary stop before it is killed."""
    ready_seconds: float = 60.0
    """How long it may take to become ready at the first start."""
    then: Callable[[], Awaitable[None]] = _nothing
    """Done each time it has become ready, before it counts as running; after a restart until it succeeds."""
    pulse: Probe | None = None
    """Whether it still answers while it runs; missed for long enough, it is killed and started again."""
    mend: Callable[[], bool] = _unmended
    """Put aside what may have kept it from becoming ready; whether there was anything."""


class Child:
    """Keeps one part running. Tells of each change through ``changed``."""

    def __init__(self, part: Part, layout: Layout, journal: Journal, changed: Callable[[], None]) -> None:
        self.part = part
        self.entry = Entry(part.name, State.STOPPED, endpoint=part.endpoint, log=str(layout.log(part.name)))
        self._layout = layout
        self._journal = journal
        self._changed = changed
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._stopping = False
        self._was_ready = False
        self._is_ready = asyncio.Event()
        """In this life; ``_was_ready`` is in any."""
        self._mended = False
        self._hung = False
        self._log_start = 0
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it for the first time and return when it is ready; from then on it is kept running.

        Raises:
            PortTaken: somebody else listens where it should.
            CannotStart: it ended, or was not ready in time; the text quotes the end of its log.
        """
        self._keeper = asyncio.create_task(self._keep(), name=self.part.name)
        try:
            async with asyncio.timeout(self.part.ready_seconds):
                await self._settled.wait()
        except TimeoutError:
            raise self._complaint(f"it was not ready within {self.part.ready_seconds:.0f} s") from None
        if self.entry.state is State.FAILED:
            raise self._complaint(self.entry.detail)

    def wake(self) -> None:
        """Start it now if it stopped by itself or waits for its restart."""
        if self.entry.state in (State.STOPPED, State.RESTARTING):
            self._wake.set()

    async def stop(self) -> None:
        """End it: asked first, killed with its process group if it takes too long."""
        self._stopping = True
        self._wake.set()
        self._ask_to_end()
        if self._keeper:
            done, _ = await asyncio.wait([self._keeper], timeout=self.part.stop_seconds)
            if not done and (process := self.entry.process):
                self._journal.warning("had to kill", process=self.part.name, pid=process.pid)
                _kill_group(process)
            await self._keeper
        self._become(State.FAILED if self.entry.state is State.FAILED else State.STOPPED, process=None)

    def _ask_to_end(self) -> None:
        process = self.entry.process
        if process and process.signal(signal.SIGTERM):
            # A paused process does not hear SIGTERM until it goes on.
            process.signal(signal.SIGCONT)

    def _told_to_stop(self) -> bool:
        return self._stopping

    async def _keep(self) -> None:
        backoff = self.part.first_restart_seconds
        while not self._told_to_stop():
            began = time.monotonic()
            how = await self._live()
            if self._told_to_stop():
                return
            if self._mend(how):
                continue
            if not self._was_ready:
                self._become(State.FAILED, detail=how or "it ended before it was ready", process=None)
                self._settled.set()
                return
            if time.monotonic() - began > STABLE_SECONDS:
                backoff = self.part.first_restart_seconds
            await self._after(how, backoff)
            backoff = min(max(backoff, 0.1) * 2, LONGEST_BACKOFF_SECONDS)

    async def _after(self, how: str, backoff: float) -> None:
        """Wait for the next start: until told to when it stopped by itself, else for the backoff."""
        self._wake.clear()
        if not how:
            self._journal.info("stopped by itself", process=self.part.name)
            self._become(State.STOPPED, detail="ended by itself", process=None)
            await self._wake.wait()
            return
        self._journal.warning("died", process=self.part.name, how=how, restart_in_seconds=backoff)
        self._become(State.RESTARTING, detail=how, process=None, restarts=self.entry.restarts + 1)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), backoff)

    async def _live(self) -> str:
        """One life, from start to end: how it ended, or nothing if it ended well."""
        try:
            process = await self._spawn()
        except (OSError, CannotStart) as error:
            return str(error)
        if self._stopping:  # told to while it was being started
            self._ask_to_end()
        tending = asyncio.create_task(self._tend())
        try:
            how = how_ended(await process.wait())
            return HUNG if self._hung else how
        finally:
            tending.cancel()
            with suppress(asyncio.CancelledError):
                await tending

    def _mend(self, how: str) -> bool:
        """Whether it ended before it was ready and something was put aside that may have been the reason."""
        if self._is_ready.is_set() or self._mended or not _gave_up(how) or self._port_is_taken():
            return False
        self._mended = True
        try:
            return self.part.mend()
        except OSError as error:
            self._journal.error("could not mend", process=self.part.name, why=error.strerror)
            return False

    async def _spawn(self) -> asyncio.subprocess.Process:
        lock = Lock(self._layout.lock(self.part.name))
        # Two servers over one directory would destroy its data; the lock lives as long as the process.
        if not lock.take():
            raise CannotStart(f"the process before it has not ended yet and still holds {lock.path}")
        path = self._layout.log(self.part.name)
        log = open_log(path)
        self._hung = False
        self._is_ready.clear()
        self._log_start = os.fstat(log).st_size
        try:
            process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.part.directory,
                env={**os.environ, **self.part.env},
                pass_fds=(lock.descriptor,),
                start_new_session=True,
            )
        finally:
            os.close(log)
            lock.drop()
        self._become(State.STARTING, process=Process.of(process.pid))
        return process

    async def _tend(self) -> None:
        """All there is to do while it lives."""
        await asyncio.gather(self._become_ready(), self._feel_pulse())

    async def _become_ready(self) -> None:
        while not await self.part.ready():  # noqa: ASYNC110  (another process has no event to wait for)
            await asyncio.sleep(_POLL_SECONDS)
        self._is_ready.set()
        self._mended = False
        problem = await self._follow_up()
        if problem and not self._was_ready:
            self._become(State.FAILED, detail=problem)
            self._settled.set()
            return
        self._was_ready = True
        before = self.entry.detail
        self._become(State.RUNNING, detail=problem or before)
        self._settled.set()
        await self._catch_up(problem, before)

    async def _follow_up(self) -> str:
        """Do what follows readiness; why it could not be done, or nothing."""
        try:
            await self.part.then()
        except CannotStart as error:
            self._journal.error(str(error), process=self.part.name)
            return str(error)
        return ""

    async def _catch_up(self, problem: str, before: str) -> None:
        """Go on trying what should have followed readiness, until it succeeds."""
        wait = FIRST_RETRY_SECONDS
        while problem:
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_RETRY_SECONDS)
            problem = await self._follow_up()
            self._become(State.RUNNING, detail=problem or before)

    async def _feel_pulse(self) -> None:
        if self.part.pulse is None:
            return
        # It may also hang before it is ready; what is ready no later than this is not disturbed.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_ready.wait(), self.part.ready_seconds)
        await until_it_stops(self.part.pulse)
        if (process := self.entry.process) and not self._told_to_stop():
            self._journal.error("answers no longer; killed", process=self.part.name, pid=process.pid)
            self._hung = True
            _kill_group(process)

    def _become(self, state: State, **changes: object) -> None:
        before = self.entry
        self.entry = replace(self.entry, state=state, **changes)  # type: ignore[arg-type]  # of Entry's fields
        if self.entry != before:
            self._changed()

    def _complaint(self, why: str) -> CannotStart:
        path = self._layout.log(self.part.name)
        lines = _since(path, self._log_start)
        if self._port_is_taken():
            return PortTaken(f"cannot start {self.part.name}: somebody else listens on {self.part.endpoint}")
        quoted = "".join(f"\n  {Line.parse(line).brief()[:400]}" for line in lines[-8:])
        return CannotStart(f"cannot start {self.part.name}: {why}; the end of {path}:{quoted or ' (empty)'}")

    def _port_is_taken(self) -> bool:
        lines = _since(self._layout.log(self.part.name), self._log_start)
        return any("address already in use" in line.lower() for line in lines)


def _gave_up(how: str) -> bool:
    """Whether a process that had started ended by its own fault: not well, and not by somebody's decision."""
    by_itself = how.startswith(("exited with", "killed by"))
    return by_itself and how not in {"killed by SIGKILL", "killed by SIGTERM"}


def how_ended(code: int) -> str:
    """An exit code in words; nothing for success."""
    if code == 0:
        return ""
    if code > 0:
        return f"exited with {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _since(path: Path, offset: int) -> list[str]:
    """The lines written to ``path`` after ``offset``, at most the last 40."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(offset if offset <= size else 0, size - _QUOTED_BYTES))
            return file.read().decode(errors="replace").splitlines()[-40:]
    except OSError:
        return []


def _kill_group(process: Process) -> None:
    if process.alive:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
