"""What is shown of a package: how it is, and what it uses."""

import asyncio

from host_agent.domain.package import Loaded, Usage
from host_agent.keeping import Keeper
from host_agent.ports import CannotRun
from muster_contracts.package import v1
from muster_runtime import Clock

USAGE_SECONDS = 2.0
"""How long a driver may take to tell what a package uses; then that is not known."""


class Showing:
    """Makes packages into what lists show; remembers CPU times, for a load is the difference of two."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cpu: dict[str, tuple[str, float, float]] = {}

    def forget(self, name: str) -> None:
        """There is no such package any more."""
        self._cpu.pop(name, None)

    async def usage(self, keeper: Keeper) -> Usage:
        """What it uses now; nothing is known of what does not run, or cannot be told."""
        package, run = keeper.active, keeper.run
        if run is None or package is None:
            return Usage()
        try:
            async with asyncio.timeout(USAGE_SECONDS):
                return await keeper.driver().usage(package, run)
        except (CannotRun, TimeoutError, OSError):
            return Usage()

    def package(self, keeper: Keeper, usage: Usage) -> v1.Package:
        """As lists show it."""
        active = keeper.active
        file = keeper.described.file if keeper.described else active and active.file
        return v1.Package(
            name=keeper.name, version=version(keeper), driver=active.spec.driver if active else None,
            state=keeper.state, since=keeper.since, wanted=keeper.wanted,
            pid=keeper.run.pid if keeper.run else None, uptime_seconds=keeper.uptime_seconds,
            restarts=keeper.restarts, processes=len(usage.pids), memory_bytes=usage.memory_bytes,
            cpu_percent=self._cpu_percent(keeper, usage),
            depends_on=list(active.spec.depends_on) if active else [],
            problem=keeper.problem[:2000] if keeper.problem else None,
            exit_code=keeper.exit_code, file=str(file) if file else None,
        )  # fmt: skip

    def _cpu_percent(self, keeper: Keeper, usage: Usage) -> float | None:
        """Of one CPU since the look before; none at the first look at a run."""
        if usage.cpu_seconds is None or keeper.run is None:
            return None
        now, run = self._clock.monotonic(), keeper.run.id
        before = self._cpu.get(keeper.name)
        self._cpu[keeper.name] = (run, now, usage.cpu_seconds)
        if before is None or before[0] != run or now - before[1] < 0.01:
            return None
        return round(max(0.0, usage.cpu_seconds - before[2]) / (now - before[1]) * 100, 1)


def version(keeper: Keeper) -> str:
    """Of what runs, or would; empty if it cannot be read."""
    return keeper.active.spec.version if keeper.active else ""


def command(package: Loaded | None) -> list[str]:
    """What is run, or the unit or image."""
    if package is None:
        return []
    spec = package.spec
    return spec.command or [each for each in (spec.unit or spec.image,) if each]
