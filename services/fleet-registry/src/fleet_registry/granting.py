"""The interval granted now, and whom to tell of it."""

from collections.abc import Callable, Iterable
from datetime import datetime

from fleet_registry.domain.grants import GrantPolicy, deadline, grant, judged_by
from muster_contracts.agent.v1 import AdoptInterval

TELL_AGAIN_SECONDS = 10.0
"""An agent that still lives by another interval is told again after this long."""


class Grants:
    """One interval for the whole fleet; follows its size."""

    def __init__(self, policy: GrantPolicy) -> None:
        self.interval_seconds = policy.base_seconds
        self._policy = policy
        self._told: dict[str, float] = {}

    @property
    def deadline_seconds(self) -> float:
        """Silence longer than this makes an agent lost that lives by the granted interval."""
        return deadline(self.interval_seconds)

    def review(self, live: int) -> None:
        """Grant what a fleet of ``live`` agents can have."""
        granted = grant(self.interval_seconds, live, self._policy)
        if granted != self.interval_seconds:
            self.interval_seconds = granted
            self._told.clear()

    def judged_by(self, stated_seconds: float) -> float:
        """The interval an agent is judged by that states to live by ``stated_seconds``."""
        return judged_by(stated_seconds, self.interval_seconds, self._policy)

    def order(self, at: datetime) -> Callable[[str], AdoptInterval]:
        """Orders to live by the granted interval, by agent."""
        granted, silence = self.interval_seconds, self.deadline_seconds
        return lambda agent_id: AdoptInterval(
            occurred_at=at, agent_id=agent_id, interval_seconds=granted, deadline_seconds=silence
        )

    def to_tell(self, stated: Iterable[tuple[str, float]], now: float) -> list[str]:
        """Of the agents, each with the interval it states, those to be told of another one now."""
        found = []
        for agent_id, seconds in stated:
            if abs(seconds - self.interval_seconds) < 1e-6:
                self._told.pop(agent_id, None)
            elif now - self._told.get(agent_id, float("-inf")) >= TELL_AGAIN_SECONDS:
                self._told[agent_id] = now
                found.append(agent_id)
        return found
