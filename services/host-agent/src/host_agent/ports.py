"""What host-agent needs of the world."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from host_agent.domain.look import Seen
from host_agent.domain.machine import Machine
from host_agent.domain.package import Exit, Loaded, Run, Usage
from host_agent.domain.policy import Policy
from host_agent.domain.vitals import CpuTimes, Reading
from muster_bus.errors import MusterError
from muster_contracts.host.v1 import Vitals
from muster_contracts.message import DurableFact, LiveFact
from muster_contracts.package.specification import Check
from muster_contracts.package.v1 import ConfigurationFile, StopSignal


class Kernel(Protocol):
    """The machine's own knowledge of itself."""

    network_disks: bool
    """Whether file systems of other machines count as this one's disks; may be changed at any time."""

    def cpu(self) -> CpuTimes:
        """What the CPUs have spent since boot; the cheapest look."""

    def read(self) -> Reading:
        """How the machine is now; never waits for a disk of another machine."""

    def describe(self) -> Machine:
        """What the machine is; looks again for disks, interfaces and sensors."""


class Voice(Protocol):
    """Whatever can say a fact."""

    async def say(self, *messages: LiveFact | DurableFact) -> None:
        """Say it by its delivery class."""


class Pulse(Protocol):
    """The latest vitals."""

    async def vitals(self, not_older_than_seconds: float) -> Vitals:
        """The last sample if it is young enough, else a fresh one."""


class CannotRun(MusterError):
    """A driver could not do what was asked; ``reason`` is stable, for programs.

    Reasons: no-executable, no-user, no-directory, no-environment, no-secret, no-unit, no-image,
    not-permitted, no-driver, failed.
    """

    def __init__(self, text: str, reason: str = "failed") -> None:
        super().__init__(text)
        self.reason = reason


class Driver(Protocol):
    """What keeps the processes of packages; one behaviour on processes, systemd units and containers.

    No method waits for readiness; each is idempotent: starting what runs finds it, stopping what is gone
    returns.
    """

    async def start(self, package: Loaded) -> Run:
        """Start it; it has been executed when this returns.

        Raises:
            CannotRun: it could not be; nothing of it is left behind.
        """

    async def find(self, package: Loaded) -> Run | None:
        """The run that is going on, whoever started it; after the agent was killed, the same processes."""

    async def wait(self, package: Loaded, run: Run) -> Exit:
        """Return when the run's main process has ended, within milliseconds where the system can tell."""

    async def stop(self, package: Loaded, run: Run) -> Exit:
        """End it as its ``stop`` says: signal, timeout, then SIGKILL to its whole tree, escapees included."""

    async def signal(self, package: Loaded, run: Run, signal: StopSignal) -> None:
        """Send a signal to its main process, and to no other that may have got its pid.

        Raises:
            CannotRun: it is gone, or it is not permitted.
        """

    async def pause(self, package: Loaded, run: Run) -> None:
        """Hold all its processes."""

    async def resume(self, package: Loaded, run: Run) -> None:
        """Let all its processes go on."""

    async def is_paused(self, package: Loaded, run: Run) -> bool:
        """Whether it is held; asked of a run that was found."""

    async def usage(self, package: Loaded, run: Run) -> Usage:
        """What it uses now."""

    async def native_health(self, package: Loaded, run: Run) -> Seen:
        """What systemd or Docker says of it; unknown by the driver process, which asks nobody.

        Raises:
            CannotRun: nobody answered.
        """

    async def read_log(
        self, package: Loaded, lines: int, from_offset: int | None
    ) -> tuple[list[str], int, bool]:
        """As ``package.v1.ReadLog``: the lines, the offset behind them, and whether there was more."""


# What the manager of packages needs besides -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Described:
    """One package.json."""

    name: str
    """The package's own name, or one made of its directory's where that cannot be told."""
    file: Path
    loaded: Loaded | None
    """What it says, or said when it could last be used; null if it never could."""
    problem: str | None = None
    """Why it cannot be used."""


class PackageFiles(Protocol):
    """The package.json files of this machine."""

    def look(self) -> Mapping[str, Described] | None:
        """All that are there, by name; null if nothing has changed since the look before."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be remembered of a package over restarts of the agent."""

    wanted: bool | None = None
    """Whether a command said that it should run; null: as its package.json says."""
    done_in: str = ""
    """The boot in which it ran, if it is not to be run again by itself; else empty."""


class Wishes(Protocol):
    """Where wishes are kept."""

    def of(self, name: str) -> Wish:
        """What is remembered of a package."""

    async def remember(self, changes: Mapping[str, Wish | None]) -> None:
        """Keep these, or forget them; on the disk when this returns.

        Raises:
            OSError: it cannot be kept.
        """


class Rules(Protocol):
    """What this machine may be told to do."""

    @property
    def problem(self) -> str | None:
        """Why they cannot be read, and nothing is allowed."""

    def now(self) -> Policy:
        """Those that are in force."""


class Probe(Protocol):
    """Signs of readiness."""

    async def accepts(self, port: int) -> bool:
        """Whether somebody accepts connections on this port of loopback."""

    def made_since(self, file: Path, at: float) -> bool:
        """Whether a file exists and is not older than ``at`` (seconds since 1970)."""


Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Task:
    """A program that is run to its end; never by a shell."""

    argv: tuple[str, ...]
    directory: Path
    user: str | None = None
    """Whom it runs as; null: as the agent."""
    environment: Mapping[str, str] | None = None
    """Its only variables but PATH and MUSTER_RUN, the mark by which all of its tree is found."""
    group: str | None = None
    """By default the user's own."""
    at_home: bool = False
    """Whether it is told HOME, USER, LOGNAME, SHELL and LANG, too."""
    thorough: bool = True
    """Whether the whole machine is looked through at its end for what is left of it.

    Otherwise only among its descendants and the orphans that came to the agent: who hides from that has left
    its session, lost its parents and cleared its environment. Cancelled, it is always thorough.
    """


class ScriptRunner(Protocol):
    """Runs programs to their end."""

    async def run(self, task: Task, write: Write) -> int:
        """Run it and write what it prints; its exit code, or minus a signal's number.

        Cancelled, it ends the whole process tree before it returns.

        Raises:
            CannotRun: it could not be executed.
        """


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of a configuration file."""

    sha256: str
    changed: bool


class ConfigurationFiles(Protocol):
    """The configuration files that packages list; each method may wait for the disk."""

    async def describe(self, package: Loaded, name: str) -> ConfigurationFile:
        """How a listed file is; one that cannot be used counts as missing."""

    async def read(self, package: Loaded, name: str, *, previous: bool) -> bytes:
        """What is in it, or in the version before; at most 32 KiB and a byte.

        Raises:
            CannotUse: there is none, or it is no plain file inside of where it should be.
        """

    async def replace(
        self, package: Loaded, name: str, content: bytes, expected_sha256: str | None
    ) -> Replaced:
        """Put this content in its place in one step; the one before is kept beside it as NAME.previous.

        Raises:
            CannotUse: it is refused, and nothing was changed.
        """


class CannotUse(MusterError):
    """A configuration file cannot be read or replaced; ``reason`` is stable, for programs.

    Reasons: not-found, not-permitted, precondition, check, failed.
    """

    def __init__(self, text: str, reason: str = "failed") -> None:
        super().__init__(text)
        self.reason = reason


# What health checks need ------------------------------------------------------------------------------


class Look(Protocol):
    """One way to look at a package, kept from look to look: a CPU load is the difference of two."""

    async def look(self) -> Seen:
        """Look once.

        It ends within the check's timeout by itself (reason ``timeout``) but for the time it takes to kill a
        script's tree; raises nothing for what the target does; and, cancelled, leaves no socket and no
        process behind before it returns.
        """


@dataclass(frozen=True, slots=True)
class LookContext:
    """The package that is looked at, as a look has to know it."""

    package: Loaded
    """Where relative paths begin, and whom its scripts run as."""
    driver: Driver
    """What keeps it: tells its processes and what systemd or Docker say of it."""
    run: Callable[[], Run | None]
    """The life that goes on; asked at each look."""
    runner: ScriptRunner
    """Runs scripts; one for all looks."""


MakeLook = Callable[[Check, LookContext], Look]
"""``host_agent.adapters.looks.make_look``, or a test's own. Raises nothing: what cannot be used is seen."""
