"""What host-agent needs of the world."""

from typing import Protocol

from host_agent.domain.machine import Machine
from host_agent.domain.package import Exit, Loaded, Run, Usage
from host_agent.domain.vitals import CpuTimes, Reading
from muster_bus.errors import MusterError
from muster_contracts.host.v1 import Vitals
from muster_contracts.package.v1 import StopSignal


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

    async def read_log(
        self, package: Loaded, lines: int, from_offset: int | None
    ) -> tuple[list[str], int, bool]:
        """As ``package.v1.ReadLog``: the lines, the offset behind them, and whether there was more."""
