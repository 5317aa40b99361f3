"""The fleet in numbers, kept right as agents change instead of being counted each time."""

from dataclasses import dataclass, field

from fleet_registry.domain.agent import Agent
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Presence


@dataclass(slots=True)
class Counts:
    """The fleet in numbers. Who is retired is no part of the fleet; it is counted only as retired."""

    by_state: dict[Presence, int] = field(default_factory=lambda: dict.fromkeys(Presence, 0))
    by_kind: dict[AgentKind, int] = field(default_factory=dict)
    flapping: int = 0
    partitions: list[str] = field(default_factory=list)

    def add(self, state: Presence, kind: AgentKind, number: int) -> None:
        """Count ``number`` more agents of one state and kind."""
        self.by_state[state] += number
        if state is not Presence.RETIRED:
            self.by_kind[kind] = self.by_kind.get(kind, 0) + number

    def move(self, was: Agent | None, now: Agent) -> None:
        """Count one agent as what it is now instead of what it was."""
        if was is not None:
            self.add(was.presence, was.kind, -1)
            self.flapping -= was.flapping
        self.add(now.presence, now.kind, 1)
        self.flapping += now.flapping
