"""Keeping one package as it should be: look, compare, do one thing, look again.

Each package has a keeper with a task of its own, so that one that is slow to start, to stop or to be found
delays no other. Between the end of a process and its restart nothing is written to a disk, nobody is asked.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

from host_agent.domain.package import Exit, Loaded, Run
from host_agent.domain.package_state import Signal, step
from host_agent.domain.reconciling import Act, Needs, Situation, decide
from host_agent.domain.restarting import after_exit, after_failure
from host_agent.ports import CannotRun, Described, Driver, Probe, Wish, Wishes
from host_agent.readiness import until_ready
from muster_contracts.package.specification import Restart
from muster_contracts.package.v1 import PackageState
from muster_runtime import Clock, Count, logger

RESTARTS = Count("muster_host_agent_package_restarts_total", "Packages started again after they had ended.")

STOP_AGAIN_SECONDS = 5.0
"""Until the next try to stop what could not be stopped."""

WATCH_AGAIN_SECONDS = 1.0
"""Until the next try to watch what could not be watched."""

BLAMED = {
    "no-executable": "command",
    "no-user": "user",
    "no-directory": "directory",
    "no-environment": "environment_files",
    "no-secret": "secrets",
    "no-unit": "unit",
    "no-image": "image",
    "no-driver": "driver",
    "not-permitted": "user",
}
"""The key of package.json that a driver's reason is about."""

T = TypeVar("T")

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """A package came into another state."""

    name: str
    was: PackageState | None
    now: PackageState | None
    at: datetime
    reason: str
    text: str | None
    version: str
    pid: int | None
    exit_code: int | None
    restarts: int


class Neighbours(Protocol):
    """What a keeper knows of the other packages."""

    def needs(self, name: str) -> tuple[Needs, str]:
        """How that is what a package depends on, and what is wrong with it, for people."""

    def changed(self, change: Change) -> None:
        """A package is in another state; told at once, and must not take long."""


@dataclass(frozen=True, slots=True)
class World:
    """What all keepers share."""

    driver: Callable[[Loaded], Driver]
    """The driver of a package; raises CannotRun if there is none."""
    neighbours: Neighbours
    wishes: Wishes
    probe: Probe
    clock: Clock
    boot: str


class Keeper:
    """One package: what its package.json says, what is wanted of it, and how it is."""

    def __init__(self, described: Described, world: World) -> None:
        self.name = described.name
        self.described: Described | None = described
        self.loaded = described.loaded
        self.state = PackageState.STOPPED
        self.since = world.clock.now()
        self.run: Run | None = None
        self.wanted = False
        self.looked = False
        """Whether it is known if it runs."""
        self.restarts = 0
        self.exit_code: int | None = None
        self.closing = False
        """Whether it is stopped because the agent ends, whatever is wanted of it."""
        self.refuses_to_stop = False
        """Whether the last try to stop it failed."""
        self._world = world
        self._told: PackageState | None = None
        self._trouble: str | None = None
        self._ran = self.loaded
        """What the present run was started from."""
        self._began = 0.0
        self._watch: asyncio.Task[Exit] | None = None
        self._readying: asyncio.Task[str | None] | None = None
        self._ends = 0
        self._due = 0.0
        self._after_exit = False
        self._again = False
        self._lock = asyncio.Lock()
        self._look = asyncio.Event()
        self._turn = asyncio.Event()

    # What others see ------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.run is not None

    @property
    def active(self) -> Loaded | None:
        """What it runs from, or would be started from."""
        return self._ran if self.run else self.loaded

    @property
    def told(self) -> PackageState | None:
        """The state it was last said to be in; none before it is known."""
        return self._told

    @property
    def began(self) -> float:
        """When the present run began, by the monotonic clock."""
        return self._began

    @property
    def restarting(self) -> bool:
        """Whether a restart was ordered and has not begun yet."""
        return self._again

    @property
    def problem(self) -> str | None:
        """What is wrong: with package.json first, then with the package."""
        return (self.described and self.described.problem) or self._trouble

    @property
    def file_problem(self) -> str | None:
        """What is wrong with package.json."""
        return self.described.problem if self.described else None

    @property
    def uptime_seconds(self) -> float | None:
        """Since the last start; none while it does not run."""
        return max(0.0, self._world.clock.now().timestamp() - self.run.started_at) if self.run else None

    def driver(self) -> Driver:
        """The driver of what runs, or would.

        Raises:
            CannotRun: there is none.
        """
        assert self.active
        return self._world.driver(self.active)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return when something holds that only a change of this package can bring about."""
        while not reached():
            self._turn.clear()
            await self._turn.wait()

    def shut(self) -> None:
        """Stop, because the agent ends; what is wanted stays so."""
        self.closing, self.refuses_to_stop, self._due = True, False, 0.0
        self.wake()

    # What others say ------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look again."""
        self._look.set()

    def describe(self, described: Described | None) -> None:
        """Its package.json is now this, or gone. While it cannot be used, the last good one is in force."""
        self.described = described
        if described and described.loaded and (not described.problem or self.loaded is None):
            if self.loaded != described.loaded:
                self._due = 0.0  # a change is a reason to try at once
            self.loaded = described.loaded
        self.wake()

    def want(self, *, wanted: bool) -> None:
        """It should run, or not; a wish to run is a new chance for one that failed."""
        self.wanted, self.refuses_to_stop = wanted, False
        self._due = 0.0
        if wanted and not self.alive:
            self._ends, self._after_exit = 0, False
            if self.looked and self.file_problem is None and self.state is not PackageState.STARTING:
                self._mend()
                self._to(Signal.START, "command")
        self.wake()

    def restart(self) -> None:
        """Stop it if it runs, and start it."""
        self._again = self.alive
        self.want(wanted=True)

    async def pause(self) -> None:
        """Hold it.

        Raises:
            CannotRun: it does not run, or cannot be held.
        """
        async with self._lock:
            package, run = self._running("pause", PackageState.RUNNING)
            await self.driver().pause(package, run)
            self._to(Signal.PAUSE, "command")

    async def resume(self) -> None:
        """Let it go on.

        Raises:
            CannotRun: it is not held, or cannot be let go.
        """
        async with self._lock:
            package, run = self._running("resume", PackageState.PAUSED)
            await self.driver().resume(package, run)
            self._to(Signal.RESUME, "command")
        self.wake()

    def _running(self, verb: str, state: PackageState) -> tuple[Loaded, Run]:
        if self.run is None or self._ran is None or self.state is not state:
            text = f"cannot {verb} package {self.name}: it is {self.state}, not {state}"
            raise CannotRun(text, "state")
        return self._ran, self.run

    # The loop -------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Look after it until it is forgotten."""
        while self._told is not None or self.described or self.alive:
            self._look.clear()
            async with self._lock:
                pause = await self._pass()
            if pause != 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._look.wait()

    def close(self) -> None:
        """Look away; what runs goes on."""
        self._stop_watching()

    async def _pass(self) -> float | None:
        """Take what happened and do what is due; seconds until the next look, none: when woken."""
        if not self.looked:
            return await self._find()
        if self._watch and self._watch.done() and self.run:
            if self._watch.exception():
                return self._watch_again()
            await self._ended(self._watch.result())
        if self._readying and self._readying.done() and self.run:
            await self._judge_readiness(self._readying.result())
        if self.state is PackageState.INVALID and self.described and not self.file_problem:
            self._mend()
        return await self._do(decide(self._situation()))

    def _situation(self) -> Situation:
        usable = self.loaded is not None and (not self.file_problem or self.state not in _AT_REST)
        alive = self.alive
        return Situation(
            state=self.state,
            described=self.described is not None,
            usable=usable,
            wanted=self.wanted and not self.closing,
            alive=alive,
            stale=bool(
                self.run and self.run.digest and self.loaded and self.run.digest != self.loaded.digest
            ),
            again=self._again,
            due_in=max(0.0, self._due - self._world.clock.monotonic()),
            needs=Needs.READY if alive else self._world.neighbours.needs(self.name)[0],
        )

    async def _do(self, act: Act) -> float | None:
        match act:
            case Act.START:
                return await self._start()
            case Act.STOP:
                await self._stop(self._why_not(), Signal.END)
                return 0
            case Act.REPLACE:
                reason = "command" if self._again else "changed"
                self._again = False
                await self._stop(reason, None)
                return 0
            case Act.REST:
                return max(0.001, self._due - self._world.clock.monotonic())
            case Act.HOLD if self.state is not PackageState.STARTING:
                self._to(Signal.START, "dependency")
            case Act.BLOCK if self.state is not PackageState.BLOCKED:
                trouble = self._world.neighbours.needs(self.name)[1]
                self._to(Signal.BLOCK, "dependency", f"cannot start package {self.name}: {trouble}")
            case Act.SETTLE if self._told is not PackageState.STOPPED:
                self._to(Signal.END, self._why_not() if self._told else "found")
            case Act.INVALIDATE if self._told is not PackageState.INVALID:
                self._to(Signal.BREAK, "invalid")
            case Act.FORGET:
                self._forget()
            case _:
                pass
        return None

    def _why_not(self) -> str:
        """Why it is not to run."""
        if self.closing:
            return "shutdown"
        return "command" if self.described else "removed"

    # Finding, starting, stopping ------------------------------------------------------------------------

    async def _find(self) -> float | None:
        """Take over what runs already; until this is known nothing is started."""
        wish = self._world.wishes.of(self.name)
        run = None
        if self.loaded:
            try:
                driver = self._world.driver(self.loaded)
                run = await driver.find(self.loaded)
                paused = run is not None and await driver.is_paused(self.loaded, run)
            except CannotRun as error:
                self._fail(self._blaming(self.loaded, error))
                return max(0.001, self._due - self._world.clock.monotonic())
        self.looked = True
        self.wanted = self._first_wish(wish, found=run is not None)
        if run and self.loaded:
            self._begin(self.loaded, run)
            # It may run for long: how long is known by wall clock alone.
            self._began -= max(0.0, self._world.clock.now().timestamp() - run.started_at)
            self._to(Signal.ADOPT_PAUSED if paused else Signal.ADOPT, "adopted")
        elif self.wanted and wish.done_in == self._world.boot and not _always(self.loaded):
            self._to(Signal.EXIT, "found")
        return 0

    def _first_wish(self, wish: Wish, *, found: bool) -> bool:
        """What a command said, else what package.json says; what runs without either is left alone."""
        if wish.wanted is not None:
            return wish.wanted
        return found or (self.loaded is not None and self.loaded.spec.enabled)

    async def _start(self) -> float | None:
        package = self.loaded
        assert package
        if self.state not in _QUIETLY:
            self._to(Signal.START, "exit" if self._after_exit else "wanted")
        try:
            if not self._after_exit or self._ends:
                await self._is_free(package)
            if not _always(package):
                await self._spend(done=package.spec.restart.policy == "never")
            run = await self._world.driver(package).start(package)
        except Exception as error:  # noqa: BLE001  (whatever a driver stumbles over is this package's trouble)
            self._fail(self._blaming(package, error))
            return 0
        if self.state is not PackageState.STARTING:
            self._to(Signal.START, "retry")
        self._trouble = None
        if self._after_exit:
            self._after_exit = False
            self.restarts += 1
            RESTARTS.add()
        self._begin(package, run)
        self._readying = self._spawn(until_ready(package, run, self._world.probe))
        return None

    def _begin(self, package: Loaded, run: Run) -> None:
        self._ran, self.run, self._began = package, run, self._world.clock.monotonic()
        self._again = False
        self._watch = self._spawn(self._world.driver(package).wait(package, run))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._look.set())
        return task

    async def _stop(self, reason: str, then: Signal | None, text: str | None = None) -> None:
        """Stop the run; then it is what ``then`` makes of it, or about to be started."""
        assert self.run
        assert self._ran
        self._to(Signal.STOP, reason)
        try:
            end = await self._world.driver(self._ran).stop(self._ran, self.run)
        except Exception as error:  # noqa: BLE001  (it runs on, whatever the reason)
            self._due = self._world.clock.monotonic() + STOP_AGAIN_SECONDS
            self._trouble, self.refuses_to_stop = self._blaming(self._ran, error), True
            self._to(Signal.STAY, "failed", self._trouble)
            return
        self._gone(end)
        if then:
            self._to(then, reason, text)

    async def _is_free(self, package: Loaded) -> None:
        port = package.spec.ready.tcp_port
        # The ports of a container or a unit may be held open by their keepers while they are down.
        if port and package.spec.driver == "process" and await self._world.probe.accepts(port):
            text = f"cannot start package {self.name}: port {port} is in use by another program"
            raise CannotRun(f"{text} ({package.file}: key 'ready.tcp_port')", "port-in-use")

    # What happened ----------------------------------------------------------------------------------------

    def _stop_watching(self) -> None:
        for task in (self._watch, self._readying):
            if task and not task.cancel() and not task.cancelled():
                task.exception()  # taken, so that nobody complains that it was not

    def _gone(self, end: Exit) -> float:
        """Nothing of the run is left; how long it ran."""
        self._stop_watching()
        ran = self._world.clock.monotonic() - self._began
        self.run = self._watch = self._readying = None
        self.exit_code = end.code
        return ran

    async def _ended(self, end: Exit) -> None:
        """It ended by itself."""
        assert self._ran
        policy = (self.loaded or self._ran).spec.restart
        verdict = after_exit(policy, self._ends, end, self._gone(end))
        self._ends = verdict.ends
        self._due = self._world.clock.monotonic() + verdict.delay_seconds
        if not self.wanted or self.closing or self.described is None:
            self._to(Signal.END, "exit")
        elif not verdict.again:
            self._to(Signal.EXIT, "exit", _how(end))
            await self._spend(done=True)
        else:
            self._after_exit = True
            if verdict.delay_seconds:
                self._trouble = f"package {self.name} {_how(end)}, {verdict.ends} times in a row"
                if verdict.crash_loop:
                    self._trouble += f"; see what it printed with: muster packages logs {self.name}"
                self._to(Signal.LOOP if verdict.crash_loop else Signal.RETRY, "exit", self._trouble)

    async def _judge_readiness(self, missing: str | None) -> None:
        package = self._ran
        assert package
        self._readying = None
        if self.state is not PackageState.STARTING:
            return
        if missing is None:
            self._trouble = None
            self._to(Signal.READY, "ready")
            return
        seconds = package.spec.ready.timeout_seconds
        text = (
            f"cannot start package {self.name}: {missing} within {seconds:g} s ({package.file}: key 'ready')"
        )
        await self._stop("not-ready", None)
        if not self.alive:
            self._fail(text, "not-ready")

    def _fail(self, text: str, reason: str = "failed") -> None:
        policy = self.loaded.spec.restart if self.loaded else Restart()
        verdict = after_failure(policy, self._ends)
        self._ends, self._trouble = verdict.ends, text
        self._due = self._world.clock.monotonic() + verdict.delay_seconds
        if self.state is not PackageState.FAILED:
            self._to(Signal.FAIL, reason, text)

    def _watch_again(self) -> float:
        """Watching failed, which says nothing about the package."""
        assert self._watch
        assert self._ran
        assert self.run
        log.error("cannot watch package", package=self.name, exc_info=self._watch.exception())
        package, run = self._ran, self.run

        async def later() -> Exit:
            await asyncio.sleep(WATCH_AGAIN_SECONDS)
            return await self._world.driver(package).wait(package, run)

        self._watch = self._spawn(later())
        return 0

    def _blaming(self, package: Loaded, error: Exception) -> str:
        """A driver's complaint with the file and the key it is about."""
        if not isinstance(error, CannotRun):
            log.error("driver failed", package=self.name, exc_info=error)
            return f"cannot start package {self.name}: {type(error).__name__}: {error}"
        key = BLAMED.get(error.reason)
        return f"{error} ({package.file}: key '{key}')" if key else str(error)

    async def _spend(self, *, done: bool) -> None:
        """Remember that it ran in this boot, so that the next agent does not run it again."""
        wish = replace(self._world.wishes.of(self.name), done_in=self._world.boot if done else "")
        if wish != self._world.wishes.of(self.name):
            with contextlib.suppress(OSError):
                await self._world.wishes.remember({self.name: wish})

    def _forget(self) -> None:
        told, self._told = self._told, None
        self.state, self.wanted, self._again = PackageState.STOPPED, False, False
        self._turn.set()
        if told:
            self._tell(told, None, "removed", None)

    def _mend(self) -> None:
        if self.state is PackageState.INVALID:
            self.state = step(self.name, self.state, Signal.MEND)
            self._trouble = None

    def _to(self, signal: Signal, reason: str, text: str | None = None) -> None:
        self.state = step(self.name, self.state, signal)
        if signal in _WELL:
            self._trouble = None
        elif text:
            self._trouble = text
        if self.state is not self._told:
            self.since = self._world.clock.now()
            was, self._told = self._told, self.state
            self._tell(was, self.state, reason, text or self.file_problem)
        self._turn.set()

    def _tell(
        self, was: PackageState | None, now: PackageState | None, reason: str, text: str | None
    ) -> None:
        active, pid = self.active, self.run.pid if self.run else None
        change = Change(
            self.name, was, now, self._world.clock.now(), reason, text,
            active.spec.version if active else "", pid, self.exit_code, self.restarts,
        )  # fmt: skip
        self._world.neighbours.changed(change)


_AT_REST = (PackageState.STOPPED, PackageState.INVALID)
"""States in which a package that cannot be used is said to be invalid; in others its last good file holds."""

_QUIETLY = (PackageState.STARTING, PackageState.FAILED)
"""States in which another try is no news until it succeeds."""

_WELL = frozenset({Signal.READY, Signal.END, Signal.ADOPT, Signal.ADOPT_PAUSED, Signal.MEND})
"""Signals after which there is no trouble."""


def _always(package: Loaded | None) -> bool:
    return package is None or package.spec.restart.policy == "always"


def _how(end: Exit) -> str:
    if end.code is None:
        return "ended, and nobody could tell how"
    return f"was ended by signal {-end.code}" if end.code < 0 else f"ended with exit code {end.code}"
