"""A machine with packages in memory, for tests of the manager under fake time."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from memory_driver import MemoryDriver

from host_agent.domain.package import Loaded
from host_agent.domain.speaker import Speaker
from host_agent.domain.specifying import digest
from host_agent.packages import Packages
from host_agent.ports import Described, PackageFiles, Wish
from muster_contracts.message import DurableFact, LiveFact
from muster_contracts.package.specification import Specification
from muster_contracts.package.v1 import PackageChanged, PackageState
from muster_testing.loop_time import LoopClock

EPOCH = "0123456789ab-018f00000000"


class MemoryFiles:
    """``PackageFiles`` without files."""

    def __init__(self) -> None:
        self.described: dict[str, Described] = {}
        self._changed = True

    def put(self, name: str, **keys: Any) -> Loaded:
        """Describe a package, or describe it anew."""
        spec = Specification.model_validate({"name": name, "command": ["run"], **keys})
        file = Path("/x") / name / "package.json"
        loaded = Loaded(spec, file, digest(spec, file))
        self.described[name] = Described(name, file, loaded)
        self._changed = True
        return loaded

    def spoil(self, name: str, problem: str = "cannot use it") -> None:
        """Make a package.json unusable."""
        before = self.described.get(name)
        loaded = before.loaded if before else None
        self.described[name] = Described(name, Path("/x") / name / "package.json", loaded, problem)
        self._changed = True

    def remove(self, name: str) -> None:
        del self.described[name]
        self._changed = True

    def forget_looks(self) -> None:
        """As for another agent."""
        self._changed = True

    def look(self) -> Mapping[str, Described] | None:
        changed, self._changed = self._changed, False
        return dict(self.described) if changed else None


class MemoryWishes:
    """``Wishes`` without a disk; ``full`` makes it refuse."""

    def __init__(self) -> None:
        self.kept: dict[str, Wish] = {}
        self.full = False

    def of(self, name: str) -> Wish:
        return self.kept.get(name, Wish())

    async def remember(self, changes: Mapping[str, Wish | None]) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        for name, wish in changes.items():
            self.kept.pop(name, None)
            if wish:
                self.kept[name] = wish


class MemoryProbe:
    """``Probe`` of a machine without sockets."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self.files: set[str] = set()

    async def accepts(self, port: int) -> bool:
        return port in self.ports

    def made_since(self, file: Path, at: float) -> bool:
        return str(file) in self.files


class Machine:
    """One machine, and the agents that come and go on it."""

    def __init__(self) -> None:
        self.driver = MemoryDriver()
        self.files = MemoryFiles()
        self.disk: PackageFiles | None = None
        """Real files, in place of those in memory."""
        self.wishes = MemoryWishes()
        self.probe = MemoryProbe()
        self.said: list[PackageChanged] = []
        self.facts: list[LiveFact | DurableFact] = []
        """All that was said."""
        self.slow_voice = 0.0
        self.packages: Packages

    async def say(self, *facts: LiveFact | DurableFact) -> None:
        await asyncio.sleep(self.slow_voice)
        self.facts += facts
        self.said += [fact for fact in facts if isinstance(fact, PackageChanged)]

    @asynccontextmanager
    async def agent(self) -> AsyncGenerator[Packages]:
        """An agent that looks after the packages until the end of the block; they run on."""
        async with self.manager() as packages:
            yield packages

    def manager(self) -> Packages:
        """An agent that does not look after them yet."""
        self.files.forget_looks()
        speaker = Speaker("m1", EPOCH, "1")
        self.packages = Packages(
            lambda _: self.driver,
            self.disk or self.files,
            self.wishes,
            self.probe,
            speaker,
            self,
            LoopClock(),
        )
        return self.packages

    def state(self, name: str) -> PackageState:
        return self.packages.state(name)[0]

    def changes(self, name: str) -> list[str]:
        """The states a package was said to come into."""
        return [str(fact.now) for fact in self.said if fact.package == name]


async def settle(seconds: float = 1.0) -> None:
    """Let the loop's time pass."""
    await asyncio.sleep(seconds)
