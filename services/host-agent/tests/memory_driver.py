"""Packages without processes: a driver whose packages do as a test says, in the loop's own time."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from host_agent.domain.look import Seen, ok
from host_agent.domain.package import Exit, Loaded, Run, Usage
from host_agent.ports import CannotRun
from muster_contracts.package.v1 import StopSignal
from muster_testing.loop_time import LoopClock


@dataclass
class Life:
    """One run."""

    run: Run
    end: asyncio.Future[Exit]
    paused: bool = False
    signals: list[StopSignal] = field(default_factory=list)


class MemoryDriver:
    """Implements ``host_agent.ports.Driver``; lives outlast agents, as processes do."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.lives: dict[str, Life] = {}
        self.starts: list[tuple[str, float]] = []
        """Which package was started when, by the loop's time."""
        self.lasts: dict[str, float] = {}
        """Packages that end by themselves after so many seconds, with exit code 1."""
        self.broken: dict[str, CannotRun] = {}
        """Packages that cannot be started, and why."""
        self.slow: dict[str, float] = {}
        """Packages whose start takes so many seconds."""
        self.stubborn: set[str] = set()
        """Packages that cannot be stopped."""
        self.blind: set[str] = set()
        """Packages of which it cannot be told whether they run."""
        self.healths: dict[str, Seen] = {}
        """What systemd or Docker would say of packages; of others, that they are well."""
        self.stops: list[str] = []
        self._ids = count(1)

    def times(self, name: str) -> list[float]:
        """When a package was started."""
        return [at for each, at in self.starts if each == name]

    def count(self) -> Counter[str]:
        """How often each package was started."""
        return Counter(name for name, _ in self.starts)

    def end(self, name: str, code: int = 1) -> None:
        """Have a package end by itself."""
        self.lives.pop(name).end.set_result(Exit(code))

    def start_by_hand(self, package: Loaded, digest: str | None = None) -> Run:
        """Have a package run that no agent of this test has started."""
        number = next(self._ids)
        run = Run(f"run-{number}", self.clock.now().timestamp(), 1000 + number, digest or package.digest)
        self.lives[package.name] = Life(run, asyncio.get_running_loop().create_future())
        return run

    async def start(self, package: Loaded) -> Run:
        await asyncio.sleep(self.slow.get(package.name, 0))
        self.starts.append((package.name, self.clock.monotonic()))
        if trouble := self.broken.get(package.name):
            raise trouble
        if life := self.lives.get(package.name):
            return life.run
        run = self.start_by_hand(package)
        if (seconds := self.lasts.get(package.name)) is not None:
            asyncio.get_running_loop().call_later(seconds, self._end_if_it_runs, package.name, run)
        return run

    def _life(self, package: Loaded) -> Life:
        if life := self.lives.get(package.name):
            return life
        raise CannotRun(f"cannot reach package {package.name}: it has ended")

    def _end_if_it_runs(self, name: str, run: Run) -> None:
        if (life := self.lives.get(name)) and life.run == run:
            self.end(name)

    async def find(self, package: Loaded) -> Run | None:
        if package.name in self.blind:
            raise CannotRun(f"cannot find package {package.name}: the engine is away")
        life = self.lives.get(package.name)
        return life.run if life else None

    async def wait(self, package: Loaded, run: Run) -> Exit:
        life = self.lives.get(package.name)
        if life is None or life.run.id != run.id:
            return Exit(None)
        return await asyncio.shield(life.end)

    async def stop(self, package: Loaded, run: Run) -> Exit:
        if package.name in self.stubborn:
            raise CannotRun(f"cannot stop package {package.name}: it is not permitted", "not-permitted")
        self.stops.append(package.name)
        if life := self.lives.pop(package.name, None):
            life.end.set_result(Exit(-15))
        return Exit(-15)

    async def signal(self, package: Loaded, run: Run, signal: StopSignal) -> None:
        self._life(package).signals.append(signal)

    async def pause(self, package: Loaded, run: Run) -> None:
        self._life(package).paused = True

    async def resume(self, package: Loaded, run: Run) -> None:
        self._life(package).paused = False

    async def is_paused(self, package: Loaded, run: Run) -> bool:
        return self._life(package).paused

    async def usage(self, package: Loaded, run: Run) -> Usage:
        return Usage((run.pid or 0,), 1 << 20, self.clock.monotonic() / 2)

    async def native_health(self, package: Loaded, run: Run) -> Seen:
        return self.healths.get(package.name, ok("running"))

    async def read_log(
        self, package: Loaded, lines: int, from_offset: int | None
    ) -> tuple[list[str], int, bool]:
        return [f"{package.name} says hello"][:lines], 11, False
