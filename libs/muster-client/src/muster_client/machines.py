"""Packages, as the machines' own agents tell of them: each is asked directly, many at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from muster_bus.errors import AskFailed, NoAnswer
from muster_client.asking import Asking, now
from muster_client.roll import Roll
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import AgentRow, Presence
from muster_contracts.package.v1 import (
    Configuration,
    GetConfiguration,
    GetPackage,
    ListPackages,
    LogLines,
    Package,
    PackageDetail,
    ReadLog,
)

ASKED_AT_ONCE = 100
ANSWER_SECONDS = 2.0
"""A list does not wait longer for a machine than this."""
LOG_LOOK_SECONDS = 0.5
"""Whoever follows a log looks this often."""
LINES_OF_A_LOOK = 1000

THERE = {Presence.ONLINE, Presence.LATE}
"""Who is in one of these can be asked."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The packages of the machines that answered, and why the others did not."""

    packages: dict[str, list[Package]] = field(default_factory=dict)
    """By agent."""
    silent: dict[str, str] = field(default_factory=dict)
    """Agent → why it is not among them, for people."""

    def __iter__(self) -> Iterator[tuple[str, Package]]:
        """Every package with its agent, by agent and name."""
        for agent, packages in sorted(self.packages.items()):
            for package in packages:
                yield agent, package

    def agents_with(self, package: str) -> list[str]:
        """Who has a package of this name."""
        return [agent for agent, one in self if one.name == package]

    @property
    def names(self) -> list[str]:
        """The names of all packages, each once."""
        return sorted({package.name for _, package in self})


class Machines(Roll):
    """Questions about packages."""

    async def packages(self, selector: str = "", *, within: float | None = None) -> Inventory:
        """The packages of every host that matches; who does not answer ``within`` (2) seconds is named.

        A host that answers with a refusal, for its policy or because it has no packages, is named as well.
        """
        hosts = [row async for row in self.agents(selector) if row.kind is AgentKind.HOST]
        room, found = asyncio.Semaphore(ASKED_AT_ONCE), Inventory()

        async def ask(row: AgentRow) -> None:
            async with room:
                try:
                    found.packages[row.id] = await packages_of(self, row.id, within)
                except (NoAnswer, AskFailed) as error:
                    found.silent[row.id] = _why(error)

        found.silent.update(
            {row.id: f"it is {row.state} ({row.reason})" for row in hosts if row.state not in THERE}
        )
        await asyncio.gather(*(ask(row) for row in hosts if row.state in THERE))
        return found

    async def package(self, agent: str, package: str) -> PackageDetail:
        """All a machine knows of one package."""
        return await self.ask(GetPackage(occurred_at=now(), agent_id=agent, package=package))

    async def configuration(
        self, agent: str, package: str, file: str, *, previous: bool = False
    ) -> Configuration:
        """What is in a configuration file; values under keys that name secrets are hidden."""
        wanted = GetConfiguration(
            occurred_at=now(), agent_id=agent, package=package, file=file, previous=previous
        )
        return await self.ask(wanted)

    async def package_log(
        self, agent: str, package: str, *, lines: int = 100, follow: bool = False
    ) -> AsyncIterator[str]:
        """The last lines a package printed, oldest first; with ``follow`` also those that come.

        A follower waits for an agent that is away and goes on where it was.
        """
        told = await self.ask(ReadLog(occurred_at=now(), agent_id=agent, package=package, lines=lines))
        while True:
            for line in told.lines:
                yield line
            if not follow:
                return
            told = await self._more_log(told)

    async def _more_log(self, told: LogLines) -> LogLines:
        """What was printed since; empty after a while in which there was nothing."""
        if not told.lines:
            await asyncio.sleep(LOG_LOOK_SECONDS)
        wanted = ReadLog(
            occurred_at=now(), agent_id=told.agent_id, package=told.package,
            lines=LINES_OF_A_LOOK, from_offset=told.end_offset,
        )  # fmt: skip
        try:
            return await self.ask(wanted)
        except NoAnswer:
            return told.model_copy(update={"lines": []})


async def packages_of(fleet: Asking, agent: str, within: float | None = None) -> list[Package]:
    """The packages of one machine, page by page.

    Raises:
        NoAnswer: it does not answer ``within`` seconds.
        AskFailed: it would not.
    """
    packages: list[Package] = []
    after: str | None = None
    while True:
        page = await fleet.bus.ask(
            ListPackages(occurred_at=now(), agent_id=agent, after=after), timeout=within or ANSWER_SECONDS
        )
        packages += page.packages
        if (after := page.next) is None:
            return packages


def _why(error: NoAnswer | AskFailed) -> str:
    return error.problem.text if isinstance(error, AskFailed) else "it does not answer"
