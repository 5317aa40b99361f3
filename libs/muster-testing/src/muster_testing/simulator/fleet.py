"""The fleet as one object: build it from a roster, connect it, pick agents out of it, close it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

from muster_contracts.agent.v1 import AdoptInterval, Introduce
from muster_testing.simulator.agent import Condition, Habits, SimulatedAgent
from muster_testing.simulator.connection import Connection, Network, Pace
from muster_testing.simulator.limits import CannotSimulate, ensure_files, loopback
from muster_testing.simulator.obeying import Effect
from muster_testing.simulator.roster import Roster
from muster_testing.simulator.stats import Stats

_MOST_AGENTS = 100_000


@dataclass(frozen=True)
class Settings:
    """How a fleet behaves."""

    interval: float = 15.0
    """Seconds between the heartbeats of an agent until it is granted another interval."""
    connections: Literal["each"] | int = "each"
    connect_rate: float = 400.0
    """Connections begun per second, first ones and reconnects together."""
    says_hello: bool = True
    effect: Effect | None = None
    """What obeying a command does; without it agents are not to be ordered about. Needs own connections."""
    remembers: bool = True
    """Whether agents know which commands they have obeyed; without, repeats have an effect again."""
    sites: int = 1
    """The label ``site`` takes the values ``site-0`` to ``site-<sites - 1>`` in turn."""


class Fleet:
    """The agents of ``roster`` against the broker at ``url``; everything stops when the block ends.

    Raises:
        CannotSimulate: the broker is not on this machine, or the process may not open enough files.
    """

    def __init__(self, roster: Roster, url: str, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.stats = Stats()
        host, port = loopback(url)
        self._check(len(roster))
        self._network = Network(host, port, Pace(self.settings.connect_rate), self.stats)
        self._carriers = self._make_carriers(roster)
        self._agents = {agent.agent_id: agent for agent in self._make_agents(roster)}

    def _check(self, agents: int) -> None:
        if not 1 <= agents <= _MOST_AGENTS:
            raise CannotSimulate(f"cannot simulate {agents} agents: from 1 to {_MOST_AGENTS}")
        if self.settings.interval <= 0 or self.settings.connect_rate <= 0:
            raise CannotSimulate("cannot simulate a fleet without a positive interval and connect rate")
        ensure_files(agents if self.settings.connections == "each" else self.settings.connections)

    def _make_carriers(self, roster: Roster) -> list[Connection]:
        if self.settings.connections == "each":
            return []
        orders = ("_INBOX.*.>", AdoptInterval.SUBJECT.pattern, Introduce.SUBJECT.pattern)
        carriers = []
        for number in range(self.settings.connections):
            # Every carrier hears the orders of all agents; one is enough to pass them on.
            hears = orders if number == 0 else ()
            carriers.append(Connection(self._network, roster.carrier, hears, self._carrier_up, self._hear))
        return carriers

    def _make_agents(self, roster: Roster) -> Iterator[SimulatedAgent]:
        for number, member in enumerate(roster):
            habits = Habits(
                interval=self.settings.interval,
                phase=number / len(roster),
                labels=(("site", f"site-{number % self.settings.sites}"), ("simulated", "true")),
                says_hello=self.settings.says_hello,
                effect=self.settings.effect,
                remembers=self.settings.remembers,
            )
            shared = self._carriers[number % len(self._carriers)] if self._carriers else None
            yield SimulatedAgent(self._network, member, habits, shared)

    # What callers do with it --------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Bring every agent up; returns when all are."""
        await asyncio.gather(*(carrier.open() for carrier in self._carriers))
        await asyncio.gather(*(agent.start() for agent in self._agents.values()))

    async def close(self) -> None:
        """End every agent as if its machine lost power, and every task of the fleet."""
        for task in list(self._network.tasks):
            task.cancel()
        for agent in self._agents.values():
            if agent.condition in {Condition.UP, Condition.MUTE}:
                agent.kill()
        for carrier in self._carriers:
            carrier.abort()
        await asyncio.gather(*self._network.tasks, return_exceptions=True)

    def __getitem__(self, agent_id: str) -> SimulatedAgent:
        return self._agents[agent_id]

    def __iter__(self) -> Iterator[SimulatedAgent]:
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)

    def count(self, condition: Condition) -> int:
        """How many agents are in this condition."""
        return sum(agent.condition is condition for agent in self._agents.values())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # What shared connections do to it ---------------------------------------------------------------------

    def _carrier_up(self) -> None:
        """Agents beat by their own clocks; a carrier that is back needs no word from them."""

    def _hear(self, subject: str, payload: bytes) -> None:
        """Pass a message on to the agent its subject names: second token of an inbox, else the fourth."""
        tokens = subject.split(".")
        name = tokens[1] if tokens[0] == "_INBOX" else tokens[3]
        if agent := self._agents.get(name):
            agent.hear(subject, payload)
