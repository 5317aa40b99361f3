"""Broken connections that are not judged yet: a moment's grace in which another one may take their place.

A connection that comes back says nothing about who is behind it: the same run reconnecting, or the
next one. So a hold then waits until the agent has spoken.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

HOLD_SECONDS = 0.8
"""From the end of a connection to its verdict; well below the 3 s in which a killed agent is to be named."""
RECONNECTED_SECONDS = 5.0
"""A new connection whose agent says nothing for this long is left to its silence."""


@dataclass(slots=True)
class _Hold:
    dropped_at: datetime
    until: float
    reconnected: bool = False


class Holds:
    """The agents without a connection, each with the moment its last one ended."""

    def __init__(self, hold_seconds: float = HOLD_SECONDS) -> None:
        self._hold_seconds = hold_seconds
        self._held: dict[str, _Hold] = {}

    def __len__(self) -> int:
        return len(self._held)

    def dropped(self, agent_id: str, at: datetime, now: float) -> None:
        """The agent's last connection ended."""
        self._held[agent_id] = _Hold(at, now + self._hold_seconds)

    def connected(self, agent_id: str, now: float) -> None:
        """Another connection took its place."""
        if hold := self._held.get(agent_id):
            hold.reconnected, hold.until = True, now + RECONNECTED_SECONDS

    def spoke(self, agent_ids: Iterable[str]) -> None:
        """Agents whose known run spoke: through a new connection, if there is one."""
        for agent_id in agent_ids:
            hold = self._held.get(agent_id)
            # Before that, it is what was still on its way when the connection ended.
            if hold and hold.reconnected:
                del self._held[agent_id]

    def dropped_at(self, agent_id: str) -> datetime | None:
        """When the agent's last connection ended, while that is not judged."""
        hold = self._held.get(agent_id)
        return hold.dropped_at if hold else None

    def judged(self, agent_id: str) -> None:
        """What became of the agent is known."""
        self._held.pop(agent_id, None)

    def due(self, now: float) -> dict[str, datetime]:
        """The agents to be judged now; they stay held until they are. Silent new connections are let go."""
        ripe = [(agent_id, hold) for agent_id, hold in self._held.items() if hold.until <= now]
        for agent_id, hold in ripe:
            if hold.reconnected:
                del self._held[agent_id]
        return {agent_id: hold.dropped_at for agent_id, hold in ripe if not hold.reconnected}

    def postpone(self, now: float) -> None:
        """Nothing could be heard until now: what takes the place of a connection may be on its way."""
        for hold in self._held.values():
            hold.until = max(hold.until, now + self._hold_seconds)

    def clear(self) -> None:
        """The broker itself was away: its connections ended with it and say nothing about the agents."""
        self._held.clear()
