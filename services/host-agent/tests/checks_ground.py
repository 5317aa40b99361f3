"""A machine with packages and health checks in memory, for tests under fake time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, TypeVar

from packages_ground import EPOCH, Machine

from host_agent.checking import Checking, Limits
from host_agent.domain.attention import Sight
from host_agent.domain.look import Seen, ok
from host_agent.domain.speaker import Speaker
from host_agent.ports import Look
from muster_contracts.health.v1 import CheckChanged, ChecksRan, CheckState
from muster_contracts.message import DurableFact, LiveFact
from muster_contracts.package.specification import Check
from muster_testing.loop_time import LoopClock

F = TypeVar("F", bound=LiveFact | DurableFact)


def tcp(name: str = "port", **keys: Any) -> dict[str, Any]:
    """A check that looks every ten seconds and believes each look, unless said otherwise."""
    return {"name": name, "check": {"kind": "tcp", "port": 1}, "every_seconds": 10.0, "failures": 1} | keys


def script(name: str = "script", **keys: Any) -> dict[str, Any]:
    """The same by a script."""
    return tcp(name, check={"kind": "script", "command": ["true"]}, **keys)


class FakeLook:
    """Sees what its machine says."""

    def __init__(self, machine: "CheckedMachine", key: str) -> None:
        self._machine, self._key = machine, key

    async def look(self) -> Seen:
        machine = self._machine
        machine.looks.append((self._key, asyncio.get_running_loop().time()))
        if trouble := machine.broken.get(self._key):
            raise trouble
        try:
            await asyncio.sleep(machine.takes.get(self._key, 0.01))
        except asyncio.CancelledError:
            machine.cancelled.append(self._key)
            await asyncio.sleep(machine.ends_slowly.get(self._key, 0.0))
            raise
        return machine.sees.get(self._key, ok("fine"))


class CheckedMachine(Machine):
    """A machine whose checks see what a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.sees: dict[str, Seen] = {}
        self.takes: dict[str, float] = {}
        """How long looks take."""
        self.ends_slowly: dict[str, float] = {}
        """How long a look takes to end once it is cancelled."""
        self.broken: dict[str, Exception] = {}
        self.looks: list[tuple[str, float]] = []
        """Which check looked when, by the loop's time."""
        self.made: list[str] = []
        self.cancelled: list[str] = []
        self.limits = Limits()
        self.checking: Checking

    @asynccontextmanager
    async def checks(self) -> AsyncGenerator[Checking]:
        """An agent that looks after packages and checks until the end of the block."""
        manager = self.manager()
        speaker = Speaker("m1", EPOCH, "1")
        self.checking = Checking(
            manager.sight, self._make, speaker, self, manager.news, LoopClock(), self.limits
        )
        manager.watch(self.checking.package_changed)
        async with manager, self.checking:
            yield self.checking

    def _make(self, check: Check, sight: Sight) -> Look:
        key = f"{sight.loaded.name}/{check.name}"
        self.made.append(key)
        return FakeLook(self, key)

    def heard(self, kind: type[F]) -> list[F]:
        """All facts of a kind that were said."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def holds(self, package: str, check: str = "port") -> list[str]:
        """What a check was said to hold, one after the other."""
        changes = [
            each for each in self.heard(CheckChanged) if (each.package, each.check) == (package, check)
        ]
        for before, after in pairwise(changes):
            assert before.now == after.was
        return [each.now.value if each.now else "gone" for each in changes]

    def check(self, package: str, check: str = "port") -> CheckState:
        """One check as its agent has it."""
        return next(each for each in self.checking.page(package, None)[0] if each.check == check)

    def samples(self) -> int:
        """How many looks were said."""
        return sum(len(each.results) for each in self.heard(ChecksRan))

    def times(self, package: str, check: str = "port") -> list[float]:
        """When a check looked."""
        return [at for key, at in self.looks if key == f"{package}/{check}"]
