"""How far apart an agent's heartbeats are: the fleet's total stays within a budget as it grows."""

import math
from dataclasses import dataclass

from fleet_registry.domain.sessions import LATE_AFTER, LOST_AFTER

SHORTEST_SECONDS = 0.2
"""No interval below this is granted or believed."""


@dataclass(frozen=True, slots=True)
class GrantPolicy:
    """What the registry can bear, and what it grants a small fleet."""

    base_seconds: float = 5.0
    """Granted while the budget allows it."""
    budget_per_second: float = 4000.0
    """Heartbeats per second from all agents together."""
    longest_seconds: float = 300.0
    """No stated interval beyond this is believed, unless a longer one was granted."""

    @property
    def step_seconds(self) -> float:
        """Grants are multiples of this, so that a fleet that grows by one is not told a new interval."""
        return self.base_seconds / 5


def grant(now_granted: float, live: int, policy: GrantPolicy) -> float:
    """The interval to grant ``live`` agents, given the one granted now.

    It grows as soon as the budget asks for it and shrinks only to what a tenth more agents would
    need, so that agents that come and go at an edge do not move it to and fro.
    """
    needed = _within_budget(live, policy)
    roomy = _within_budget(math.ceil(live * 1.1), policy)
    return needed if needed > now_granted else min(now_granted, roomy)


def _within_budget(live: int, policy: GrantPolicy) -> float:
    steps = math.ceil(live / policy.budget_per_second / policy.step_seconds)
    return max(policy.base_seconds, round(steps * policy.step_seconds, 6))


def judged_by(stated: float, granted: float, policy: GrantPolicy) -> float:
    """The interval whose multiples make an agent late and lost.

    Never shorter than what it promised nor than what it was granted; an absurd promise is cut.
    """
    believed = min(max(stated, SHORTEST_SECONDS), max(policy.longest_seconds, granted))
    return max(believed, granted)


def late_after(interval_seconds: float) -> float:
    """Seconds of silence after which an agent is late."""
    return LATE_AFTER * interval_seconds


def deadline(interval_seconds: float) -> float:
    """Seconds of silence after which an agent is lost."""
    return LOST_AFTER * interval_seconds
